"""The claim that a job imports no heavy library that its work can do without, and torch's compiler never."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
NETWORKS = {"train", "build_bank", "embed_patches", "predict_spots", "embed_joint"}
FIGURES = {"boxplot", "ceiling", "curves", "neighbours", "overview", "protocols"} | {
    f"draw_{what}" for what in ("cohort_umap", "costs", "genes", "slide", "structure")
}
ANNOTATED = {"assemble_fold", "assemble_structure", "audit", "derive_space", "find_domains", "find_variable_genes"} | {
    "draw_slide", "fingerprint_sample", "generate_sample", "noise_ceiling", "predict_controls", "predict_frozen",
    "predict_spots", "prepare_expression", "retrieve", "sweep_neighbours",
}  # fmt: skip
LATER = ("scanpy", "sklearn", "umap", "numba", "statsmodels", "scipy.stats", "scipy.optimize", "matplotlib.pyplot")
COMPILER = ("torch._dynamo.config", "torch._dynamo.eval_frame", "torch._inductor", "sympy")
# Which jobs may import what when they start; what only a part of a job's work needs is imported there
ALLOWED = {
    "torch": NETWORKS,
    "timm": {"build_bank", "embed_patches", "embed_joint"},  # elsewhere with the method that is built of it
    "matplotlib": FIGURES | {"structure_page"},
    "anndata": ANNOTATED,
    "scipy.spatial": {"draw_slide"},
} | {name: set() for name in (*LATER, *COMPILER)}
WITHOUT_PANDAS = {"extract_patches", "fit_frozen", "harmonise_fold", "provenance"} | NETWORKS - {"predict_spots"}
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py"))


def printed_by(code):
    """What ``code`` prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def imported_by(code):
    """Names in ``sys.modules`` after ``code``."""
    return set(printed_by(f"import sys\n{code}\nprint(*sys.modules)").split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_starts_without_what_its_work_does_not_need(script):
    tree = ast.parse((REPOSITORY / f"workflow_scripts/{script}.py").read_text(encoding="utf-8"))
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    modules = imported_by(imports)
    assert not [name for name, scripts in ALLOWED.items() if name in modules and script not in scripts]
    assert not (script in WITHOUT_PANDAS and "pandas" in modules)


def test_the_jobs_named_here_are_there():
    assert set().union(WITHOUT_PANDAS, *ALLOWED.values()) <= set(SCRIPTS)


def test_the_configuration_is_checked_without_torch_or_scanpy():
    modules = imported_by("import spotwise.config, spotwise.data.hest, spotwise.runtime.code_version")
    assert not {"torch", "scanpy", "anndata", "pandas"} & modules


# --- torch without its compiler ---------------------------------------------------------------------------------------

TRAINED = """
import torch
from spotwise.runtime import devices
from spotwise.models import cmrcnet, encoders
devices.make_deterministic(1)
layer = torch.nn.Linear(2, 2)
optimiser = torch.optim.AdamW(layer.parameters())
optimiser.load_state_dict(optimiser.state_dict())
layer(torch.ones(1, 2)).sum().backward()
optimiser.step()
optimiser.zero_grad()
"""


def test_a_training_step_imports_no_compiler():
    assert not set(COMPILER) & imported_by(TRAINED)


def test_jobs_are_as_deterministic_as_torch_can_be():
    asked = "print(torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled())"
    assert printed_by(TRAINED + asked).split() == ["True", "False"]


@pytest.mark.parametrize(
    "first",
    [
        "",
        "from torch._dynamo.convert_frame import replay; assert torch._dynamo.replay is replay",  # not run twice
        "from torch._dynamo.utils import counters",
        "import torch._inductor",
        "assert sys.modules['torchvision.ops.roi_align'].is_compile_supported('cpu') is not None",
    ],
)
def test_the_compiler_is_there_for_whoever_compiles(first):
    compiled = 'print(torch.compile(lambda x: 2 * x + 1, backend="eager")(torch.ones(1)).item())'
    loaded = "print(sys.modules['torch._dynamo'].__file__, sys.modules['torch._dynamo.utils'].__file__)"
    value, *files = printed_by(f"import sys\n{TRAINED}\n{first}\n{compiled}\n{loaded}").split()
    assert float(value) == 3
    assert [Path(file).name for file in files] == ["__init__.py", "utils.py"]
