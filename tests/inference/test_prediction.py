"""Claims about predictions of test slides: one call for all that a trained model can predict."""

from dataclasses import fields, replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
import torch

import savedmodel
from savedmodel import RETRIEVAL
from spotwise.constants import TEST
from spotwise.data.features import embedded_spots
from spotwise.data.folds import write_fold
from spotwise.errors import InputError, SetupError
from spotwise.evaluation.top_k_sweep import retrieve_each
from spotwise.inference.prediction import predict_by_controls, predict_test_slides
from spotwise.inference.prediction_files import read_ceiling, rounded
from spotwise.inference.retrieval import read_embeddings
from spotwise.models.description import read_description
from spotwise.models.registry import build, load, options
from spotwise.models.sizes import Sizes
from spotwise.training.dataset import Spots
from spotwise.training.frozen import fit

FROZEN = {"Ridge": {"n_alphas": 5}, "KNNImage": {"k": 4}}
STNET = {"pretrained": "no", "image_size": 32, "growth_rate": 4, "blocks": "1-1"}
EGN = {"image_size": 32, "patch_size": 16, "dim": 16, "depth": 2, "heads": 2, "bridge_every": 1, "bridge_heads": 2}
EGN |= {"exemplars": 3}


def shuffled(fold):
    """Shuffle the spots of a fold, slides and roles included."""
    order = np.random.default_rng(6).permutation(len(fold.barcode))
    values = {field.name: getattr(fold, field.name) for field in fields(fold)}
    return replace(
        fold, **{name: value[order] for name, value in values.items() if np.ndim(value) and len(value) == len(order)}
    )


def predict(model, fold, folder, patches=None, embeddings=None, predictors=None, **outputs):
    """Predictions by predictor and sample."""
    folder.mkdir(exist_ok=True)
    write_fold(folder / "fold.h5", fold)
    predict_test_slides(
        model, folder / "fold.h5", patches or {}, embeddings or {},
        predictors or [{"name": "P", "k": 0, "matching": "average"}], "Entry", 3, "cpu", 1, folder / "predicted",
        **outputs,
    )  # fmt: skip
    files = sorted((folder / "predicted").glob("*/*.h5ad"))
    assert not list(folder.rglob("*tmp*"))
    return {(path.parent.name, path.stem): anndata.read_h5ad(path) for path in files}


def assert_predicted(found, expected, rtol):
    """Claim that values of a file are those expected (N, G), beside their rounding."""
    assert (np.abs(found - expected) <= rtol * np.abs(expected) + expected.std(axis=0) / 2000).all()


# --- retrieval --------------------------------------------------------------------------------------------------------


@pytest.fixture
def retrieval(fold, tmp_path):
    torch.manual_seed(0)
    network = build("CMRCNet", Sizes.of(fold), RETRIEVAL["CMRCNet"]).eval()
    return network, savedmodel.save(tmp_path / "model", "CMRCNet", RETRIEVAL["CMRCNet"], network, fold)


def test_retrieval_averages_the_nearest_training_spots_for_every_k_and_slide(fold, retrieval, patch_files, tmp_path):
    network, model = retrieval
    predictors = [{"name": f"by {k}", "k": k, "matching": "average"} for k in (1, 5, 1000)]
    tested = {slide: patch_files[slide] for slide in "CD"}  # patches of training slides are not needed
    outputs = {"bank": tmp_path / "bank.safetensors", "queries": tmp_path / "queries.safetensors"}
    found = predict(model, fold, tmp_path / "run", tested, predictors=predictors, **outputs)
    assert set(found) == {(predictor["name"], slide) for predictor in predictors for slide in "CD"}
    for (name, slide), content in found.items():
        rows = fold.rows(TEST, sample=slide)
        images = Spots(fold, rows, tested, torch.device("cpu")).batch(torch.arange(len(rows))).images
        with torch.inference_mode():
            queries = network.embed_images(images).numpy()
            bank = network.embed_expression(torch.from_numpy(fold.expression[fold.bank])).numpy()
        cosine = (queries @ bank.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(bank, axis=1))
        k = min(int(name.split()[1]), len(bank))
        nearest = np.argsort(-cosine, axis=1)[:, :k]
        assert_predicted(content.X, fold.expression[fold.bank][nearest].mean(axis=1), 1e-4)
        provenance = content.uns["spotwise"]
        assert (provenance["k"], provenance["k_used"]) == (int(name.split()[1]), k)
        assert [provenance[key] for key in ("predictor", "method", "kind", "seed")] == [name, "Entry", "method", 3]
        assert provenance["note"] == ""
    for path, rows in zip(outputs.values(), (fold.bank, fold.rows(TEST)), strict=True):
        np.testing.assert_array_equal(read_embeddings(path).row, rows)


