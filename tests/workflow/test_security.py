"""Claims about malicious input: none of it is executed, leaves the results folder or becomes HTML."""

import ast
import os
import pickle
import re
from pathlib import Path

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure

from spotwise.config.reading import StrictLoader, read_config
from spotwise.config.settings import Config
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts
from spotwise.data.patch_files import read_patches_index
from spotwise.data.sample_sheet import read_samples
from spotwise.errors import InputError, one_line
from spotwise.reporting.figures import style
from spotwise.runtime.validation import validated

ROOT = Path(__file__).parents[2]
SOURCES = sorted([*(ROOT / "src").rglob("*.py"), *(ROOT / "workflow_scripts").glob("*.py")])
RULES = [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]

# --- the source: nothing that runs data -------------------------------------------------------------------------------

UNPICKLING = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "jsonpickle"}
RUNNING = {"eval", "exec", "compile", "__import__", "execfile"}
SHELLS = re.compile(r"(os|posix)\.(system|popen|exec\w+|spawn\w+)|commands\.\w+|pty\.spawn")
UNSAFE_CALLS = {"yaml.unsafe_load", "yaml.full_load", "yaml.unsafe_load_all", "yaml.full_load_all", "yaml.load_all"}
UNSAFE_CALLS |= {"pd.read_pickle", "pandas.read_pickle", "np.loads", "numpy.loads"}
OUR_LOADERS = {"StrictLoader": StrictLoader}


