"""Claims about the table of the HEST benchmark."""

import math

import pandas as pd
import pytest

from spotwise.constants import IMAGENET_FEATURES
from spotwise.evaluation.bench_published import AVERAGE, read_published_benchmark
from spotwise.evaluation.hest_bench import CROSS_VALIDATED, OFFICIAL
from spotwise.reporting.tables.bench_table import COLUMNS, WITHOUT_WEIGHTS, bench_page, bench_table
from spotwise.reporting.tables.layout import markdown

FACTS = {"n_slides": 3, "n_spots": 90, "n_spots_without_patch": 0, "n_genes": 2}


@pytest.fixture
def published(tmp_path):
    """Two tasks of two encoders."""
    rows = ["model,repository,average,IDC,SKCM", "UNI two,MahmoodLab/UNI2-h,0.45,0.5,0.4", "Net,,0.2,0.3,0.1"]
    (tmp_path / "published.csv").write_text("\n".join(rows))
    (tmp_path / "readings.csv").write_text("model,encoder,remark\nNet,resnet18,it is another one\n")
    return read_published_benchmark(tmp_path)


def scores(first, second, timm="UNI2-h", pretrained=True, fell_back=False, components=256):
    """Scores of two folds with two genes each, whose official means are ``first`` and ``second``."""
    rows = []
    for fold, mean in enumerate((first, second)):
        for gene, shift in (("A", -0.1), ("B", 0.1)):
            official = {"pcc": mean + shift, "pcc_per_slide": mean - 0.05, "alpha": 0.01}
            chosen = {"pcc": mean + 0.2, "pcc_per_slide": mean + 0.1, "alpha": 5000.0}
            common = {"fold": fold, "gene": gene, "is_constant": False, "components": components}
            rows += [common | official | {"probe": OFFICIAL}, common | chosen | {"probe": CROSS_VALIDATED}]
    return pd.DataFrame(rows).assign(timm=timm, pretrained=pretrained, fell_back=fell_back)


def table(published, tasks=("IDC", "SKCM"), facts=FACTS, **settings):
    means = [(0.4, 0.64), (0.3, 0.46)][: len(tasks)]
    parts = {("mine", task): scores(*values, **settings) for task, values in zip(tasks, means, strict=True)}
    return bench_table(parts, dict.fromkeys(tasks, facts), published).set_index("task")


def test_our_scores_stand_beside_the_published_ones_with_the_signed_difference(published):
    found = table(published)
    assert list(found.reset_index()[COLUMNS]) == COLUMNS
    assert found["pcc"].tolist() == pytest.approx([0.52, 0.38, 0.45])
    assert found["pcc_sd_folds"].tolist()[:2] == pytest.approx([0.12, 0.08])
    assert found["published"].tolist() == [0.5, 0.4, 0.45]
    assert found["difference"].tolist() == pytest.approx([0.02, -0.02, 0.0])
    assert set(found["model"]) == {"UNI two"}


def test_what_is_no_part_of_the_benchmark_stands_apart(published):
    found = table(published)
    assert found["pcc_per_slide"].tolist() == pytest.approx([0.47, 0.33, 0.40])
    assert found["pcc_cv"].tolist() == pytest.approx([0.72, 0.58, 0.65])
    assert found["pcc_cv_per_slide"].tolist() == pytest.approx([0.62, 0.48, 0.55])
    assert found["alpha_cv"].tolist()[:2] == [5000, 5000]


def test_an_average_over_other_tasks_is_not_compared(published):
    found = table(published, tasks=("IDC", "OWN"))
    assert found["published"].isna().tolist() == [False, True, True]
    assert found.loc[AVERAGE, "pcc"] == pytest.approx(0.45)
    assert AVERAGE not in table(published, tasks=("IDC",)).index


@pytest.mark.parametrize(
    ("settings", "note"),
    [
        ({"pretrained": False}, WITHOUT_WEIGHTS),
        ({"pretrained": False, "fell_back": True}, "random weights in place of the pretrained ones"),
    ],
)
def test_random_weights_are_compared_with_nothing_and_said(published, settings, note):
    found = table(published, **settings)
    assert found["published"].isna().all()
    assert found["difference"].isna().all()
    assert found["note"].str.contains(note).all()


def test_an_encoder_that_is_not_published_has_scores_alone(published):
    found = table(published, timm="vit_base_patch16_224")
    assert found["published"].isna().all()
    assert set(found["model"]) == {""}
    assert "vit_base_patch16_224; not published" in markdown(bench_page(found.reset_index()))


def test_the_page_says_what_differs_what_was_left_out_and_how_far_off_the_numbers_are(published):
    facts = FACTS | {"n_spots_without_patch": 7}
    text = markdown(bench_page(table(published, facts=facts, timm="resnet18", components=96).reset_index()))
    assert "| IDC | 0.520 ± 0.120 | 0.300 | +0.2200 | 0.470 | 0.720 | 0.620 |" in text
    assert "* Distance from the published numbers: median 0.2500, largest 0.2800 (SKCM)" in text
    assert "* it is another one" in text
    assert "* Fewer than 256 components: IDC 96, SKCM 96; the penalty follows" in text
    assert "* Spots without a patch, left out: IDC 7, SKCM 7" in text
    assert "* 2 tasks, 4 folds" in text


def test_every_encoder_has_its_own_rows(published):
    parts = {(name, "IDC"): scores(0.4, 0.6, timm=timm) for name, timm in (("b", "UNI2-h"), ("a", "resnet18"))}
    found = bench_table(parts, {"IDC": FACTS}, published)
    assert found[["encoder", "model"]].to_numpy().tolist() == [["b", "UNI two"], ["a", "Net"]]
    assert not any(map(math.isnan, found["difference"]))


def test_an_encoder_of_everyday_pictures_is_called_so(published):
    assert set(table(published, timm="imagenet-small")["note"]) == {IMAGENET_FEATURES}
