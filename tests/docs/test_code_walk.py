"""Claims about the walk through the code: it is short, and every place that it names exists."""

import re
from pathlib import Path

from spotwise.constants import PATIENT
from spotwise.data.sample_sheet import by_cohort, plan_folds, read_samples

ROOT = Path(__file__).parents[2]
# Names in backticks, and the file that defines them
PLACE = re.compile(r"`(\w+)`\s+in\s+`((?:src|rules|workflow_scripts)/[\w/]+\.(?:py|smk))`")


def test_the_walk_through_the_code_has_eight_stops_and_names_what_exists():
    page = (ROOT / "docs/code-walk.md").read_text(encoding="utf-8")
    stops = re.split(r"^## \d\. .*\n", page.partition("## Where to look")[0], flags=re.MULTILINE)[1:]
    assert 5 <= len(stops) <= 8
    assert all(PLACE.search(stop) for stop in stops)
    for name, path in PLACE.findall(page):
        defined = rf"^(?:(?:def|class|rule|use rule \w+ as) {name}\b|{name}\b.* = )"
        assert re.search(defined, (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE), (name, path)


def test_the_spot_of_the_walk_is_tested_in_fold_0_and_trained_on_in_both_others():
    first, *others = plan_folds(by_cohort(read_samples(ROOT / "resources/generated_samples.tsv"))["demo"], PATIENT)
    assert first.fold == 0
    assert "DEMO1" in first.test
    assert len(others) == 2
    assert all("DEMO1" in fold.train and fold.validation_slide != "DEMO1" for fold in others)