def harmful(source):
    """List the lines of a program that could execute what it reads, with the reason."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            if {module.partition(".")[0] for module in modules} & UNPICKLING:
                yield node.lineno, "imports an unpickler"
        if isinstance(node, ast.Call):
            yield from ((node.lineno, reason) for reason in _harm_of_call(node))


def _harm_of_call(node):
    called = ast.unparse(node.func)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    constant = {key: value.value for key, value in given.items() if isinstance(value, ast.Constant)}
    if called in RUNNING:
        yield f"{called}()"
    if SHELLS.fullmatch(called):
        yield "a shell"
    if "shell" in given and constant.get("shell") is not False:
        yield "a shell"
    if called in ("torch.load", "load_state_dict") and constant.get("weights_only") is not True:
        yield f"{called} without weights_only=True"
    if "allow_pickle" in given and constant.get("allow_pickle") is not False:
        yield "allow_pickle"
    if called in UNSAFE_CALLS or called.endswith(".read_pickle"):
        yield called
    if called == "yaml.load":
        loader = given.get("Loader") or (node.args[1] if len(node.args) > 1 else None)
        if not issubclass(OUR_LOADERS.get(getattr(loader, "id", None), object), yaml.SafeLoader):
            yield "yaml.load with a loader that builds objects"
    if called.startswith("subprocess.") and node.args and isinstance(node.args[0], ast.Constant | ast.JoinedStr):
        yield "a command in one text"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_module_or_script_runs_what_it_reads(path):
    assert list(harmful(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "planted",
    [
        "import pickle",
        "from joblib import load",
        "import dill.source",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "torch.load(path, weights_only=safe)",
        "load_state_dict(str(path))",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=anything)",
        "pd.read_pickle(path)",
        "yaml.load(text)",
        "yaml.load(text, yaml.FullLoader)",
        "yaml.load(text, Loader=yaml.UnsafeLoader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "exec(text)",
        "os.system(f'rm {name}')",
        "os.popen(name)",
        "os.execvp(name, [])",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "subprocess.run(f'git -C {root}')",
        "__import__(name)",
    ],
)
def test_the_search_finds_what_it_is_for(planted):
    assert len(list(harmful(planted))) == 1


def test_the_search_lets_the_safe_ways_pass():
    safe = "torch.load(p, weights_only=True); np.load(p, allow_pickle=False); yaml.safe_load(t); model.eval()\n"
    assert list(harmful(safe + "yaml.load(t, StrictLoader); subprocess.run(['git', name], shell=False)")) == []


@pytest.mark.parametrize("path", RULES, ids=lambda path: path.name)
def test_no_rule_builds_a_command_or_runs_code_of_its_own(path):
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"^\s*(shell|run|cwl|notebook|wrapper)\s*:", text, flags=re.MULTILINE)
    assert not re.search(r"\b(shell\(|os\.system|subprocess|eval\(|exec\(|pickle|yaml\.)", text)


# --- files that carry code --------------------------------------------------------------------------------------------


class Bait:
    """An object that makes a folder when it is unpickled."""

    def __init__(self, trap):
        self.trap = trap

    def __reduce__(self):
        return os.mkdir, (str(self.trap),)


@pytest.fixture
def trap(tmp_path):
    """Check that unpickling makes the folder, and that nothing in the test does."""
    path = tmp_path / "sprung"
    pickle.loads(pickle.dumps(Bait(path)))
    assert path.is_dir()
    path.rmdir()
    yield path
    assert not path.exists()


def error_of(call, *arguments):
    with pytest.raises(InputError) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


def one_gene(**parts):
    index = pd.Index(["x", "y"], dtype=object)
    spatial = {"spatial": np.array([[1.0, 2.0], [3.0, 4.0]])}
    return anndata.AnnData(np.ones((2, 1)), pd.DataFrame(index=index), pd.DataFrame(index=["A"]), obsm=spatial, **parts)


@pytest.mark.parametrize("name", ["S1.h5ad", "S1.h5"])
def test_a_pickle_in_place_of_data_is_refused_unopened(tmp_path, trap, name):
    path = tmp_path / name
    path.write_bytes(pickle.dumps({"img": Bait(trap)}))
    reader = read_counts if name.endswith("h5ad") else read_patches_index
    assert error_of(reader, path).startswith(f"{path}: file: found ")


def test_pickles_inside_counts_stay_bytes(tmp_path, trap):
    path = tmp_path / "S1.h5ad"
    one_gene().write_h5ad(path)
    code = np.void(pickle.dumps(Bait(trap)))
    array = tmp_path / "array.npy"
    np.save(array, np.array([Bait(trap)], dtype=object), allow_pickle=True)
    with h5py.File(path, "r+") as file:
        file["uns"].create_dataset("bait", data=code)
        file["uns"].create_dataset("numpy", data=np.frombuffer(array.read_bytes(), dtype=np.uint8))
        file["X"].attrs["bait"] = code
        file["obs"].attrs["pickled"] = code
    counts, _ = clean_counts(read_counts(path), "S1", (10, 10), 1, path)
    assert counts.n_obs == 2
    assert "bait" not in counts.uns  # nor is it passed on


@pytest.mark.parametrize("name", ["X", "obsm/spatial", "obs/_index", "var/_index"])
def test_pickles_in_place_of_counts_or_names_are_refused(tmp_path, trap, name):
    path = tmp_path / "S1.h5ad"
    one_gene().write_h5ad(path)
    with h5py.File(path, "r+") as file:
        attributes = dict(file[name].attrs)
        del file[name]
        file[name] = np.array([np.void(pickle.dumps(Bait(trap)))] * 2)
        file[name].attrs.update(attributes)
    assert error_of(lambda: clean_counts(read_counts(path), "S1", (10, 10), 1, path)).startswith(f"{path}: ")


def test_pickles_in_place_of_patches_are_refused(tmp_path, trap):
    path = tmp_path / "S1.h5"
    for name in ("img", "barcode"):
        with h5py.File(path, "w") as file:
            file["img"] = np.zeros((1, 8, 8, 3), np.uint8)
            file["barcode"] = np.array([b"a"])
            del file[name]
            file[name] = np.array([np.void(pickle.dumps(Bait(trap)))])
        assert error_of(read_patches_index, path).startswith(f"{path}: {name}: found ")


def test_a_checkpoint_with_code_is_refused(tmp_path, trap):
    torch = pytest.importorskip("torch")
    from spotwise.models.pretrained_weights import load_checkpoint

    for name, content in (("a.pth", {"weight": Bait(trap)}), ("b.pth", {"model": {"weight": Bait(trap)}})):
        torch.save(content, tmp_path / name)
        assert "checkpoint: found contents that cannot be read (" in error_of(
            load_checkpoint, torch.nn.Linear(1, 1), tmp_path / name, "linear"
        )
    for name in ("c.pth", "d.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Bait(trap)))
        assert "checkpoint: found contents that cannot be read (" in error_of(
            load_checkpoint, torch.nn.Linear(1, 1), tmp_path / name, "linear"
        )


def test_a_training_state_with_code_is_not_taken_up(tmp_path, trap):
    torch = pytest.importorskip("torch")
    from spotwise.training.checkpoints import LAST, State

    state = State(tmp_path / "state", "identity")
    state.folder.mkdir(parents=True)
    torch.save({"epoch": 3, "model": Bait(trap)}, state.folder / LAST)
    assert state.load() is None


def test_embeddings_and_weights_that_are_pickles_are_not_opened(tmp_path, trap):
    from spotwise.inference.retrieval import read_embeddings

    path = tmp_path / "bank.safetensors"
    path.write_bytes(pickle.dumps(Bait(trap)))
    assert "bank.safetensors: file: found a damaged file, expected embeddings" in error_of(read_embeddings, path)


@pytest.mark.parametrize("tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.mkdir", "module:os", "tuple"])
def test_no_tag_of_python_is_read_from_a_configuration(tmp_path, trap, tag):
    path = tmp_path / "config.yaml"
    path.write_text(f"run: !!python/{tag} [{str(trap)!r}]\n")
    assert "config.yaml: line 1: found could not determine a constructor for the tag" in error_of(read_config, path)


# --- names that become paths ------------------------------------------------------------------------------------------

HARM = ["../../x", "/etc/x", "a/b", "a\\b", "..", ".", "~", "$(touch x)", "`touch x`", "a;b", "a b", "a\nb", "a\n"]
HARM += ["a\0b", "a|b", "a&b", "a>b", "a<b", "*", "?", "{sample}", "{{x}}", "-rf", "'x'", '"x"', "%2e%2e", "ä"]
HARM += ["\u202ex", "", "#a"]


def sheet(tmp_path, **cells):
    row = {"sample": "S1", "cohort": "c", "patient": "p"} | cells
    path = tmp_path / "samples.tsv"
    path.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("name", HARM)
@pytest.mark.parametrize("column", ["sample", "cohort"])
def test_names_of_the_sheet_that_become_paths_cannot_leave_their_folder(tmp_path, column, name):
    try:
        found = getattr(read_samples(sheet(tmp_path, **{column: name}))[0], column)
    except InputError:
        return
    assert re.fullmatch(r"[A-Za-z0-9_-]+", found)  # as where a blank or a line end was around it


@pytest.mark.parametrize("name", HARM)
@pytest.mark.parametrize("place", ["run", "methods", "encoders"])
def test_names_of_the_configuration_that_become_paths_cannot_leave_their_folder(place, name):
    config = {"run": "r", "samples": "s", "data": {"source": "local", "root": "d"}, "cohorts": {"c": {}}}
    config |= {"methods": {"m": {}}, "encoders": {}}
    config |= {place: name if place == "run" else {name: {"timm": "resnet18"} if place == "encoders" else {}}}
    assert f": {place}: found " in error_of(validated, Config, config, "config.yaml")


def test_random_names_are_refused_or_stay_where_they_belong():
    rng = np.random.default_rng(0)
    signs = np.array([*"./\\~$`;|&<>{}*?\"' \n\t\r\0-_aZ9", "\u00e4", "\u2028", "\u202e"])
    accepted = 0
    for length in rng.integers(1, 3, 600):
        name = "".join(rng.choice(signs, length))
        config = {"run": name, "samples": "s", "data": {"source": "local", "root": "d"}, "cohorts": {"c": {}}}
        try:
            validated(Config, config | {"methods": {"m": {}}}, "config.yaml")
        except InputError:
            continue
        accepted += 1
        path = Path("results", name)
        assert os.path.normpath(path) == f"results{os.sep}{name}"
        assert re.fullmatch(r"[A-Za-z0-9._-]+", name)
    assert accepted > 10


def test_names_in_messages_can_neither_break_the_line_nor_steer_the_terminal():
    assert one_line("a\nb\x1b[2J\r\u2028\u202ec ä") == r"a\nb\x1b[2J\r\u2028\u202ec ä"
    assert str(InputError("x", "y", "a\nb", "c")) == r"x: y: found a\nb, expected c"


@pytest.mark.parametrize("name", ["A\nB", "A\tB", "A\x1b[31m", "A\u202eB", "A\0"])
def test_genes_and_barcodes_hold_no_control_characters(name):
    for axis, field in (("var_names", "var index"), ("obs_names", "obs index")):
        adata = one_gene()
        setattr(adata, axis, [name] if axis == "var_names" else [name, "y"])
        assert f"st/S1.h5ad: {field}: found '" in error_of(clean_counts, adata, "S1", (10, 10), 1, "st/S1.h5ad")


# --- names that are shown ---------------------------------------------------------------------------------------------

MARKUP = ["<script>alert(1)</script>", "</script><script>x", "<img src=x onerror=y>", "a<b"]


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("column", ["patient", "technology", "note"])
def test_text_of_the_sheet_that_reports_show_holds_no_markup(tmp_path, column, text):
    """Snakemake writes parameters of jobs, patients among them, into a script of its report as they are."""
    assert f"{column}: found {text!r}" in error_of(read_samples, sheet(tmp_path, **{column: text}))


@pytest.mark.parametrize("name", [r"$\frac{$(touch x)", "$A$", "$$", "A$B", r"A\$B$"])
def test_a_gene_is_drawn_as_it_is_called(name):
    """Matplotlib would read what stands between dollar signs as mathematics, and stop where it is none."""
    with style.page():
        fig = Figure()
        title = fig.suptitle(style.plain(name))
        fig.canvas.draw()
        shown, is_math = title._preprocess_math(title.get_text())
    assert not is_math
    assert shown == name