def test_expression_is_retrieved_from_the_fold_of_the_training(fold, retrieval, patch_files, tmp_path):
    corrected = replace(fold, expression=fold.expression + np.float32(100))
    predictors = [{"name": "all", "k": 1000, "matching": "average"}]
    found = predict(retrieval[1], corrected, tmp_path / "run", patch_files, predictors=predictors)
    content = found["all", "C"]
    np.testing.assert_allclose(content.X[0], corrected.expression[fold.bank].mean(axis=0), rtol=1e-4)


def test_embeddings_are_centred_on_each_slide_where_the_model_says_so(fold, retrieval, patch_files, tmp_path):
    """The sweep over K reads the same files, so that it agrees with the predictions."""
    network, _ = retrieval
    facts = {"features": "slide_centred", "targets": "slide_centred"}
    model = savedmodel.save(tmp_path / "centred", "CMRCNet", RETRIEVAL["CMRCNet"], network, fold, **facts)
    outputs = {"bank": tmp_path / "bank.safetensors", "queries": tmp_path / "queries.safetensors"}
    predictors = [{"name": str(k), "k": k, "matching": "average"} for k in (1, 5)]
    found = predict(model, fold, tmp_path / "run", patch_files, predictors=predictors, **outputs)
    tested = fold.rows(TEST)
    with torch.inference_mode():
        bank = network.embed_expression(torch.from_numpy(fold.expression[fold.bank])).numpy()
        spots = Spots(fold, tested, patch_files, torch.device("cpu"))
        queries = network.embed_images(spots.batch(torch.arange(len(tested))).images).numpy()
    for values, sample, path in ((bank, fold.sample[fold.bank], "bank"), (queries, fold.sample[tested], "queries")):
        for slide in set(sample):
            values[sample == slide] -= values[sample == slide].mean(axis=0)
        np.testing.assert_allclose(read_embeddings(outputs[path]).length, np.linalg.norm(values, axis=1), rtol=1e-3)
    cosine = (queries @ bank.T) / np.outer(np.linalg.norm(queries, axis=1), np.linalg.norm(bank, axis=1))
    nearest = np.argsort(-cosine, axis=1)
    read = [read_embeddings(path) for path in outputs.values()]
    swept = retrieve_each(read[1], read[0], fold.expression[fold.bank], [1, 5])
    for slide in "CD":
        here = fold.sample[tested] == slide
        for place, k in enumerate((1, 5)):
            expected = fold.expression[fold.bank][nearest[here, :k]].mean(axis=1)
            assert_predicted(found[str(k), slide].X, expected, 1e-4)
            np.testing.assert_allclose(swept[place, here], expected, rtol=1e-4)


def test_a_fold_of_another_panel_is_refused_before_any_prediction(fold, retrieval, patch_files, tmp_path):
    other = replace(fold, genes=fold.genes[::-1].copy())
    with pytest.raises(InputError, match=r"fold\.h5: genes: .*the model was trained on"):
        predict(retrieval[1], other, tmp_path / "run", patch_files)


def test_a_model_of_another_fold_is_refused_before_any_prediction(fold, retrieval, patch_files, tmp_path):
    with pytest.raises(InputError, match=r"model\.json: fold: found 0, expected 1; train the model again: delete "):
        predict(retrieval[1], replace(fold, fold=1), tmp_path / "run", patch_files)
    assert not (tmp_path / "run/predicted").exists()


