"""Claims about the lines that a run writes on the terminal."""

import io
import logging
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_interface_logger_plugins.tests import MockOutputSettings, TestLogHandlerBase

from snakemake_logger_plugin_spotwise import LogHandler
from spotwise.runtime.job import ERROR_SHOWN

NOON = time.mktime((2026, 11, 2, 12, 0, 0, 0, 0, -1))


class TestPluginInterface(TestLogHandlerBase):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _environment(self, monkeypatch):
        monkeypatch.setenv(ERROR_SHOWN, "")

    def get_log_handler_cls(self):
        return LogHandler

    def get_log_handler_settings(self):
        return None


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Screen:
    """A handler that writes into memory, and the events of a run at given seconds after noon."""

    def __init__(self, stream=None, **settings):
        common = MockOutputSettings()
        common.printshellcmds = False
        vars(common).update(settings)
        self.handler = LogHandler(common, None)
        self.handler.stream = stream or io.StringIO()
        self.handler.coloured = self.handler.stream.isatty() and not common.nocolor

    def say(self, event, seconds=0.0, msg="", level=logging.INFO, **extra):
        record = logging.LogRecord("snakemake", level, "", 0, msg, (), None)
        record.event, record.created = event, NOON + seconds
        vars(record).update(extra)
        self.handler.emit(record)

    def plan(self, **jobs):
        self.say(LogEvent.RUN_INFO, msg="Job stats: ...", stats={**jobs, "total": sum(jobs.values())})

    def start(self, jobid, rule, message, seconds=0.0, log=()):
        facts = {"jobid": jobid, "rule_name": rule, "rule_msg": message, "log": log, "output": ["x"], "wildcards": {}}
        self.say(LogEvent.JOB_INFO, seconds, **facts)

    def finish(self, jobid, done, total, seconds):
        self.say(LogEvent.JOB_FINISHED, seconds, job_id=jobid)
        self.say(LogEvent.PROGRESS, seconds, done=done, total=total)

    def fail(self, jobid, text="", **extra):
        message = f"RuleException:\nCalledProcessError in file Snakefile, line 1:\nCommand 'python x.py' {text}"
        self.say(LogEvent.ERROR, msg=message, level=logging.ERROR, exception="RuleException")
        self.say(LogEvent.JOB_ERROR, level=logging.ERROR, jobid=jobid, rule_name="train", log=[], **extra)

    @property
    def lines(self):
        return self.handler.stream.getvalue().splitlines()


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    monkeypatch.setenv(ERROR_SHOWN, "")  # restored after the test


def test_each_job_has_one_line_with_the_clock_progress_and_its_message():
    screen = Screen()
    screen.plan(train=4)
    screen.start(1, "train", "Train CMRCNet, demo,\n fold 0, seed 0")
    screen.finish(1, 1, 4, 90)
    screen.start(2, "train", "Train BLEEP, demo, fold 0, seed 0", 100)
    assert screen.lines == [
        "4 jobs to do",
        "12:00 0/4   0%                   Train CMRCNet, demo, fold 0, seed 0",
        "12:01 1/4  25% about 4 min left  Train BLEEP, demo, fold 0, seed 0",
    ]


def test_the_last_job_says_how_long_the_run_took():
    screen = Screen()
    screen.plan(train=1)
    screen.start(1, "train", "Train")
    screen.finish(1, 1, 1, 3 * 3600)
    assert screen.lines[-2:] == ["15:00 Done in 3.0 h: Train", "1 job done in 3.0 h"]


def test_a_target_without_outputs_has_no_line():
    screen = Screen()
    facts = {"jobid": 0, "rule_name": "all", "rule_msg": None, "log": [], "output": [], "wildcards": {}}
    screen.say(LogEvent.JOB_INFO, **facts)
    assert screen.lines == []


