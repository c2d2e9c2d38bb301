"""Claims about the start and end of a run: one at a time in a folder, refusals and interruptions in one line."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from spotwise.errors import InputError, SetupError
from spotwise.runtime import run

SOURCE = str(Path(run.__file__).parents[2])
HOLDER = """
import sys, time
from spotwise.runtime import run
with run.refusals():
    run.lock(sys.argv[1])
    print("in", flush=True)
    time.sleep(60)
"""


def start(program, *arguments, **options):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "results/demo"


def test_of_runs_started_at_once_one_gets_in_and_the_others_name_it(folder):
    runs = [start(HOLDER, folder) for _ in range(6)]
    while sum(one.poll() is not None for one in runs) < 5:
        time.sleep(0.02)
    (inside,) = [one for one in runs if one.poll() is None]
    inside.kill()
    assert inside.communicate()[0] == "in\n"
    for refused in set(runs) - {inside}:
        out, err = refused.communicate()
        assert (refused.returncode, out) == (1, "")
        assert err.startswith(f"Error: {folder}: another run writes here (process {inside.pid} on ")
        assert err.count("\n") == 1


def test_the_lock_of_a_killed_run_is_free_at_once(folder):
    first = start(HOLDER, folder)
    assert first.stdout.readline() == "in\n"
    first.kill()
    first.communicate()
    second = start(HOLDER, folder)
    assert second.stdout.readline() == "in\n"
    second.kill()
    second.communicate()


def test_processes_that_a_run_starts_do_not_keep_its_lock(folder):
    program = HOLDER.replace("time.sleep(60)", "import subprocess; print(subprocess.Popen(['sleep', '60']).pid)")
    first = start(program, folder)
    assert first.stdout.readline() == "in\n"
    orphan = int(first.stdout.readline())
    first.wait()
    second = start(HOLDER, folder)
    assert second.stdout.readline() == "in\n"
    os.kill(orphan, signal.SIGKILL)
    second.kill()
    second.communicate()
    first.communicate()


def failing(number):
    def acquire(self, **arguments):
        raise OSError(number, os.strerror(number))

    return acquire


def test_a_file_system_without_locks_is_said_and_the_run_goes_on(folder, monkeypatch, capsys):
    monkeypatch.setattr(run.FileLock, "acquire", failing(errno.ENOLCK))
    run.lock(folder)
    assert "results/demo: no locks on this file system (No locks available)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_is_read_only_is_refused_with_the_remedy(folder, monkeypatch, number):
    monkeypatch.setattr(run.FileLock, "acquire", failing(number))
    with pytest.raises(SetupError, match=rf"results/demo: {os.strerror(number)}: no results can be written; "):
        run.lock(folder)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (InputError("a.yaml", "run", "nothing", "a name"), "Error: a.yaml: run: found nothing, expected a name"),
        (SetupError("no token"), "Error: no token"),
        (PermissionError(13, "Permission denied", "a\nb.tsv"), r"Error: a\nb.tsv: Permission denied"),
        (OSError("odd"), "Error: odd"),
    ],
)
def test_what_a_user_can_repair_ends_the_process_with_one_line(error, line):
    with pytest.raises(SystemExit) as ended, run.refusals():
        raise error
    assert ended.value.code == line


def test_an_error_of_the_program_is_no_refusal():
    with pytest.raises(KeyError), run.refusals():
        raise KeyError("bug")


SHELL = """
import signal, subprocess, sys, time
from spotwise.runtime import run
run.end_on_interrupt()
job = f"{run.JOB_PREFIX} {sys.executable} -c {sys.argv[1]!r}"
shell = subprocess.Popen(job, shell=True, executable="/bin/bash")
try:
    shell.wait()
finally:  # as Snakemake does
    shell.wait()
    print("tidied up")
"""
TRAINING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit("state saved"))
print("training", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("to_all", [True, False], ids=["Ctrl-C in a terminal", "SIGINT to the run alone"])
def test_an_interrupted_run_ends_its_jobs_by_sigterm_and_says_how_to_continue(to_all):
    running = start(SHELL, TRAINING.replace("\n", "; ").strip("; "), start_new_session=True)
    assert running.stdout.readline() == "training\n"
    (os.killpg if to_all else os.kill)(running.pid, signal.SIGINT)
    out, err = running.communicate(timeout=30)
    assert (running.returncode, out) == (130, "tidied up\n")
    assert err == f"state saved\n{run.INTERRUPTED}\n"


def test_a_job_that_still_starts_is_ended_quietly_too():
    running = start(SHELL, "print(1, flush=True); import time; time.sleep(60)", start_new_session=True)
    assert running.stdout.readline() == "1\n"
    os.killpg(running.pid, signal.SIGINT)
    assert running.communicate(timeout=30)[1] == f"{run.INTERRUPTED}\n"


WAITING = """
import signal, time
from spotwise.runtime import run
{before}
try:
    print("on", flush=True)
    time.sleep(60)
except SystemExit:
    time.sleep({again})
print("drained")
"""


def waiting(before, again=0):
    """Start a run that waits for jobs, once or once more after an interruption."""
    running = start(WAITING.format(before=before, again=again))
    assert running.stdout.readline() == "on\n"
    return running


def test_a_run_that_waits_for_its_jobs_on_sigterm_still_does():
    running = waiting("signal.signal(signal.SIGTERM, lambda *_: exit()); run.remind_on_terminate()")
    running.terminate()
    assert running.communicate() == ("drained\n", f"{run.INTERRUPTED}\n")
    assert running.returncode == 0


def test_the_reminder_is_printed_once_for_two_interruptions():
    running = waiting("run.end_on_interrupt()", again=60)
    for _ in range(2):
        running.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert running.communicate()[1] == f"{run.INTERRUPTED}\n"