def test_a_trained_control_is_scored_as_a_control(fold, retrieval, patch_files, tmp_path):
    found = predict(retrieval[1], fold, tmp_path / "run", patch_files, kind="control", predictors=[
        {"name": "ShuffledTraining", "k": 3, "matching": "average"}
    ])  # fmt: skip
    assert {content.uns["spotwise"]["kind"] for content in found.values()} == {"control"}


# --- regression -------------------------------------------------------------------------------------------------------


def test_regression_predicts_each_spot_from_its_own_patch(fold, patch_files, tmp_path):
    fold = shuffled(fold)
    torch.manual_seed(0)
    network = build("STNet", Sizes.of(fold), STNET).eval()
    torch.nn.init.normal_(network.head.weight)
    model = savedmodel.save(tmp_path / "model", "STNet", STNET, network, fold)
    blind = replace(fold, expression=np.where((fold.role == TEST)[:, None], np.nan, fold.expression))
    found = predict(model, blind, tmp_path / "run", patch_files)
    for slide in "CD":
        rows = fold.rows(TEST, sample=slide)
        spots = Spots(fold, rows, patch_files, torch.device("cpu"))
        with torch.inference_mode():
            alone = [network.predict(spots.batch(torch.tensor([place]))).numpy() for place in range(len(rows))]
        content = found["P", slide]
        np.testing.assert_allclose(content.X, np.concatenate(alone), rtol=1e-4, atol=1e-4)
        assert content.obs_names.tolist() == fold.barcode[rows].tolist()
        assert (content.uns["spotwise"]["k"], content.uns["spotwise"]["k_used"]) == (0, 0)


def without_weights(path):
    with h5py.File(path, "a") as file:
        file.attrs["pretrained"] = False


def test_a_network_that_uses_frozen_features_needs_them_of_the_same_encoder(fold, embedded, patch_files, tmp_path):
    network = build("EGN", Sizes.of(fold, embedded), EGN).eval()
    facts = {"encoder": "made up", "pretrained": True}
    model = savedmodel.save(tmp_path / "model", "EGN", EGN, network, fold, embedded, **facts)
    found = predict(model, fold, tmp_path / "run", patch_files, embedded)
    assert np.isfinite(found["P", "C"].X).all()
    without_weights(embedded["D"])
    with pytest.raises(SetupError, match=r"D-embedded\.h5: embedded with other encoder weights than the training"):
        predict(model, fold, tmp_path / "refused", patch_files, embedded)


# --- frozen -----------------------------------------------------------------------------------------------------------


def fitted(fold, embedded, folder, name, **preparation):
    folder.mkdir()
    write_fold(folder / "fold.h5", fold)
    trained = {slide: embedded[slide] for slide in ("A", "B")}  # none of a tested slide
    fit(folder / "fold.h5", trained, name, FROZEN[name], 1, folder / "model", preparation)
    return folder / "model"


@pytest.mark.parametrize("name", FROZEN)
def test_a_frozen_method_predicts_each_tested_slide_in_the_folds_order(fold, embedded, tmp_path, name):
    fold = shuffled(fold)
    bank = fold.bank
    method = load(name)(options(name, FROZEN[name]))
    weights, report = method.fit(embedded_spots(fold, bank, embedded), fold.expression[bank])
    tested = {slide: embedded[slide] for slide in "CD"}
    found = predict(fitted(fold, embedded, tmp_path / "fit", name), fold, tmp_path / "run", embeddings=tested)
    for sample in "CD":
        features = embedded_spots(fold, fold.rows(TEST, sample=sample), embedded)
        content = found["P", sample]
        assert_predicted(content.X, method.predict(weights, features, fold.expression[bank]), 1e-6)
        used = {key: content.uns["spotwise"][key] for key in ("k", "k_used")}
        assert used == {key: report.get(key, 0) for key in used}


@pytest.mark.parametrize("name", FROZEN)
def test_nothing_measured_of_a_tested_slide_decides_a_prediction(fold, embedded, tmp_path, name):
    model = fitted(fold, embedded, tmp_path / "fit", name)
    blind = replace(fold, expression=np.where((fold.role == TEST)[:, None], np.nan, fold.expression))
    seen = predict(model, fold, tmp_path / "seen", embeddings=embedded)
    unseen = predict(model, blind, tmp_path / "unseen", embeddings=embedded)
    np.testing.assert_array_equal(seen["P", "C"].X, unseen["P", "C"].X)


