"""Claims about the figures of one test slide and of learning curves, read back from what they draw."""

import json

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from drawing import misplaced
from spotwise.constants import RUN_FIELDS
from spotwise.errors import InputError
from spotwise.evaluation.gene_sets import gene_ranks
from spotwise.evaluation.scores import score_prediction
from spotwise.evaluation.slide_metrics import gene_gene_correlation
from spotwise.inference.prediction_files import read_prediction, read_slide
from spotwise.reporting.figures import boxplot, expression_maps, gene_correlation, learning_curves, style

PREDICTORS = {
    "CMRCNet-50": ("CMRCNet", "method", 0.6),
    "CMRCNet-500": ("CMRCNet", "method", 0.5),
    "Mine": ("Mine", "method", 0.3),
    "TrainMean": ("TrainMean", "control", 0.0),
}


RUN = {name: (method, kind) for name, (method, kind, _) in PREDICTORS.items()}


@pytest.fixture(scope="module")
def slide(tmp_path_factory):
    """Predictions of one slide: 120 spots, 12 genes that follow two patterns; one gene constant, one not measured."""
    folder = tmp_path_factory.mktemp("slide")
    rng = np.random.default_rng(0)
    xy = 300 + 200 * np.stack(np.meshgrid(np.arange(12), np.arange(10)), axis=-1).reshape(-1, 2)
    patterns = np.stack([np.sin(xy[:, 0] / 600), np.cos(xy[:, 1] / 500)], axis=1)
    signal = 2 + patterns @ rng.normal(size=(2, 12))
    observed = signal + 0.3 * rng.normal(size=signal.shape)
    observed[:, 3] = 0
    mean, var = observed.mean(axis=0), observed.var(axis=0)
    observed[:, 5] = np.nan
    paths = {}
    for predictor, (method, kind, strength) in PREDICTORS.items():
        noise = 0 if kind == "control" else 0.1 * rng.normal(size=signal.shape)
        content = ad.AnnData(
            (2 + strength * (signal - 2) + noise).astype(np.float32),
            obs=pd.DataFrame(index=[f"spot{i}" for i in range(len(xy))]),
            var=pd.DataFrame(
                {
                    "is_hvg": True,
                    "is_marker": False,
                    "is_measured": np.arange(12) != 5,
                    "reference_mean": mean,
                    "reference_var": var,
                },
                index=[f"G{g}" for g in range(12)],
            ),
            layers={"observed": observed.astype(np.float32)},
            obsm={"spatial": xy},
        )
        content.uns["spotwise"] = dict.fromkeys(RUN_FIELDS, 0) | {
            "cohort": "demo",
            "protocol": "paper",
            "predictor": predictor,
            "method": method,
            "kind": kind,
            "sample": "S1",
            "note": "",
        }
        paths[predictor] = folder / f"{predictor}.h5ad"
        content.write_h5ad(paths[predictor])
    Image.fromarray(np.full((130, 150, 3), (220, 160, 190), dtype=np.uint8)).save(folder / "thumbnail.png")
    return paths, folder / "thumbnail.png"


@pytest.fixture(scope="module")
def scores(slide):
    paths = slide[0].values()
    return pd.concat([score_prediction(read_prediction(path)) for path in paths], ignore_index=True)


def test_clustering_brings_genes_of_a_block_together():
    rng = np.random.default_rng(7)
    group = rng.permutation(np.repeat([0, 1, 2], 6))
    values = rng.normal(size=(100, 3))[:, group] + 0.3 * rng.normal(size=(100, 18))
    values[:, 4] = 1  # constant
    order = gene_correlation.cluster_order(gene_gene_correlation(values))
    assert sorted(order) == list(range(18))
    assert order[-1] == 4
    assert (np.diff(group[order[:-1]]) != 0).sum() == 2


def test_every_panel_has_the_order_of_the_truth(slide):
    paths, _ = slide
    fig = gene_correlation.draw_gene_correlation(paths, 8)
    read = read_slide(paths)
    first = read["Mine"]
    hvg = gene_ranks(first.var)["rank_var"]
    genes = np.flatnonzero(hvg.between(1, 8))
    order = genes[gene_correlation.cluster_order(gene_gene_correlation(first.layers["observed"][:, genes]))]
    panels = [ax for ax in fig.axes if ax.get_title()][5:10]  # second row: HVG
    assert [ax.get_title().split("\n")[0] for ax in panels] == ["Truth", *paths]
    for ax, values in zip(panels, [first.layers["observed"], *(p.X for p in read.values())], strict=True):
        expected = gene_gene_correlation(values[:, order])
        np.testing.assert_allclose(np.ma.filled(ax.collections[0].get_array(), np.nan), expected, atol=1e-9)


