"""Claims about jobs and files: no half file, one line for a user's fault, a traceback for ours."""

import ast
import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path
from threading import Event

import pandas as pd
import pytest

from spotwise import errors
from spotwise.errors import InputError, SetupError, one_of
from spotwise.runtime.files import atomic, lacks_space, syncing, write_json, write_table, write_text

SOURCE = str(Path(errors.__file__).parents[1])
SCRIPTS = sorted(Path(__file__).parents[2].joinpath("workflow_scripts").glob("*.py"))


def run(program, folder):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env={"PYTHONPATH": SOURCE}, capture_output=True, text=True
    )


# --- files ------------------------------------------------------------------------------------------------------------


def test_an_exception_leaves_nothing_behind(tmp_path):
    def fail():
        with atomic(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_the_suffix_of_a_table_selects_its_separator(tmp_path, suffix, separator):
    table = pd.DataFrame({"gene": ["NA", 'a "b"'], "p": [1 / 3, float("nan")], "n": [1, 2]})
    path = tmp_path / f"table{suffix}"
    write_table(table, path, float_format="%.3g", na_rep="nan")
    rows = [["gene", "p", "n"], ["NA", "0.333", "1"], ['"a ""b"""', "nan", "2"]]
    assert path.read_bytes().decode() == "".join(separator.join(row) + "\n" for row in rows)
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_a_table_read_back_the_same(tmp_path):
    numbers = [1 / 3, 1e-300, 0.1 + 0.2]
    write_table(pd.DataFrame({"x": numbers}), tmp_path / "table.csv")
    assert [float(line) for line in (tmp_path / "table.csv").read_text().split()[1:]] == numbers


def test_a_reader_meets_the_old_file_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
        written = temporary.stat().st_ino
    assert path.read_text() == "new"
    assert path.stat().st_ino == written  # moved: a copy would grow under the reader's eyes
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_keeps_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "out.txt").write_text("old")
    program = """
import os
from spotwise.runtime.files import atomic
with atomic("out.txt") as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    assert run(program, tmp_path).returncode == 9
    assert (tmp_path / "out.txt").read_text() == "old"


def test_a_body_that_writes_nothing_is_no_success(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "out.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_hidden_beside_its_target_and_keeps_the_suffix(tmp_path):
    path = tmp_path / "deep" / "er" / "weights.h5ad"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent  # a move between file systems would not be atomic
        assert temporary.suffix == ".h5ad"
        assert temporary.name.startswith(".")
        assert str(os.getpid()) in temporary.name
        temporary.touch()
    assert path.exists()


def test_json_and_text_are_utf8_and_end_with_a_line(tmp_path):
    content = {"µm": [1, 2.5, None], "gene": "HLA-A"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert json.loads(text) == content
    assert "µm" in text
    assert text.endswith("}\n")
    write_text(tmp_path / "a.txt", "å\n")
    assert (tmp_path / "a.txt").read_bytes() == "å\n".encode()


def test_what_cannot_be_json_replaces_nothing(tmp_path):
    write_json(tmp_path / "a.json", {"k": 50})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"k": {1, 2}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": 50}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_killed_writers_of_this_machine_left_is_removed_and_nothing_else(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = socket.gethostname()
    left = [f".out.{host}.{gone.pid}.tmp.txt"]
    kept = [
        f".out.{host}.{os.getppid()}.tmp.txt",  # at work
        f".out.elsewhere.{gone.pid}.tmp.txt",  # of another machine, where it may be at work
        f".out.{host}.{gone.pid}.tmp.csv",
        f".outer.{host}.{gone.pid}.tmp.txt",
        ".out.txt",
    ]
    for name in left + kept:
        (tmp_path / name).touch()
    write_text(tmp_path / "out.txt", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out.txt"])


def test_content_and_name_are_on_the_disk_in_this_order(tmp_path, monkeypatch):
    """Or a machine that stops leaves an empty file under a name that promises a whole one."""
    done = []
    sync, replace = os.fsync, os.replace

    def noted_sync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def noted_replace(source, target):
        done.append("named")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_sync)
    monkeypatch.setattr(os, "replace", noted_replace)
    with atomic(tmp_path / "out.txt") as temporary:
        temporary.write_text("a")
    assert done == [str(temporary), "named", str(tmp_path)]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError("Driver write request failed (file write failed: errno = 28, error message = ...)"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError("errno = 280"), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_told_with_the_file_and_any_other_fault_as_it_is(tmp_path, error, full):
    told = re.escape(f"{tmp_path / 'out.h5'}: No space left on device") if full else re.escape(str(error))

    def write():
        with atomic(tmp_path / "out.h5") as temporary:
            temporary.touch()
            raise error

    with pytest.raises(SetupError if full else type(error), match=told):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_file_goes_to_the_disk_while_it_is_written(tmp_path, monkeypatch):
    synced, sync = Event(), os.fsync

    def told(file):
        sync(file)
        if os.fstat(file).st_size == 3:
            synced.set()

    monkeypatch.setattr(os, "fsync", told)
    with open(tmp_path / "file", "wb", buffering=0) as file, syncing(tmp_path / "file"):
        file.write(b"two")
        assert synced.wait(60)
        file.write(b" more")
    assert (tmp_path / "file").read_bytes() == b"two more"


def test_a_disk_that_fails_aside_is_told_and_hides_no_other_fault(tmp_path, monkeypatch):
    asked = Event()

    def fail(file):
        asked.set()
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Input/output"), syncing(tmp_path / "file"):
        assert asked.wait(60)
    with pytest.raises(ValueError, match="of the body"), syncing(tmp_path / "file"):
        raise ValueError("of the body")


def test_a_full_disk_behind_another_error_is_found():
    def fail():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904

    with pytest.raises(RuntimeError) as failure:
        fail()
    assert lacks_space(failure.value)
    assert not lacks_space(RuntimeError("unexpected pos 704 vs 598"))


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_input_error_names_file_field_found_and_expected():
    error = InputError(Path("data/st/A.h5ad"), "obsm", "nothing", "spatial")
    assert str(error) == f"{Path('data/st/A.h5ad')}: obsm: found nothing, expected spatial"
    assert isinstance(error, ValueError)


@pytest.mark.parametrize(
    ("known", "found", "told"),
    [
        (["epochs", "threads"], "epoch", "one of epochs, threads; did you mean 'epochs'?"),
        (["epochs", "threads"], "zzz", "one of epochs, threads"),
        ([], "epochs", "one of none"),
        ([50, 250], 251, "one of 50, 250; did you mean '250'?"),
    ],
)
def test_the_near_name_is_suggested(known, found, told):
    assert one_of(known, found) == told


# --- jobs -------------------------------------------------------------------------------------------------------------

JOB = """
import logging, warnings
from spotwise.errors import CollapseError, InputError, SetupError
from spotwise.runtime.job import job

