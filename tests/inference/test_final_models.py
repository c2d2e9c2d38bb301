"""Claims about models of whole cohorts: their folder is enough to predict a slide as a test slide is predicted."""

import json
import shutil
from dataclasses import fields, replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import savedmodel
from savedmodel import RETRIEVAL
from spotwise.constants import BARCODES, FINAL, TEST
from spotwise.data.folds import write_fold
from spotwise.errors import InputError, SetupError
from spotwise.inference.final_description import read_final_description, read_reliability
from spotwise.inference.final_models import assemble_model, predict_spots
from spotwise.inference.prediction import predictions
from spotwise.models.registry import build
from spotwise.models.sizes import Sizes
from spotwise.training.frozen import fit

NETWORKS = {
    "CMRCNet": RETRIEVAL["CMRCNet"],
    "STNet": {"pretrained": "no", "image_size": 32, "growth_rate": 4, "blocks": "1-1"},
    "HisToGene": {"window": 8, "image_size": 32, "dim": 16, "layers": 1, "heads": 2},
    "EGN": {
        "image_size": 32, "patch_size": 16, "dim": 16, "depth": 2, "heads": 2, "bridge_every": 1, "bridge_heads": 2,
        "exemplars": 3,
    },
}  # fmt: skip
FROZEN = {"Ridge": {"n_alphas": 5}, "KNNImage": {"k": 4}}
METHODS = [*NETWORKS, *FROZEN]
K = 5
NEW = "D"  # the slide that is predicted, of a patient without training slides
HOW = {"predictor": "P", "method": "Entry", "k": K, "matching": "average"}


def whole(fold):
    """Return the training spots of a fold as a fold of the whole cohort."""
    bank = fold.bank
    values = {field.name: getattr(fold, field.name) for field in fields(fold)}
    n = len(fold.barcode)
    rows = {name: value[bank] for name, value in values.items() if np.ndim(value) and len(value) == n}
    return replace(fold, **rows, protocol=FINAL)


class Case:
    """A cohort of slides A and B, and slide D without counts."""

    def __init__(self, fold, embedded, patch_files, folder):
        self.folder, self.embedded = folder, embedded
        self.tested = fold.rows(TEST, sample=NEW)
        self.test = replace(fold, protocol=FINAL)
        self.fold = whole(fold)
        write_fold(folder / "whole.h5", self.fold)
        self.patches = patch_files[NEW]
        self.barcode, self.patch = fold.barcode[self.tested], fold.patch[self.tested]
        with h5py.File(self.patches, "a") as file:
            barcodes = file[BARCODES].asstr()[:].astype(object)
            barcodes[self.patch, 0] = self.barcode
            del file[BARCODES]
            file.create_dataset(BARCODES, data=barcodes, dtype=h5py.string_dtype())
        obs = pd.DataFrame(fold.array[self.tested], self.barcode, ["array_row", "array_col"])
        x = np.empty((len(obs), 0), dtype=np.float32)
        self.spots = anndata.AnnData(x, obs=obs, obsm={"spatial": fold.spatial[self.tested]})

    def features(self, name):
        return {} if name in ("CMRCNet", "STNet", "HisToGene") else {slide: self.embedded[slide] for slide in "AB"}

    def trained(self, name):
        if name in FROZEN:
            fit(self.folder / "whole.h5", self.features(name), name, FROZEN[name], 1, self.folder / "trained")
            return self.folder / "trained"
        torch.manual_seed(0)
        network = build(name, Sizes.of(self.fold, self.features(name) or None), NETWORKS[name]).eval()
        for weights in network.parameters():
            torch.nn.init.normal_(weights, std=1.0 if name == "STNet" else 0.2)  # spots must differ
        facts = {"encoder": "made up", "pretrained": True} if self.features(name) else {}
        place = self.folder / "trained"
        return savedmodel.save(place, name, NETWORKS[name], network, self.fold, self.features(name) or None, **facts)

    def assembled(self, name, genes=None):
        (self.folder / "reference").write_text("as it is")
        genes = self.fold.genes if genes is None else genes
        numbers = {"pcc": 0.5, "pcc_low": 0.25, "pcc_high": 0.75, "ceiling": 0.9, "positive_share": 1.0}
        table = pd.DataFrame({"gene": genes, **numbers, "n_slides": 2, "n_units": 2, "reliable": True})
        uses = bool(self.features(name))
        settings = {"timm": "made-up", "pretrained": "no", "checkpoint": "/secret/weights.pt", "views": 1}
        assemble_model(
            trained=self.trained(name),
            fold=self.folder / "whole.h5",
            features=self.features(name),
            um_per_px={"A": 0.5, "B": 0.25},
            slides=[{"sample": slide, "patient": slide, "technology": "Visium"} for slide in "AB"],
            reliability=table,
            facts={"basis": "patient", "n_units": 2},
            reference=self.folder / "reference",
            encoder=settings if uses else {},
            predictor=HOW,
            target_sum=None,
            output=self.folder / "final",
        )
        return self.folder / "final"

    def predict(self, model, name, spots=None):
        features = self.embedded[NEW] if self.features(name) else None
        chosen = self.spots if spots is None else spots
        return predict_spots(model, chosen, 0.5, self.patches, features, "cpu", 1)


@pytest.fixture
def case(fold, embedded, patch_files, tmp_path):
    return Case(fold, embedded, patch_files, tmp_path)


