"""The time that a run still takes, from its own jobs so far."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping


class TimeLeft:
    """Estimate of the time left.

    A job that has not ended is expected to take as long as the mean of its rule so far; a rule without a finished job,
    as long as the mean of all jobs. What remains is divided by the number of jobs that ran at once so far. Nothing is
    estimated while most of the remaining jobs belong to rules without a finished job.
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
        known = sum(count for rule, count in self.remaining.items() if rule in self.taken)
        if now - self.begun < 30 or 2 * known < sum(self.remaining.values()):
            return None
        all_taken = [seconds for jobs in self.taken.values() for seconds in jobs]
        means = {rule: sum(jobs) / len(jobs) for rule, jobs in self.taken.items()}
        mean = sum(all_taken) / len(all_taken)
        work = sum(count * means.get(rule, mean) for rule, count in self.remaining.items())
        elapsed = [(now - started, means.get(rule, mean)) for rule, started in self.running.values()]
        work -= sum(min(pair) for pair in elapsed)
        at_once = max(1.0, (sum(all_taken) + sum(seconds for seconds, _ in elapsed)) / (now - self.begun))
        return work / at_once

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
