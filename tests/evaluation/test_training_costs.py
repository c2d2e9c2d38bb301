"""Claims about the costs of trainings, fits and embeddings."""

import json

import numpy as np
import pandas as pd
import pytest

from spotwise.errors import InputError
from spotwise.evaluation import training_costs


def training(path, seconds, device="cpu", gpu=None, started=1, without=()):
    summary = {"method": "CMRCNet", "started_times": started, "seconds": seconds, "device": device}
    summary |= {"peak_gpu_memory_bytes": gpu}
    path.write_text(json.dumps({key: value for key, value in summary.items() if key not in without}))
    return path


def fit(path):
    path.write_text(json.dumps({"method": "Ridge", "alpha": 1.0}))
    return path


def benchmark(path, seconds):
    path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:02\t200\n")
    return path


@pytest.fixture
def jobs(tmp_path):
    """Four trainings, one of them interrupted, two fits, one without a benchmark, and two embedded slides."""
    summaries = [
        training(tmp_path / "a.json", 100, "GPU X", 3 * 2**30),
        training(tmp_path / "b.json", 300, "GPU Y", 5 * 2**30),
        training(tmp_path / "c.json", 7, "GPU X", 2**30, started=2),
        training(tmp_path / "f.json", 800, "GPU X", 2**30),
        fit(tmp_path / "d.json"),
        fit(tmp_path / "e.json"),
    ]
    timed = [benchmark(tmp_path / f"{name}.tsv", 999) for name in "abcf"] + [benchmark(tmp_path / "d.tsv", 2.5)]
    embeddings = {"resnet18": [benchmark(tmp_path / "s1.tsv", 20), benchmark(tmp_path / "s2.tsv", 40)]}
    methods = [*["CMRCNet"] * 4, "Ridge", "Ridge"]
    return training_costs.collect_job_costs(methods, summaries, [*timed, tmp_path / "absent.tsv"], embeddings)


def test_costs_are_read_from_where_each_kind_of_job_notes_them(jobs):
    nan = np.nan
    expected = pd.DataFrame(
        [
            ("CMRCNet", "training", 100, "GPU X", 3),
            ("CMRCNet", "training", 300, "GPU Y", 5),
            ("CMRCNet", "training", nan, "GPU X", 1),  # interrupted: its 7 s are those after the last start
            ("CMRCNet", "training", 800, "GPU X", 1),
            ("Ridge", "fit", 2.5, "cpu", nan),
            ("Ridge", "fit", nan, "cpu", nan),
            ("resnet18", "embedding", 20, "", nan),
            ("resnet18", "embedding", 40, "", nan),
        ],
        columns=["name", "step", "seconds", "device", "peak_gpu_gib"],
    )
    pd.testing.assert_frame_equal(jobs, expected, check_dtype=False)


def test_the_table_summarises_known_times(jobs):
    table = training_costs.cost_table(jobs).set_index(["name", "step"])
    assert table.loc[("CMRCNet", "training")].to_dict() == {
        "runs": 4,
        "timed": 3,
        "seconds_median": 300,
        "seconds_min": 100,
        "seconds_max": 800,
        "hours": pytest.approx(1200 / 3600),
        "device": "GPU X; GPU Y",
        "peak_gpu_gib": 5,
    }
    assert table.loc[("resnet18", "embedding"), ["runs", "seconds_median"]].tolist() == [2, 30]
    unknown = training_costs.cost_table(jobs.assign(seconds=np.nan))
    assert unknown["hours"].isna().all()
    assert (unknown["timed"] == 0).all()


def test_written_costs_have_six_digits_and_empty_cells_for_unknown_times(jobs, tmp_path):
    training_costs.write_costs(jobs.iloc[[1, 2]].assign(seconds=[100 / 3, np.nan]), tmp_path / "jobs.csv")
    assert (tmp_path / "jobs.csv").read_text().splitlines() == [
        "name,step,seconds,device,peak_gpu_gib",
        "CMRCNet,training,33.3333,GPU Y,5",
        "CMRCNet,training,,GPU X,1",
    ]


@pytest.mark.parametrize("missing", ["seconds", "device", "peak_gpu_memory_bytes"])
def test_a_training_summary_without_its_cost_is_refused(tmp_path, missing):
    path = training(tmp_path / "a.json", 1, without=[missing])
    with pytest.raises(InputError, match=rf"a\.json: keys: .*also {missing}"):
        training_costs.model_cost(path, tmp_path / "absent.tsv")


def test_a_benchmark_without_seconds_is_refused(tmp_path):
    (tmp_path / "b.tsv").write_text("minutes\n1\n")
    with pytest.raises(InputError, match=r"b\.tsv: columns: .*expected s, with a row"):
        training_costs.benchmark_seconds(tmp_path / "b.tsv")
