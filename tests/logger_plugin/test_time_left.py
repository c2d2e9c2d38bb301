"""Claims about the estimate of the time left."""

import pytest

from snakemake_logger_plugin_spotwise.time_left import TimeLeft, duration


def run(jobs, cores=1, until=None):
    """Run jobs of (rule, seconds) in their order on some cores until ``until`` are done; return estimate and time."""
    left = TimeLeft()
    left.plan({rule: sum(one == rule for one, _ in jobs) for rule in dict(jobs)})
    free, events = [0.0] * cores, []
    for number, (rule, seconds) in enumerate(jobs):
        core = free.index(min(free))
        events += [(free[core], 1, number, rule), (free[core] + seconds, 0, number, rule)]
        free[core] += seconds
    done = 0
    for now, starts, number, rule in sorted(events):
        if starts:
            left.start(number, rule, now)
        else:
            left.finish(number, now)
            done += 1
        if done == until:
            return left, now, max(free)
    return left, max(free), max(free)


@pytest.mark.parametrize("cores", [1, 2, 4])
def test_equal_jobs_are_foretold_exactly(cores):
    left, now, end = run([("train", 60)] * 40, cores, until=20)
    assert left.seconds(now) == pytest.approx(end - now, rel=0.1)


def test_a_job_that_runs_counts_for_what_it_has_left():
    left, now, _ = run([("train", 100)] * 2, until=1)
    left.start(1, "train", now)
    assert left.seconds(now + 25) == pytest.approx(75)
    assert left.seconds(now + 150) == 0


def test_long_jobs_that_remain_weigh_more_than_the_short_ones_done():
    left, now, end = run([("score", 1)] * 50 + [("train", 100)] * 10, until=51)
    assert left.seconds(now) == pytest.approx(end - now)


def test_nothing_is_said_before_there_is_evidence():
    jobs = [("cut", 10)] * 10 + [("train", 100)] * 30
    left, now, _ = run(jobs, until=10)
    assert left.words(now) == ""  # thirty jobs of unknown length, after ten short ones
    left, now, _ = run(jobs, until=11)
    assert left.words(now) == "about 48 min left"
    left, now, _ = run([("cut", 5)] * 10, until=2)
    assert left.words(now) == ""  # ten seconds after the start


def test_a_failed_job_is_still_to_be_done():
    left, now, _ = run([("train", 60)] * 3, until=1)
    left.start(1, "train", now)
    left.fail(1)
    assert left.seconds(now) == pytest.approx(120)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (200_000, "2.3 days")],
)
def test_durations_are_in_the_unit_that_suits_them(seconds, words):
    assert duration(seconds) == words