@pytest.mark.parametrize("name", METHODS)
def test_the_folder_alone_predicts_a_slide_as_a_test_slide_is_predicted(case, name):
    model = case.assembled(name)
    how = [{"name": "P", "k": K, "matching": "average"}]
    files, embedded = {NEW: case.patches}, case.features(name) and {**case.features(name), NEW: case.embedded[NEW]}
    only = replace(case.test, role=np.where(case.test.sample == "C", "left out", case.test.role).astype(object))
    ((_, _, expected, _, _),) = predictions(case.folder / "trained", only, files, embedded, how, "cpu", 1)
    shutil.rmtree(case.folder / "trained")
    (case.folder / "whole.h5").unlink()
    spots, found = case.predict(model, name)
    assert spots.obs_names.tolist() == case.barcode.tolist()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert np.ptp(found, axis=0).max() > 0.1


def test_a_folder_says_what_it_is(case):
    model = case.assembled("Ridge")
    found = read_final_description(model)
    assert (found.predictor, found.method, found.k, found.matching) == ("P", "Entry", K, "average")
    assert [slide.patient for slide in found.slides] == ["A", "B"]
    assert found.units == "log(1 + x), x: counts of a spot scaled to the median of its slide"
    assert found.encoder.sha256 == "5eed"
    assert found.encoder.checkpoint == "weights.pt"
    assert "/secret" not in (model / "predictor.json").read_text()
    spatial, sample = case.fold.spatial, case.fold.sample
    pitch = []
    for slide, um in (("A", 0.5), ("B", 0.25)):
        centres = spatial[sample == slide]
        nearest = [np.sort(np.linalg.norm(centres - one, axis=1))[1] for one in centres]
        pitch.append(um * np.median(nearest))
    assert found.spot_pitch_um == pytest.approx(np.mean(pitch))


@pytest.mark.parametrize(
    ("name", "has_bank"), [("Ridge", False), ("STNet", False), ("KNNImage", True), ("CMRCNet", True)]
)
def test_measured_expression_travels_only_with_methods_that_average_it(case, name, has_bank):
    model = case.assembled(name)
    assert (model / "bank.h5").exists() == has_bank
    licences = " ".join(read_final_description(model).licences)
    assert ("bank.h5 holds the measured expression" in licences) == has_bank


def test_genes_that_were_never_scored_are_not_reliable(case):
    model = case.assembled("Ridge", genes=case.fold.genes[:3])
    table = read_reliability(model)
    assert table.index.tolist() == case.fold.genes.tolist()
    assert table["reliable"].tolist() == [True] * 3 + [False] * (len(table) - 3)
    assert table["pcc"].isna().sum() == len(table) - 3
    assert table["is_marker"].tolist() == case.fold.is_marker.tolist()


def test_spots_without_a_patch_are_left_out(case):
    model = case.assembled("STNet")
    _, everything = case.predict(model, "STNet")
    more = anndata.concat([case.spots[:4], case.spots[4:5].copy(), case.spots[5:9]])
    more.obs_names = [*case.barcode[:4], "off the slide", *case.barcode[5:9]]
    spots, found = case.predict(model, "STNet", more)
    assert "off the slide" not in spots.obs_names
    np.testing.assert_allclose(found, everything[[0, 1, 2, 3, 5, 6, 7, 8]], rtol=1e-5)


def test_features_of_other_encoder_weights_are_refused(case):
    model = case.assembled("Ridge")
    with h5py.File(case.embedded[NEW], "a") as file:
        file.attrs["weights"] = "bad"
    with pytest.raises(SetupError, match=r"made-up with other weights \(bad\) than in the training \(5eed\)"):
        case.predict(model, "Ridge")


def test_a_folder_that_is_no_final_model_is_refused(case, tmp_path):
    with pytest.raises(InputError, match=r"predictor\.json: file: found none, expected the folder of a model that"):
        read_final_description(tmp_path)
    model = case.assembled("STNet")
    content = json.loads((model / "predictor.json").read_text())
    del content["units"]
    (model / "predictor.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"predictor\.json: units: .*make the model again"):
        read_final_description(model)
    (model / "predictor.json").write_bytes(b"\xff")
    with pytest.raises(InputError, match=r"predictor\.json: byte 0: found no UTF-8"):
        read_final_description(model)


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("reliability.tsv", None, "file: found none"),
        ("reliability.tsv", b"", "file: found a damaged table"),
        ("reliability.tsv", b"\xff\xfe", "file: found a damaged table"),
        ("reliability.tsv", b"gene\tpcc\nA\t1\n", "columns: found no is_hvg"),
        ("reference.safetensors", None, "file: found none"),
        ("weights.safetensors", None, "file: found none"),
        ("bank.h5", None, "file: found none"),
        ("bank.h5", b"half", "file: found a damaged file"),
    ],
)
def test_a_folder_with_a_missing_or_damaged_file_is_refused_in_one_line(case, name, content, found):
    model = case.assembled("CMRCNet")
    (model / name).unlink()
    if content is not None:
        (model / name).write_bytes(content)
    with pytest.raises(InputError, match=f"{name}: {found}.*make the model again"):
        case.predict(model, "CMRCNet")


def test_a_table_of_other_genes_or_another_order_is_refused(case):
    model = case.assembled("STNet")
    head, *rows = (model / "reliability.tsv").read_text().splitlines()
    for wrong in (rows[:-1], rows[::-1]):
        (model / "reliability.tsv").write_text("\n".join([head, *wrong]) + "\n")
        with pytest.raises(InputError, match=r"reliability\.tsv: gene: found \d+ genes, others or in another order"):
            case.predict(model, "STNet")


def test_genes_that_look_like_numbers_stay_text(case):
    model = case.assembled("STNet")
    head, *rows = (model / "reliability.tsv").read_text().splitlines()
    rows = [f"{number:03}\t{row.partition(chr(9))[2]}" for number, row in enumerate(rows)]
    (model / "reliability.tsv").write_text("\n".join([head, *rows]) + "\n")
    assert read_reliability(model).index.tolist()[:2] == ["000", "001"]