@pytest.mark.parametrize(
    "message",
    [
        "Using shell: /bin/bash",
        "Provided cores: 2",
        "Conda environments: ignored",
        "Select jobs to execute...",
        "Storing output in storage.",
        "Shutting down, this might take some time.",
        "WorkflowError:\nAt least one job did not complete successfully.",
        "Job 3 has been submitted with SLURM jobid 77 (log: x.log).",
        None,
    ],
)
def test_noise_of_snakemake_is_left_out(message):
    screen = Screen()
    screen.say(None, msg=message)
    assert screen.lines == []


@pytest.mark.parametrize("message", ["Nothing to be done (all requested files are present).", "Unlocked.", "Hello"])
def test_other_messages_are_kept(message):
    screen = Screen()
    screen.say(None, msg=message)
    assert screen.lines == [message]


def test_what_the_workflow_refuses_is_said_without_its_place_in_the_rules():
    screen = Screen()
    text = 'WorkflowError in file "/x/rules/common.smk", line 42:\nmy.yaml: run: found 1'
    text += '\n  File "/x/c.smk", line 42, in <module>'
    screen.say(LogEvent.ERROR, msg=text, level=logging.ERROR, exception="WorkflowError")
    assert screen.lines == ["my.yaml: run: found 1"]


def test_the_error_of_a_job_is_the_one_in_its_log_said_once(tmp_path):
    log = tmp_path / "train.log"
    log.write_text(
        "2026-01-01 10:00:00,1 INFO begun\n2026-01-01 10:00:00,1 ERROR x.h5: X: found -1, expected counts\n"
        "Traceback (most recent call last):\n  ...\nValueError: no\n"
    )
    screen = Screen()
    screen.plan(train=2)
    screen.start(1, "train", "Train A", log=[str(log)])
    screen.fail(1, "returned non-zero exit status 1.")
    assert screen.lines[2:] == ["Error: x.h5: X: found -1, expected counts", "  in train: Train A", f"  log: {log}"]
    screen.say(None, msg="Exiting because a job execution failed. Look above for error messages", level=logging.ERROR)
    assert screen.lines[5:] == [
        "1 job failed, 0 of 2 are done and kept. Logs:",
        f"  {log}",
        "Start again with the same command.",
    ]


@pytest.mark.parametrize(
    ("ending", "expected"),
    [
        ("died with <Signals.SIGKILL: 9>.", "Error: killed by SIGKILL, probably out of memory"),
        ("died with <Signals.SIGSEGV: 11>.", "Error: killed by SIGSEGV"),
        ("returned non-zero exit status 1.", "Error: ended without an error in its log"),
    ],
)
def test_a_job_that_could_not_write_its_error_is_explained(ending, expected):
    screen = Screen()
    screen.start(1, "train", "Train A")
    screen.fail(1, ending)
    assert screen.lines[1] == expected


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("begun\nError: spots.tsv: found no spot\n", "Error: spots.tsv: found no spot"),
        ("Traceback (most recent call last):\n  ...\nKeyError: 'x'\n", "Error: KeyError: 'x'"),
        ("2026-01-01 10:00:00,1 INFO no Error: here\n", "Error: ended without an error in its log"),
    ],
)
def test_the_error_of_another_program_is_found_in_its_log(tmp_path, content, expected):
    (tmp_path / "tool.log").write_text(content)
    screen = Screen()
    screen.start(1, "tool", "Run a tool", log=[str(tmp_path / "tool.log")])
    screen.fail(1, "returned non-zero exit status 1.")
    assert screen.lines[1] == expected


def test_a_further_attempt_that_ends_well_is_no_failure(tmp_path):
    screen = Screen()
    screen.plan(train=2)
    for jobid in (1, 2):
        screen.start(jobid, "train", f"Train {jobid}", log=[f"{jobid}.log"])
        screen.fail(jobid)
    screen.start(1, "train", "Train 1", 60, log=["1.log"])
    screen.finish(1, 1, 2, 90)
    screen.say(None, msg="Exiting because a job execution failed.", level=logging.ERROR)
    assert screen.lines[-3:] == ["1 job failed, 1 of 2 are done and kept. Logs:", "  2.log", screen.lines[-1]]