def test_the_truth_has_similarity_1_and_shuffled_genes_about_0(slide, tmp_path):
    truth = read_prediction(slide[0]["Mine"])
    rng, paths = np.random.default_rng(3), {}
    measured = np.flatnonzero(truth.var["is_measured"])
    genes = {"Oracle": measured} | {f"Shuffled{i}": rng.permutation(measured) for i in range(20)}
    for name, order in genes.items():
        other = truth.copy()
        other.X[:, measured] = truth.layers["observed"][:, order]
        paths[name] = tmp_path / f"{name}.h5ad"
        other.write_h5ad(paths[name])
    fig = gene_correlation.draw_gene_correlation(paths, 12)
    titles = [ax.get_title().split("\n") for ax in fig.axes if ax.get_title()]
    r = {name: float(number.removeprefix("r = ").replace("−", "-")) for name, number in titles if name in paths}
    assert r.pop("Oracle") == 1
    assert abs(np.mean(list(r.values()))) < 0.1


def test_a_predictor_without_variance_is_called_constant(slide):
    fig = gene_correlation.draw_gene_correlation({"TrainMean": slide[0]["TrainMean"]}, 4)
    panel = next(ax for ax in fig.axes if ax.get_title().startswith("TrainMean"))
    # float32 of one number: the same in every spot
    assert panel.get_title() == "TrainMean\nr = 0.00"
    assert [text.get_text() for text in panel.texts] == ["constant"]


def test_boxes_hold_the_genes_of_the_lists_averaged_over_seeds(scores):
    again = scores.assign(seed=1, pcc=scores["pcc"] + 0.1)
    order = ["Mine", "TrainMean", "CMRCNet-500", "CMRCNet-50"]
    looks = style.predictor_looks(RUN, order)
    fig = boxplot.draw_boxplot(pd.concat([scores, again]), looks, 4)
    heg, hvg = fig.axes
    assert heg.get_title() == "S1\nHEG, 4 genes"
    assert [label.get_text() for label in hvg.get_yticklabels()] == order
    drawn = (line for line in hvg.lines if line.get_linewidth() == 1.0 and len(line.get_xdata()) == 2)
    medians = {order[round(np.mean(line.get_ydata()))]: line.get_xdata()[0] for line in drawn}
    genes = scores[scores["rank_var"].between(1, 4)]
    expected = genes.groupby("predictor")["pcc"].median() + 0.05
    assert medians == pytest.approx(expected.to_dict())


def test_a_box_plot_refuses_to_mix_protocols(scores):
    mixed = pd.concat([scores, scores.assign(protocol="patient")])
    with pytest.raises(ValueError, match="the figure shows one protocol, but the scores hold 2"):
        boxplot.draw_boxplot(mixed, style.predictor_looks(RUN), 4)


@pytest.mark.parametrize("n_slides", [2, 5])
def test_every_slide_gets_its_pair_of_panels(scores, n_slides):
    many = pd.concat([scores.assign(sample=f"S{i}", fold=i) for i in range(n_slides)])
    fig = boxplot.draw_boxplot(many, style.predictor_looks(RUN, ["Mine", "TrainMean"]), 4)
    titles = [ax.get_title() for ax in fig.axes if ax.get_visible()]
    assert sorted(titles) == sorted(f"S{i}\n{kind}, 4 genes" for i in range(n_slides) for kind in ("HEG", "HVG"))
    named = [ax.get_title().split("\n")[1] for ax in fig.axes if ax.get_xlabel()]
    assert set(named) == {"HVG, 4 genes"}  # the axis is named under the lowest panels only