with job("job.log") as logger:
    {body}
"""


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        ("InputError('a.h5ad', 'obs', 'nothing', 'spots')", "a.h5ad: obs: found nothing, expected spots"),
        ("SetupError('no GPU: set training.device to cpu')", "no GPU: set training.device to cpu"),
        ("CollapseError('epoch 3: embeddings have collapsed')", "epoch 3: embeddings have collapsed"),
        (
            "MemoryError('Unable to allocate 8 GiB')",
            "out of memory (Unable to allocate 8 GiB): give the job more (mem_mb)",
        ),
        ("OSError(28, 'No space left')", "job.log: No space left on device: free some space, and run again"),
    ],
)
def test_a_fault_that_a_user_can_mend_ends_with_one_line_and_code_1(tmp_path, raised, told):
    done = run(JOB.format(body=f"logger.info('begun'); raise {raised}"), tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"Error: {told}\n"
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert [line.partition(" INFO ")[2] or line.partition(" ERROR ")[2] for line in lines] == ["begun", told]


def test_any_other_exception_leaves_its_traceback_in_the_log(tmp_path):
    done = run(JOB.format(body="{}['missing']"), tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'missing'" in done.stderr
    log = (tmp_path / "job.log").read_text()
    assert "ERROR unexpected error" in log
    assert "Traceback (most recent call last)" in log
    assert log.rstrip().endswith("KeyError: 'missing'")


def test_a_job_that_succeeds_says_so_in_its_log_alone(tmp_path):
    (tmp_path / "job.log").write_text("of an earlier attempt\n")
    body = (
        "logger.info('%d spots', 7); logging.getLogger('spotwise.data.folds').warning('few'); warnings.warn('old file')"
    )
    done = run(JOB.format(body=body), tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    log = (tmp_path / "job.log").read_text()
    assert "earlier" not in log
    assert re.search(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d+ INFO 7 spots$", log, re.MULTILINE)
    assert "WARNING few" in log
    assert "UserWarning: old file" in log


def test_a_job_passes_on_the_exit_code_of_its_body(tmp_path):
    done = run(JOB.format(body="raise SystemExit(143)"), tmp_path)
    assert (done.returncode, done.stderr) == (143, "")


# as Snakemake's preamble leaves it, and what has the name without being that
IN_SCRIPT = "from types import SimpleNamespace; snakemake = SimpleNamespace(scriptdir='workflow_scripts')"
NO_SCRIPT = ("", "import snakemake", "snakemake = None")


def test_a_script_ends_with_its_job_and_leaves_out_only_what_frees_memory(tmp_path):
    code = """
import atexit, sys
class Freed:
    def __del__(self): print("freed")
freed = Freed()
atexit.register(print, "at exit")
from spotwise.runtime.job import job
{script}
with job("job.log"):
    print("work")
print("after")
"""
    done = run(code.format(script=IN_SCRIPT), tmp_path)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, ["work", "at exit", ""], "")
    assert "INFO done in" in (tmp_path / "job.log").read_text()
    for other in NO_SCRIPT:
        done = run(code.format(script=other), tmp_path)
        assert done.stdout.split("\n") == ["work", "after", "at exit", "freed", ""]


def test_garbage_is_looked_for_everywhere_but_while_a_script_imports(tmp_path):
    code = """
import gc
{script}
import spotwise
print(gc.isenabled())
from spotwise.runtime.job import job
print(gc.isenabled())
with job("job.log"):
    print(gc.isenabled(), gc.get_freeze_count() > 1000)
"""
    assert run(code.format(script=IN_SCRIPT), tmp_path).stdout.split() == ["False", "False", "True", "True"]
    for other in NO_SCRIPT:
        assert run(code.format(script=other), tmp_path).stdout.split() == ["True", "True", "True", "False"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_nothing_follows_the_job_in_a_script(script):
    last = ast.parse(script.read_text(encoding="utf-8")).body[-1]
    assert isinstance(last, ast.With)
    assert [ast.unparse(item.context_expr.func) for item in last.items] == ["job"]