def test_random_weights_are_said_loudly_and_once(tmp_path):
    screen = Screen(Terminal())
    screen.plan(embed=2)
    for jobid in (1, 2):
        log = tmp_path / f"{jobid}.log"
        log.write_text(
            f"2026-01-01 10:00:00,1 WARNING UNI starts from random weights, as none are there: try {jobid}\n"
        )
        screen.start(jobid, "embed", "Embed", log=[str(log)])
        screen.finish(jobid, jobid, 2, 5)
    said = [line for line in screen.lines if "random weights" in line]
    assert said == ["\033[33mWarning: UNI starts from random weights, as none are there: try 1\033[0m"]


@pytest.mark.parametrize(
    ("quiet", "expected"),
    [(["rules"], ["2 jobs to do", "Hello"]), (["progress"], ["Train", "Hello"]), (["all"], [])],
)
def test_quiet_is_heeded_and_errors_are_said_all_the_same(quiet, expected):
    screen = Screen(quiet=quiet)
    screen.plan(train=2)
    screen.start(1, "train", "Train")
    screen.say(None, msg="Hello")
    assert screen.lines == expected
    screen.fail(1)
    assert screen.lines[len(expected)].startswith("Error: ")


@pytest.mark.parametrize("setting", ["dryrun", "verbose", "printshellcmds", "debug_dag"])
def test_experts_get_the_output_of_snakemake_and_jobs_print_their_errors(monkeypatch, setting):
    monkeypatch.delenv(ERROR_SHOWN)
    screen = Screen(**{setting: True})
    assert not screen.handler.has_filter
    assert not screen.handler.has_formatter
    screen.say(None, msg="Select jobs to execute...")
    assert screen.lines == ["Select jobs to execute..."]
    assert ERROR_SHOWN not in os.environ


SNAKEFILE = """
rule all:
    input: "good", "bad", "killed", "killed_script"

rule good:
    output: "good"
    message: "Make {output}"
    shell: "touch {output}"

rule fail:
    output: "bad"
    log: "bad.log"
    message: "Make {output}"
    script: "bad.py"

rule killed_script:
    output: "killed_script"
    log: "killed_script.log"
    message: "Make {output}"
    script: "killed.py"

rule killed:
    output: "killed"
    log: "killed.log"
    message: "Make {output}"
    shell: "kill -9 $$"
"""
BAD = """
from spotwise.runtime.job import job
with job(snakemake.log[0]):
    {}["one"]
"""

KILLED = """
import os
from spotwise.runtime.job import job
with job(snakemake.log[0]) as logger:
    logger.info("7 spots")
    os.kill(os.getpid(), 9)
"""


@pytest.mark.workflow
def test_a_run_without_a_terminal_has_plain_lines_and_a_full_log(tmp_path):
    (tmp_path / "Snakefile").write_text(SNAKEFILE)
    (tmp_path / "bad.py").write_text(BAD)
    (tmp_path / "killed.py").write_text(KILLED)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--keep-going", "--logger", "spotwise"]
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH")]))
    environment = {name: value for name, value in os.environ.items() if name != ERROR_SHOWN} | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert "\033" not in done.stderr
    assert not re.search("Traceback|RuleException|CalledProcessError|jobid", done.stderr)
    lines = done.stderr.splitlines()
    assert [line for line in lines if line.startswith("Error: ")].count("Error: unexpected KeyError: 'one'") == 1
    killed = "killed by SIGKILL, probably out of memory"
    assert lines.count(f"Error: {killed}") == 2
    begun, ended = (tmp_path / "killed_script.log").read_text().splitlines()
    assert begun.endswith(" INFO 7 spots")
    assert ended.endswith(f" ERROR {killed}")
    assert "3 jobs failed, 1 of 5 are done and kept. Logs:" in lines
    (full,) = (tmp_path / ".snakemake/log").iterdir()
    assert {"Select jobs to execute...", "Provided cores: 1 (use --cores to define parallelism)"} <= set(
        full.read_text().splitlines()
    )
    assert "Reason: Missing output files: bad" in full.read_text()
