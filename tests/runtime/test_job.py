"""Claims about jobs: a log, one line for a user's error, a traceback for ours."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from spotwise import errors
from spotwise.runtime.job import ERROR_SHOWN

SOURCE = str(Path(errors.__file__).parents[1])


def run(program, folder, **environment):
    environment = {"PYTHONPATH": SOURCE} | environment
    return subprocess.run([sys.executable, "-c", program], cwd=folder, env=environment, capture_output=True, text=True)


JOB = """
import logging, warnings
from spotwise.errors import CollapseError, InputError, SetupError
from spotwise.runtime.job import job

with job("job.log") as logger:
    {body}
"""


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        ("InputError('a.h5ad', 'obs', 'nothing', 'spots')", "a.h5ad: obs: found nothing, expected spots"),
        ("SetupError('no GPU: set training.device to cpu')", "no GPU: set training.device to cpu"),
        ("CollapseError('epoch 3: embeddings have collapsed')", "epoch 3: embeddings have collapsed"),
        (
            "MemoryError('Unable to allocate 8 GiB')",
            "out of memory (Unable to allocate 8 GiB): give the job more (mem_mb)",
        ),
        ("OSError(28, 'No space left')", "job.log: No space left on device: free some space, and run again"),
        (
            "PermissionError(13, 'Permission denied', 'S1.json')",
            "S1.json: Permission denied: give yourself the permission, and run again",
        ),
    ],
)
def test_an_error_that_a_user_can_fix_ends_with_one_line_and_status_1(tmp_path, raised, message):
    done = run(JOB.format(body=f"logger.info('begun'); raise {raised}"), tmp_path)
    assert done.returncode == 1
    assert done.stderr == f"Error: {message}\n"
    lines = (tmp_path / "job.log").read_text().splitlines()
    assert [line.partition(" INFO ")[2] or line.partition(" ERROR ")[2] for line in lines] == ["begun", message]


@pytest.mark.parametrize(
    ("raised", "line"),
    [("SetupError('no GPU')", "ERROR no GPU"), ("KeyError('missing')", "ERROR unexpected KeyError: 'missing'")],
)
def test_an_error_that_is_shown_elsewhere_stands_in_the_log_alone(tmp_path, raised, line):
    done = run(JOB.format(body=f"raise {raised}"), tmp_path, **{ERROR_SHOWN: "1"})
    assert (done.returncode, done.stderr) == (1, "")
    assert line in (tmp_path / "job.log").read_text()


def test_any_other_exception_leaves_its_traceback_in_the_log(tmp_path):
    done = run(JOB.format(body="{}['missing']"), tmp_path)
    assert done.returncode == 1
    assert "KeyError: 'missing'" in done.stderr
    log = (tmp_path / "job.log").read_text()
    assert "ERROR unexpected KeyError: 'missing'" in log
    assert "Traceback (most recent call last)" in log
    assert log.rstrip().endswith("KeyError: 'missing'")


def test_a_job_that_succeeds_writes_to_its_log_alone(tmp_path):
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


@pytest.mark.parametrize(
    "body",
    [
        "held = bytes(b'1') * 300_000_000; del held",
        "import os, sys; os.spawnl(os.P_WAIT, sys.executable, 'python', '-c', 'held = bytes([1]) * 300_000_000')",
    ],
    ids=["in the process", "in a child"],
)
def test_the_log_states_a_peak_of_memory_that_has_passed(tmp_path, body):
    def peak(body):
        assert run(JOB.format(body=body), tmp_path).returncode == 0
        return int(
            re.search(r" INFO done in .*, (\d+) MB at most$", (tmp_path / "job.log").read_text(), re.MULTILINE)[1]
        )

    held = b"1" * 300_000_000  # of the process that starts the job, which does not count
    assert peak("pass") < 150
    del held
    assert 300 <= peak(body) < 450


def test_a_job_passes_on_the_exit_code_of_its_body(tmp_path):
    done = run(JOB.format(body="raise SystemExit(143)"), tmp_path)
    assert (done.returncode, done.stderr) == (143, "")


WITHOUT_LOG = """
import errno, os
from spotwise.runtime import job

def deny(path, **options):
    raise OSError(errno.EROFS, os.strerror(errno.EROFS), path)

job.LogFile = deny
with job.job("job.log"):
    print("reached")
"""


def test_a_log_that_cannot_be_written_is_said_in_one_line_wherever_errors_are_shown(tmp_path):
    done = run(WITHOUT_LOG, tmp_path, **{ERROR_SHOWN: "1"})
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: job.log: Read-only file system: give yourself the permission, and run again\n"


def test_ctrl_c_ends_a_job_without_a_traceback_and_leaves_no_partial_file(tmp_path):
    body = "from spotwise.runtime.files import atomic\n"
    body += "    with atomic('x.csv') as path: path.touch(); raise KeyboardInterrupt"
    done = run(JOB.format(body=body), tmp_path)
    assert (done.returncode, done.stderr) == (130, "")
    assert [path.name for path in tmp_path.iterdir()] == ["job.log"]