def draw_maps(slide, genes=("G1", "G2"), **paths):
    facts = {"qc": {"um_per_px": 0.5}}
    facts["S1"] = {"id": "S1", "fullres_px_width": 3000, "fullres_px_height": 2600, "spot_diameter": 55.0}
    for name, content in facts.items():
        (slide[1].parent / f"{name}.json").write_text(json.dumps(content))
    qc, metadata = (slide[1].parent / f"{name}.json" for name in facts)
    return expression_maps.draw_expression_maps(paths or slide[0], genes, qc, slide[1], metadata)


def test_a_gene_name_with_dollar_signs_is_no_mathematics(slide, tmp_path):
    paths = {predictor: tmp_path / path.name for predictor, path in slide[0].items()}
    for predictor, path in paths.items():
        content = ad.read_h5ad(slide[0][predictor])
        content.var_names = [r"$\frac{$", *content.var_names[1:]]
        content.write_h5ad(path)
    fig = draw_maps(slide, [r"$\frac{$"], **paths)
    fig.draw_without_rendering()  # as mathematics it could not be drawn
    assert panels_of(fig)[1].get_title() == style.plain(r"$\frac{$") + "\ntruth"


def panels_of(fig):
    """Panels with a picture below, in reading order of each gene: H&E, truth, predictors."""
    return [ax for ax in fig.axes if ax.images]


def test_maps_draw_spots_at_true_size_in_one_scale_per_gene(slide):
    fig = draw_maps(slide)
    image, truth, *predictions = panels_of(fig)[:6]
    assert not image.collections
    assert [ax.get_title().split("\n")[0] for ax in (image, truth, *predictions)] == ["H&E", "G1", *PREDICTORS]
    observed = read_prediction(slide[0]["Mine"])[:, "G1"].layers["observed"].ravel().astype(float)
    above_mean = observed - observed.mean()
    for ax in (truth, *predictions):
        (spots,) = ax.collections
        assert set(spots.get_widths()) == {110.0}  # 55 µm at 0.5 µm per pixel
        assert (spots.norm.vmin, spots.norm.vmax) == pytest.approx(tuple(np.percentile(above_mean, (2, 98))))
    np.testing.assert_allclose(truth.collections[0].get_array(), above_mean)
    for ax, path in zip(predictions, slide[0].values(), strict=True):
        predicted = read_prediction(path)[:, "G1"].X.ravel().astype(float)
        np.testing.assert_allclose(ax.collections[0].get_array(), predicted - predicted.mean())
    left, right = truth.get_xlim()
    assert (left, right) == (300 - 165, 300 + 11 * 200 + 165)
    assert truth.get_ylim()[0] > truth.get_ylim()[1]  # y runs down, as in the image


def test_only_the_first_panel_shows_the_slide_in_full_colour(slide):
    fig = draw_maps(slide)
    image, *others = panels_of(fig)[:6]
    stain = np.array([220, 160, 190]) / 255
    np.testing.assert_allclose(image.images[0].get_array()[50, 50], stain)
    for ax in others:
        np.testing.assert_allclose(ax.images[0].get_array()[50, 50], 1 - 0.45 * (1 - stain))


def test_scale_bar_has_its_length(slide):
    fig = draw_maps(slide, genes=("G1",))
    truth = fig.axes[0]
    bar, label = truth.lines[0], truth.texts[0].get_text()
    left, right = truth.get_xlim()
    microns = np.ptp(bar.get_xdata()) * (right - left) * 0.5
    assert label == "200 µm"
    assert microns == pytest.approx(200)


def test_the_thumbnail_lies_where_the_slide_has_it(slide, tmp_path):
    picture = np.full((260, 300, 3), 255, dtype=np.uint8)
    picture[100:110, 150:160] = 0  # level-0 pixels 1500-1600, 1000-1100
    Image.fromarray(picture).save(tmp_path / "thumbnail.png")
    fig = draw_maps((slide[0], tmp_path / "thumbnail.png"), genes=("G1",))
    image = fig.axes[0].images[0]
    pixels, (x0, x1, y1, y0) = image.get_array(), image.get_extent()
    dark = np.argwhere(pixels[..., 0] < 1)
    x = x0 + (dark[:, 1] + 0.5) / pixels.shape[1] * (x1 - x0)
    y = y0 + (dark[:, 0] + 0.5) / pixels.shape[0] * (y1 - y0)
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((1505, 1595, 1005, 1095))


