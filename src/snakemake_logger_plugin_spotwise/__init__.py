"""What a run says on the terminal: a logger plugin of Snakemake.

One line for each job that starts, with the jobs done so far and the time left, and three for a job that fails. The
log in `.snakemake/log` stays complete. A dry run, `--verbose`, `--printshellcmds` and `--debug-dag` show the output of
Snakemake itself.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from logging import ERROR, WARNING, LogRecord
from pathlib import Path
from typing import NamedTuple

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent

from snakemake_logger_plugin_spotwise.refusals import refusal
from snakemake_logger_plugin_spotwise.time_left import TimeLeft, duration

# Name of a variable that spotwise.runtime.job knows. Nothing of spotwise is imported here: the package beside the
# Snakefile, which may be another one than is installed, is found only once that is read.
ERROR_SHOWN = "SPOTWISE_ERROR_SHOWN"
# Beginnings of messages that are of no use to a reader, or that are said here in other words
NOISE = (
    *("host: ", "Assuming unrestricted shared filesystem", "Using shell: ", "Provided ", "Rules claiming more threads"),
    *(
        "Group jobs: inactive",
        "Conda environments: ignored",
        "Singularity containers: ignored",
        "Select jobs to execute",
    ),
    *("Storing output in storage", "Shutting down", "Elapsed time: ", "Trying to restart job ", "Workflow has started"),
    "WorkflowError:\nAt least one job did not complete successfully",
)
SUBMITTED = "has been submitted with SLURM jobid"
# Around what the workflow itself refuses: where in its rules that happened
REFUSED = re.compile(r'^WorkflowError in file "[^"]+", line \d+:\n|\n +File "[^"]+", line \d+, in <module>')
PLAIN_ERROR = r"^(?:Error: )?((?<=Error: ).+|\w+Error: .+)$"
RED, YELLOW, PLAIN = "\033[31m", "\033[33m", "\033[0m"
LONG = 600  # seconds after which the end of a job is worth a line


class Job(NamedTuple):
    """A job that has started."""

    rule: str
    title: str
    logs: list[str]


class LogHandler(LogHandlerBase):
    """Lines on stderr, or on stdout where Snakemake writes there."""

    writes_to_stream = True
    writes_to_file = False
    needs_rulegraph = False

    def __post_init__(self) -> None:
        """Begin without any job."""
        settings = self.common_settings
        self.plain = bool(settings.dryrun or settings.verbose or settings.printshellcmds or settings.debug_dag)
        self.quiet = {str(getattr(one, "name", one)).lower() for one in settings.quiet or ()}  # "all", "rules", ...
        self.stream = sys.stdout if settings.stdout else sys.stderr
        self.coloured = self.stream.isatty() and os.environ.get("TERM") != "dumb" and not settings.nocolor
        self.jobs: dict[int, Job] = {}
        self.failed: dict[int, None] = {}  # in their order
        self.time_left = TimeLeft()
        self.ended_by = ""  # signal that ended the last process that failed
        self.interrupted = False
        self.said: set[str] = set()
        if not self.plain:
            os.environ[ERROR_SHOWN] = "1"  # jobs leave their error to this plugin, which reads their logs

    @property
    def has_filter(self) -> bool:
        """Whether this plugin, and not Snakemake, chooses the lines."""
        return not self.plain

    @property
    def has_formatter(self) -> bool:
        """Whether this plugin, and not Snakemake, words the lines."""
        return not self.plain

    def emit(self, record: LogRecord) -> None:
        """Write the lines of an event, if any, errors in red and warnings in yellow where a terminal shows colours."""
        try:
            text = self.refused(record)
            if text is None:
                text = self.format(record) if self.plain else self.lines(record)
            if text and not ("all" in self.quiet and record.levelno < ERROR):
                level = WARNING if text.startswith("Warning: ") else record.levelno
                colour = RED if level >= ERROR else YELLOW if level >= WARNING else ""
                self.stream.write(f"{colour}{text}{PLAIN}\n" if colour and self.coloured else f"{text}\n")
                self.stream.flush()
        except Exception:
            self.handleError(record)

    def refused(self, record: LogRecord) -> str | None:
        """Return the line for an error that Snakemake would show with its traceback, and "" for it again."""
        line = refusal(str(record.msg), sys.argv[1:]) if record.levelno >= ERROR else None
        return line and (self.once(line) or "")

    def lines(self, record: LogRecord) -> str | None:
        """Return what an event says on the terminal."""
        match getattr(record, "event", None):
            case LogEvent.RUN_INFO:
                return self.planned(record)
            case LogEvent.JOB_INFO:
                return self.started(record)
            case LogEvent.JOB_FINISHED:
                return self.finished(record)
            case LogEvent.PROGRESS:
                return self.progressed(record)
            case LogEvent.JOB_ERROR:
                return self.ended_badly(record.jobid)
            case LogEvent.GROUP_ERROR:
                return "\n".join(filter(None, (self.ended_badly(job["jobid"]) for job in record.job_error_info)))
            case None | LogEvent.ERROR:
                return self.message(str(record.msg or "").rstrip())
        return None

    def message(self, text: str) -> str | None:
        """Return a message of Snakemake or of the workflow, unless it is noise or repeats the error of a job."""
        if "CalledProcessError" in text:
            signal = re.search(r"died with <Signals\.(\w+)", text)
            self.ended_by = signal[1] if signal else ""
            return None
        if text.startswith("Terminating processes on user request"):
            self.interrupted = True
            return "Stopping ..."
        if text.startswith("Exiting because a job execution failed"):
            return self.failures()
        if text.startswith("Complete log(s): "):
            return f"Full log: {os.path.relpath(text.partition(': ')[2])}"
        if text.startswith(NOISE) or SUBMITTED in text or self.once(text) is None:
            return None
        return REFUSED.sub("", text)

    def once(self, text: str) -> str | None:
        """Return a text that has not been said before."""
        return None if text in self.said or self.said.add(text) else text

    def job(self, jobid: int) -> Job:
        """Return what is known of a job, little of one whose start was not reported."""
        return self.jobs.get(jobid, Job("job", str(jobid), []))

    def planned(self, record: LogRecord) -> str | None:
        """Return the number of jobs."""
        self.time_left.plan({rule: count for rule, count in record.stats.items() if rule != "total"})
        return None if "progress" in self.quiet else f"{jobs(self.time_left.total)} to do"

    def started(self, record: LogRecord) -> str | None:
        """Return the line of a job: clock, progress, time left and the rule's message."""
        wildcards = " ".join(map(str, (record.wildcards or {}).values()))
        title = " ".join(str(record.rule_msg or f"{record.rule_name} {wildcards}").split())
        self.jobs[record.jobid] = Job(record.rule_name, title, list(record.log or ()))
        self.failed.pop(record.jobid, None)  # a further attempt
        self.time_left.start(record.jobid, record.rule_name, record.created)
        is_target = not (record.rule_msg or record.output)
        if is_target or "rules" in self.quiet:
            return None
        if "progress" in self.quiet:
            return title
        done, total = self.time_left.done, self.time_left.total
        left = self.time_left.words(record.created)
        return f"{clock(record)} {done:>{len(str(total))}}/{total} {100 * done // max(total, 1):>3}% {left:<17} {title}"

    def finished(self, record: LogRecord) -> str | None:
        """Return the line of a job that took long, or the warning of one that began from random weights."""
        seconds = self.time_left.finish(record.job_id, record.created)
        job = self.job(record.job_id)
        for said in noted("WARNING", job.logs):
            if "random weights" in said and self.once(said.partition(":")[0]):
                return f"Warning: {said}"
        if seconds < LONG or self.quiet & {"rules", "progress"}:
            return None
        return f"{clock(record)} Done in {duration(seconds)}: {job.title}"

    def progressed(self, record: LogRecord) -> str | None:
        """Return the time of the run, once all jobs are done."""
        self.time_left.done, self.time_left.total = record.done, record.total
        if record.done < record.total or "progress" in self.quiet:
            return None
        return f"{jobs(record.total)} done in {duration(record.created - self.time_left.begun)}"

    def ended_badly(self, jobid: int) -> str | None:
        """Return the error of a job as its log states it, its name, and where its log is; nothing after Ctrl-C."""
        self.time_left.fail(jobid)
        if self.interrupted:
            return None
        self.failed[jobid] = None
        job = self.job(jobid)
        reasons = noted("ERROR", job.logs) or in_logs(PLAIN_ERROR, job.logs)  # of other programs
        killed = f"killed by {self.ended_by}" + (", probably out of memory" if self.ended_by == "SIGKILL" else "")
        ended = killed if self.ended_by else "ended without an error in its log"
        self.ended_by = ""
        if not reasons:
            note(ended, job.logs)
        log = [f"  log: {', '.join(job.logs)}"] if job.logs else []
        return "\n".join([f"Error: {reasons[-1] if reasons else ended}", f"  in {job.rule}: {job.title}", *log])

    def failures(self) -> str:
        """Return how many jobs failed, where their logs are, and what to do."""
        failed = list(dict.fromkeys([*self.failed, *self.time_left.running]))
        logs = [f"  {log}" for job in failed for log in self.job(job).logs]
        more = [f"  and {len(logs) - 20} more"] if len(logs) > 20 else []
        done = f"{self.time_left.done} of {self.time_left.total} are done and kept"
        return "\n".join(
            [f"{jobs(len(failed))} failed, {done}. Logs:", *logs[:20], *more, "Start again with the same command."]
        )


def jobs(number: int) -> str:
    """Return a number of jobs in words."""
    return f"{number} job{'' if number == 1 else 's'}"


def clock(record: LogRecord) -> str:
    """Return the time of day of an event."""
    return time.strftime("%H:%M", time.localtime(record.created))


def noted(level: str, logs: list[str]) -> list[str]:
    """Return the messages of a level in the logs of a job."""
    return in_logs(rf"^\S+ \S+ {level} (.+)$", logs)


def note(error: str, logs: list[str]) -> None:
    """Append an error to the logs of a job that could not write it."""
    for log in filter(os.path.exists, logs):
        with suppress(OSError), open(log, "a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')},000 ERROR {error}\n")


def in_logs(line: str, logs: list[str]) -> list[str]:
    """Return what matches the group of an expression for a line in the logs of a job."""
    texts = [Path(log).read_text(encoding="utf-8", errors="replace") for log in logs if Path(log).is_file()]
    return [found for text in texts for found in re.findall(line, text, flags=re.MULTILINE)]
