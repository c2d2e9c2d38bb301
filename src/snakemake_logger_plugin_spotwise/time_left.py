"""The time that a run still takes, from its own jobs so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from statistics import mean, median

EARLIEST = 30  # seconds after the start


class TimeLeft:
    """Estimate of the time left.

    A job that has not ended is expected to take as long as the mean of its rule so far; a rule without a finished job,
    as long as the median of these means. What remains is divided by the number of jobs that ran at once so far. Nothing
    is estimated while more time belongs to rules without a finished job than to the others, past and future.
    """

    def __init__(self):
        self.done = self.total = 0
        self.begun: float | None = None
        self.remaining: Counter[str] = Counter()  # jobs of each rule that have not ended
        self.taken: defaultdict[str, list[float]] = defaultdict(list)  # seconds of the jobs of each rule
        self.running: dict[int, tuple[str, float]] = {}

    def plan(self, jobs: Mapping[str, int]) -> None:
        """Take the number of jobs of each rule."""
        self.remaining, self.total = Counter(jobs), sum(jobs.values())

    def start(self, job: int, rule: str, now: float) -> None:
        """Note that a job has started."""
        self.begun = now if self.begun is None else self.begun
        self.running[job] = (rule, now)

    def finish(self, job: int, now: float) -> float:
        """Note that a job has ended well, and return its seconds."""
        rule, started = self.running.pop(job, ("", now))
        self.remaining[rule] -= 1
        self.taken[rule].append(now - started)
        return now - started

    def fail(self, job: int) -> None:
        """Note that a job has failed; it may start again."""
        self.running.pop(job, None)

    def seconds(self, now: float) -> float | None:
        """Return the seconds left, ``None`` without evidence."""
        if not self.taken or self.begun is None or now - self.begun < EARLIEST:
            return None
        means = {rule: mean(seconds) for rule, seconds in self.taken.items()}
        usual = median(means.values())
        unknown = usual * sum(count for rule, count in self.remaining.items() if rule not in means)
        known = sum(count * means[rule] for rule, count in self.remaining.items() if rule in means)
        past = sum(map(sum, self.taken.values()))
        if unknown > past + known:
            return None
        spent = [(now - started, means.get(rule, usual)) for rule, started in self.running.values()]
        at_once = (past + sum(seconds for seconds, _ in spent)) / (now - self.begun)
        return (unknown + known - sum(map(min, spent))) / max(1.0, at_once)

    def words(self, now: float) -> str:
        """Return the time left in words, ``""`` without evidence."""
        seconds = self.seconds(now)
        return "" if seconds is None else f"about {duration(seconds)} left"


def duration(seconds: float) -> str:
    """Return a duration in the unit that suits it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 36 * 3600:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86400:.1f} days"
