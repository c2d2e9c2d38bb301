"""Claims about cores: results do not depend on the number and order of parallel jobs."""

import pytest
from outcome import EXEMPT_FILES, outcome
from running import own_copy, small

from workflow.pipeline import example

pytestmark = [pytest.mark.long, pytest.mark.workflow]


@pytest.mark.parametrize("demo", [False, True], ids=["one method", "all methods of the demo"])
def test_one_core_and_two_give_the_same_bytes(tmp_path, demo):
    repository = own_copy(tmp_path / "repository")
    outcomes = {}
    for cores in (1, 2):
        pipeline = small(tmp_path / f"{cores}", repository, epochs=2)
        if demo:
            given = example("demo", tmp_path)
            pipeline.config |= {key: given[key] for key in ("encoders", "methods", "structure")}
            del pipeline.config["controls"]  # all of them
            (pipeline.folder / "samples.tsv").write_text(
                "sample\tcohort\tpatient\nDEMO1\tdemo\tPatient 1\nDEMO2\tdemo\tPatient 2\nDEMO3\tdemo\tPatient 2\n"
            )
        pipeline.finish(cores=cores)
        outcomes[cores] = outcome(pipeline.folder)
    assert outcomes[1] == outcomes[2]
    assert len(outcomes[1]) > 80


def test_only_times_are_exempt(tmp_path):
    """A different byte is detected in a table, a figure or a weight, and ignored in a log."""
    results = tmp_path / "results/demo"
    for name in ("tables/table1.csv", "figures/overview_paper.pdf", "models/m/weights.safetensors", "logs/tables.log"):
        (results / name).parent.mkdir(parents=True, exist_ok=True)
        (results / name).write_text("a")
    before = outcome(tmp_path)
    assert len(before) == 3
    for name in before:
        path = tmp_path / "results" / name
        path.write_text("b")
        assert outcome(tmp_path) != before
        path.write_text("a")
    (results / "logs/tables.log").write_text("b")
    assert outcome(tmp_path) == before
    assert all(("cost" in name) or name in ("logs", "benchmarks", "state") for name in EXEMPT_FILES)
