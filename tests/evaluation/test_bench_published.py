"""Claims about the published table of the HEST benchmark and its match with our encoders."""

from pathlib import Path

import pandas as pd
import pytest

from spotwise.config.settings import HEST_BENCH_TASKS
from spotwise.evaluation.bench_published import AVERAGE, published_as, published_tasks, read_published_benchmark
from spotwise.models.encoder_names import CTRANSPATH, REPOSITORIES, RESNET50_STAGE3

FOLDER = Path(__file__).parents[2] / "resources/hest_bench"


@pytest.fixture(scope="module")
def published():
    return read_published_benchmark(FOLDER)


def test_the_table_has_26_encoders_and_the_tasks_that_run_by_default(published):
    assert published["model"].nunique() == 26
    assert published_tasks(published) == set(HEST_BENCH_TASKS)
    assert len(published) == 26 * 10
    assert published["published"].between(0.05, 0.7).all()


def test_every_printed_average_is_the_mean_of_its_tasks(published):
    wide = published.pivot(index="model", columns="task", values="published")
    assert ((wide[list(HEST_BENCH_TASKS)].mean(axis=1) - wide[AVERAGE]).abs() < 0.6e-4).all()


def test_models_are_found_by_our_names_and_by_their_repositories(published):
    for name, model in (("UNI2-h", "UNI2-h"), ("prov-gigapath", "GigaPath"), ("ctranspath", "CTransPath")):
        assert set(published_as(published, name)["model"]) == {model}
    for name in ("hf-hub:owkin/phikon-v2", "hf_hub:Owkin/Phikon-v2"):
        assert set(published_as(published, name)["model"]) == {"Phikon-v2"}
    uni = published_as(published, "UNI").set_index("task")["published"]
    assert (uni["IDC"], uni[AVERAGE]) == (0.5890, 0.3873)
    assert published_as(published, "resnet18").empty
    assert published_as(published, "hf-hub:").empty
    assert published_as(published, "").empty


def test_every_reading_is_of_a_printed_row(published):
    readings = pd.read_csv(FOLDER / "readings.csv", keep_default_na=False)
    assert set(readings["model"]) <= set(published["model"])
    assert {name for name in readings["encoder"] if name} == {CTRANSPATH, RESNET50_STAGE3}


@pytest.mark.parametrize(("short", "repository"), REPOSITORIES.items())
def test_a_short_name_and_its_repository_are_one_row(published, short, repository):
    by_name, by_repository = (published_as(published, one) for one in (short, f"hf-hub:{repository}"))
    assert list(by_name["model"]) == list(by_repository["model"])
    assert by_name["model"].nunique() <= 1


def test_the_whole_resnet50_is_not_compared_with_its_third_stage(published):
    assert published_as(published, "resnet50.tv_in1k").empty
    assert set(published_as(published, RESNET50_STAGE3)["model"]) == {"ResNet50"}