def shifted(path, change):
    with h5py.File(path, "a") as file:
        file["embedding"][:] = change(file["embedding"][:])


@pytest.mark.parametrize("name", FROZEN)
def test_what_embedded_spots_a_slide_have_in_common_changes_nothing_where_they_are_centred(
    fold, embedded, tmp_path, name
):
    models = {how: fitted(fold, embedded, tmp_path / how, name, features=how) for how in ("raw", "slide_centred")}
    assert {how: read_description(model).features for how, model in models.items()} == {how: how for how in models}
    before = {how: predict(model, fold, tmp_path / f"{how} 1", embeddings=embedded) for how, model in models.items()}
    shifted(embedded["C"], lambda features: 3 * features + np.linspace(-4, 9, features.shape[1], dtype=np.float32))
    after = {how: predict(model, fold, tmp_path / f"{how} 2", embeddings=embedded) for how, model in models.items()}
    np.testing.assert_allclose(after["slide_centred"]["P", "C"].X, before["slide_centred"]["P", "C"].X, rtol=1e-3)
    assert np.abs(after["raw"]["P", "C"].X - before["raw"]["P", "C"].X).max() > 0.5
    np.testing.assert_array_equal(after["raw"]["P", "D"].X, before["raw"]["P", "D"].X)


def test_missing_weights_are_noted_in_the_prediction(fold, embedded, tmp_path):
    for path in embedded.values():
        without_weights(path)
    model = fitted(fold, embedded, tmp_path / "fit", "Ridge")
    assert read_description(model).pretrained is False
    found = predict(model, fold, tmp_path / "run", embeddings=embedded)
    assert found["P", "C"].uns["spotwise"]["note"] == "encoder without pretrained weights"


# --- controls ---------------------------------------------------------------------------------------------------------


def test_every_control_predicts_every_test_slide(fold, tmp_path):
    write_fold(tmp_path / "fold.h5", fold)
    ceilings = {}
    for number, slide in enumerate("CD"):
        ceilings[slide] = tmp_path / f"{slide}.tsv"
        table = pd.DataFrame({"gene": fold.genes, "r_half": 0.0, "ceiling": 0.4 + 0.2 * number})
        table.to_csv(ceilings[slide], sep="\t", index=False)
    names = ["TrainMean", "NoiseCeiling", "NeighbourSlide"]
    predict_by_controls(tmp_path / "fold.h5", ceilings, names, 3, tmp_path / "out")
    assert len(list((tmp_path / "out").rglob("*.h5ad"))) == 6
    for number, slide in enumerate("CD"):
        for name in names:
            content = anndata.read_h5ad(tmp_path / f"out/{name}/{slide}.h5ad")
            direct = load(name)().predict(fold, slide, 3, np.full(12, 0.4 + 0.2 * number))
            np.testing.assert_array_equal(content.X, rounded(direct))
            provenance = content.uns["spotwise"]
            assert [provenance[key] for key in ("predictor", "method", "kind", "k", "seed")] == [
                name, name, "control", 0, 3,
            ]  # fmt: skip
            expected = "no training slide of the patient: training mean"
            assert provenance["note"] == (expected if (name, slide) == ("NeighbourSlide", "D") else "")


def test_controls_other_than_the_noise_ceiling_need_no_ceilings(fold, tmp_path):
    write_fold(tmp_path / "fold.h5", fold)
    predict_by_controls(tmp_path / "fold.h5", {}, ["Coordinates"], 0, tmp_path / "out")
    assert {path.stem for path in (tmp_path / "out/Coordinates").iterdir()} == {"C", "D"}


def test_a_table_is_read_for_the_genes_of_a_panel(tmp_path):
    path = tmp_path / "ceiling.tsv"
    pd.DataFrame({"gene": ["NA", "B", "A"], "r_half": [0.1, 0.2, 0.3], "ceiling": [0.4, 0.5, 0.6]}).to_csv(
        path, sep="\t", index=False
    )
    np.testing.assert_array_equal(read_ceiling(path, ["A", "absent", "B", "NA"]), [0.6, np.nan, 0.5, 0.4])
