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


def start(program, *arguments):
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": SOURCE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
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
    with pytest.raises(SetupError, match=rf"results/demo: {os.strerror(number)}: no results can be written here; "):
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


WAITING = """
import signal, time
from spotwise.runtime import run
{before}
run.remind_on(signal.{name})
print("on", flush=True)
try:
    time.sleep(60)
except SystemExit:
    print("tidied up")
    raise
print("drained")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_run_tidies_up_and_ends_with_how_to_continue(name):
    waiting = start(WAITING.format(before="", name=name))
    assert waiting.stdout.readline() == "on\n"
    waiting.send_signal(signal.Signals[name])
    out, err = waiting.communicate()
    assert (waiting.returncode, out) == (128 + signal.Signals[name], "tidied up\n")
    assert err == f"{run.INTERRUPTED}\n"


def test_a_run_that_ends_its_jobs_first_on_sigterm_still_does():
    before = "signal.signal(signal.SIGTERM, lambda *_: print('draining'))"
    waiting = start(WAITING.format(before=before, name="SIGTERM").replace("time.sleep(60)", "signal.pause()"))
    assert waiting.stdout.readline() == "on\n"
    waiting.terminate()
    assert waiting.communicate() == ("draining\ndrained\n", f"{run.INTERRUPTED}\n")
    assert waiting.returncode == 0


def test_the_reminder_is_printed_once_for_two_interruptions():
    waiting = start(WAITING.format(before="", name="SIGINT").replace("raise\n", "time.sleep(60)\n"))
    assert waiting.stdout.readline() == "on\n"
    for _ in range(2):
        waiting.send_signal(signal.SIGINT)
        time.sleep(0.3)
    assert waiting.communicate()[1].count(run.INTERRUPTED) == 1
