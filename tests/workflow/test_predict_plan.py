"""Which models are applied to which slides, worked out by hand for three slides of two patients."""

import pytest
import tifffile
from planning import planned, wildcards

from spotwise.errors import InputError
from spotwise.workflow import PredictPlan

METHODS = {"CMRCNet": {"neighbours": [50, 250]}, "EGN": {"encoder": "mine"}, "Ridge": {"encoder": "mine"}}
MODELS = {"two": ["CMRCNet-250", "EGN", "Ridge"]}


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Return a function that plans slides to predict; keyword arguments change the configuration."""
    monkeypatch.chdir(tmp_path)

    def plan(slides, **changes):
        predict = {"slides": slides, "from": MODELS} | changes.pop("predict", {})
        return PredictPlan(planned(tmp_path, methods=METHODS, structure=None, predict=predict, **changes), "my.yaml")

    return plan


def model(name):
    return wildcards(cohort="two", predictor=name)


def test_a_model_is_trained_once_on_all_slides_with_the_first_seed(make):
    predict = make([])
    assert predict.trained(model("CMRCNet-250")) == "results/r/models/two/final/CMRCNet/fold0/seed4"
    assert predict.training_fold(model("EGN")) == "results/r/folds/two/final/fold0/fold.h5"
    fold = predict.plan.fold(wildcards(cohort="two", protocol="final", fold="0"))
    assert fold.train == ("A1", "A2", "B1")
    assert fold.test == ()
    assert (fold.validation, fold.validation_slide) == ("slide", "B1")  # of a patient without another slide


def test_reliability_comes_from_patients_left_out_where_there_are_any(make):
    predict = make([])
    assert predict.scores(model("CMRCNet-250")) == "results/r/scores/two/patient/CMRCNet.parquet"
    assert predict.chance_scores(model("Ridge")) == "results/r/scores/two/patient/ShuffledTraining.parquet"
    of_slides = make([], cohorts={"two": {"protocols": ["paper"]}})
    assert of_slides.scores(model("Ridge")) == "results/r/scores/two/paper/Ridge.parquet"


def test_a_model_brings_the_features_of_its_training_slides_if_it_uses_any(make):
    predict = make([])
    assert predict.training_features(model("CMRCNet-250")) == []
    expected = [f"results/r/embeddings/mine/{sample}.h5" for sample in ("A1", "A2", "B1")]
    assert predict.training_features(model("EGN")) == expected
    assert predict.retrieval(model("CMRCNet-250")) == {"k": 250, "matching": "average"}


def test_a_slide_has_a_folder_and_a_file_of_each_model(make):
    predict = make([{"slide": "New", "patient": "d"}])
    assert predict.outputs == [
        *(f"predict/New/{name}" for name in ("summary.html", "spots.geojson", "tissue.geojson")),
        *(f"predict/New/{name}.h5ad" for name in ("CMRCNet-250", "EGN", "Ridge")),
        *(f"final/two/{name}" for name in ("CMRCNet-250", "EGN", "Ridge")),
    ]
    assert predict.features(wildcards(slide="New", model="Ridge")) == "results/r/predict/New/embeddings/mine.h5"
    assert predict.features(wildcards(slide="New", model="CMRCNet-250")) == []


def test_models_of_several_cohorts_are_told_apart(make):
    cohorts = {"two": {}, "one": {"protocols": ["paper"]}}
    sheet = "sample cohort patient\nA1 two a\nB1 two b\nC1 one c\nC2 one c\n".replace(" ", "\t")
    predict = make([])
    with open("both.tsv", "w", encoding="utf-8") as file:
        file.write(sheet)
    predict = make([], cohorts=cohorts, samples="both.tsv", predict={"from": {"two": ["EGN"], "one": ["EGN"]}})
    assert list(predict.models) == ["two-EGN", "one-EGN"]
    assert predict.folders == ["results/r/final/two/EGN", "results/r/final/one/EGN"]


def test_a_slide_without_a_file_is_drawn_with_a_generated_cohort_only(make):
    predict = make([{"slide": "New"}])
    assert predict.generated == ["New"]
    assert predict.slide(wildcards(slide="New")) == "data/unsequenced/New.tif"
    with pytest.raises(InputError, match=r"path of New: found nothing, expected the file of the slide"):
        make([{"slide": "New"}], data={"source": "local", "root": "data"})


def test_a_file_that_openslide_does_not_read_is_converted_first(make):
    tifffile.imwrite("flat.tif", shape=(64, 64, 3), dtype="uint8", photometric="rgb")
    predict = make(["flat.tif"])
    assert predict.converted == ["flat"]
    assert predict.given(wildcards(slide="flat")) == "flat.tif"
    assert predict.slide(wildcards(slide="flat")) == "results/r/predict/flat/slide.tif"


@pytest.mark.parametrize(
    ("slide", "told"),
    [
        ({"slide": "A1", "path": "x.svs"}, "found 'A1', expected another name in the field slide, as a sample"),
        ({"path": "missing.svs"}, "missing.svs"),
        ({"slide": "New", "spots": "none.csv"}, "none.csv: spots of slide New: found no such file"),
    ],
)
def test_what_is_missing_is_named_before_any_job(make, slide, told):
    with pytest.raises(InputError) as error:
        make([slide]).require_slides()
    assert told in str(error.value)


def test_the_grid_is_that_of_visium_unless_another_is_wanted(make):
    assert make([]).grid == {"layout": "hexagonal", "pitch_um": 100.0}
    assert make([], predict={"grid": {"layout": "dense"}}).grid["layout"] == "dense"
    assert make([], predict={"grid": {"layout": "square", "pitch_um": 30}}).grid["pitch_um"] == 30.0