def test_wanted_genes_are_kept_and_filled_up_with_the_most_variable(slide):
    ranks = gene_ranks(read_prediction(slide[0]["Mine"]).var)["rank_var"]
    best, worst = ranks[ranks > 0].idxmin(), ranks.idxmax()
    assert expression_maps.choose_genes(slide[0]["Mine"], ["RND", "G5", worst], 2) == [worst, best]
    assert expression_maps.choose_genes(slide[0]["Mine"], ["G0", "G1"], 1) == ["G0", "G1"]


def test_a_wanted_marker_is_drawn_though_no_slide_chose_it_as_variable(slide, tmp_path):
    content = read_prediction(slide[0]["Mine"])
    content.var["is_hvg"] = ~content.var_names.isin(["G0", "G1"])
    content.write_h5ad(tmp_path / "other.h5ad")
    found = expression_maps.choose_genes(tmp_path / "other.h5ad", ["G0"], 12)
    assert found[0] == "G0"
    assert set(found[1:]) == {f"G{gene}" for gene in range(12)} - {"G0", "G1", "G5"}


def test_an_unmeasured_gene_is_refused(slide):
    with pytest.raises(InputError, match="found G5, expected genes of the panel"):
        draw_maps(slide, genes=("G1", "G5"))


def history(path, best, epochs=20):
    epoch = np.arange(epochs)
    table = {"epoch": epoch, "lr": 1e-4, "train_total": 1 / (epoch + 1), "val_total": 1 + abs(epoch - best) / 10}
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path


def test_learning_curves_mark_the_best_epoch_of_every_run(tmp_path):
    histories = {f"{m}/fold{f}": history(tmp_path / f"{m}{f}.tsv", 5 + f) for m in ("CMRCNet", "Mine") for f in (0, 1)}
    looks = style.method_looks(["CMRCNet", "Mine"])
    fig = learning_curves.draw_learning_curves(histories, looks)
    assert [ax.get_title() for ax in fig.axes] == ["CMRCNet, 2 runs", "Mine, 2 runs"]
    for ax in fig.axes:
        marked = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
        assert marked == [(5, 1), (6, 1)]
    green = style.METHOD_COLOURS["CMRCNet"]
    curves = [line for line in fig.axes[0].lines if line.get_marker() != "o"]
    assert [line.get_color() for line in curves] == [style.lighten(green, 0.35)] * 2 + [green] * 2


def test_a_history_without_losses_is_refused(tmp_path):
    (tmp_path / "h.tsv").write_text("epoch\tlr\n0\t1\n")
    with pytest.raises(InputError, match=r"h\.tsv: columns: .*also train_total, val_total"):
        learning_curves.draw_learning_curves({"CMRCNet": tmp_path / "h.tsv"}, style.method_looks(["CMRCNet"]))


def test_the_same_input_gives_the_same_bytes(slide, scores, tmp_path):
    path = history(tmp_path / "history.tsv", 3)
    drawings = {
        "box": lambda: boxplot.draw_boxplot(scores, style.predictor_looks(RUN), 4),
        "correlation": lambda: gene_correlation.draw_gene_correlation(slide[0], 4),
        "map": lambda: draw_maps(slide, ["G1"]),
        "curves": lambda: learning_curves.draw_learning_curves({"CMRCNet": path}, style.method_looks(["CMRCNet"])),
    }
    for name, draw in drawings.items():
        for again in ("1", "2"):
            style.save(draw(), tmp_path / f"{name}{again}.pdf", tmp_path / f"{name}{again}.png")
        for suffix in (".pdf", ".png"):
            one, two = (tmp_path / f"{name}{again}{suffix}" for again in ("1", "2"))
            assert one.read_bytes() == two.read_bytes(), name
        assert b"CreationDate" not in (tmp_path / f"{name}1.pdf").read_bytes()


def test_figures_are_as_wide_as_a_page_and_set_in_no_less_than_6_pt(slide, scores):
    box = boxplot.draw_boxplot(scores, style.predictor_looks(RUN), 4)
    for fig in (box, draw_maps(slide), gene_correlation.draw_gene_correlation(slide[0], 4)):
        assert fig.get_figwidth() * 25.4 == pytest.approx(180)
        assert min(text.get_fontsize() for text in fig.findobj(lambda artist: hasattr(artist, "get_fontsize"))) >= 6
        assert misplaced(fig) == []
