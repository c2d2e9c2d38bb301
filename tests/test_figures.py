from itertools import combinations

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from PIL import Image

from spotwise import metrics
from spotwise.errors import InputError
from spotwise.figures import boxplot, correlation, curves, maps, style

PREDICTORS = {
    "CMRCNet-50": ("CMRCNet", "method", 0.6),
    "CMRCNet-500": ("CMRCNet", "method", 0.5),
    "Mine": ("Mine", "method", 0.3),
    "TrainMean": ("TrainMean", "control", 0.0),
}


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
        content.uns["spotwise"] = dict.fromkeys(metrics.RUN_FIELDS, 0) | {
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
    return metrics.score_files(slide[0].values())


@pytest.fixture
def kept(monkeypatch):
    """Figures as they are saved."""
    figures, save = [], style.save
    monkeypatch.setattr(style, "save", lambda fig, pdf, png: (figures.append(fig), save(fig, pdf, png)))
    return figures


# CIELAB after the deuteranopia of Machado et al. 2009 (severity 1, linear RGB); colorimetry of sRGB, white D65
DEUTERANOPIA = np.array(
    [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
)
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def lab(colour, vision=np.eye(3)):  # noqa: B008
    rgb = np.array(to_rgb(colour))
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = XYZ @ np.clip(vision @ linear, 0, 1) / [0.95047, 1, 1.08883]
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_lab_of_known_colours():
    np.testing.assert_allclose(lab("#ffffff"), [100, 0, 0], atol=0.02)
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.05)


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA], ids=["normal", "deuteranopia"])
def test_published_methods_differ_in_colour(vision):
    for one, other in combinations(style.METHOD_COLOURS.values(), 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 15, (one, other)


def test_no_colour_serves_two_purposes():
    colours = [*style.METHOD_COLOURS.values(), *style.SPARE_COLOURS]
    assert len(set(colours)) == len(colours)


def test_a_method_keeps_its_colour_whatever_stands_beside_it():
    alone = style.method_colours(["BLEEP"])
    crowd = style.method_colours(["Mine", "STNet", "BLEEP", "Yours"], ["TrainMean", "RandomRetrieval"])
    assert alone["BLEEP"] == crowd["BLEEP"]
    assert (crowd["Mine"], crowd["Yours"]) == style.SPARE_COLOURS[:2]


def test_controls_are_greys():
    for name in ("TrainMean", "RandomRetrieval", "Ridge"):
        red, green, blue = to_rgb(style.method_colours([], ["TrainMean", "RandomRetrieval", "Ridge"])[name])
        assert red == green == blue


def test_predictors_of_a_method_share_its_hue_and_differ_in_hatch(scores):
    looks = style.predictor_looks(scores, list(PREDICTORS))
    assert looks["CMRCNet-50"].colour == style.METHOD_COLOURS["CMRCNet"].lower()
    assert looks["CMRCNet-500"].colour == style.lighten(style.METHOD_COLOURS["CMRCNet"], 0.35)
    assert looks["CMRCNet-50"].hatch != looks["CMRCNet-500"].hatch


def test_a_method_of_the_config_that_is_not_drawn_still_holds_its_colour(scores):
    looks = style.predictor_looks(scores, list(PREDICTORS), methods=["Absent", "CMRCNet", "Mine"])
    assert looks["Mine"].colour == style.SPARE_COLOURS[1].lower()


@pytest.mark.parametrize(("n", "columns", "grid"), [(1, 6, (1, 1)), (6, 6, (1, 6)), (7, 6, (2, 4)), (13, 6, (3, 5))])
def test_wrapped_grids_are_even(n, columns, grid):
    assert style.wrap(n, columns) == grid


def test_numbers_are_set_as_in_print():
    assert [style.number(value) for value in (0.347, -0.2, -0.001, float("nan"))] == ["0.35", "−0.20", "0.00", "–"]


def test_correlation_matrix_equals_numpy():
    values = np.random.default_rng(0).normal(size=(40, 7))
    np.testing.assert_allclose(correlation.gene_gene_correlation(values), np.corrcoef(values.T), atol=1e-12)


def test_constant_genes_leave_undefined_rows():
    values = np.random.default_rng(0).normal(size=(40, 3))
    values[:, 1] = 0.1
    matrix = correlation.gene_gene_correlation(values)
    assert np.isnan(matrix[1]).all()
    assert np.isnan(matrix[:, 1]).all()
    assert matrix[0, 2] == pytest.approx(np.corrcoef(values[:, 0], values[:, 2])[0, 1])


def blocks(n_genes=50):
    rng = np.random.default_rng(5)
    return rng.normal(size=(200, 5)) @ rng.normal(size=(5, n_genes)) + rng.normal(size=(200, n_genes))


def test_similarity_is_one_with_itself_and_about_zero_for_shuffled_genes():
    values = blocks()
    truth = correlation.gene_gene_correlation(values)
    assert correlation.similarity(truth, truth) == pytest.approx(1)
    assert correlation.similarity(correlation.gene_gene_correlation(3 * values + 7), truth) == pytest.approx(1)
    rng = np.random.default_rng(6)
    shuffled = [correlation.similarity(truth[np.ix_(p, p)], truth) for p in (rng.permutation(50) for _ in range(20))]
    assert abs(np.mean(shuffled)) < 0.05


def test_constant_predictions_cannot_raise_the_similarity():
    truth = correlation.gene_gene_correlation(blocks())
    partly = truth.copy()
    partly[:25] = partly[:, :25] = np.nan
    assert 0 < correlation.similarity(partly, truth) < 1
    assert np.isnan(correlation.similarity(np.full_like(truth, np.nan), truth))


def test_clustering_brings_genes_of_a_block_together():
    rng = np.random.default_rng(7)
    group = rng.permutation(np.repeat([0, 1, 2], 6))
    values = rng.normal(size=(100, 3))[:, group] + 0.3 * rng.normal(size=(100, 18))
    values[:, 4] = 1  # constant
    order = correlation.cluster_order(correlation.gene_gene_correlation(values))
    assert sorted(order) == list(range(18))
    assert order[-1] == 4
    assert (np.diff(group[order[:-1]]) != 0).sum() == 2


def test_every_panel_has_the_order_of_the_truth(slide, kept, tmp_path):
    paths, _ = slide
    correlation.gene_correlation(paths, 8, tmp_path / "c.pdf", tmp_path / "c.png")
    read = metrics.read_slide(paths)
    first = read["Mine"]
    hvg = metrics.gene_ranks(first.var)["rank_var"]
    genes = np.flatnonzero(hvg.between(1, 8))
    order = genes[correlation.cluster_order(correlation.gene_gene_correlation(first.layers["observed"][:, genes]))]
    panels = [ax for ax in kept[0].axes if ax.images][5:10]  # second row: HVG
    assert [ax.get_title().split("\n")[0] for ax in panels] == ["Truth", *paths]
    for ax, values in zip(panels, [first.layers["observed"], *(p.X for p in read.values())], strict=True):
        expected = correlation.gene_gene_correlation(values[:, order])
        np.testing.assert_allclose(np.ma.filled(ax.images[0].get_array(), np.nan), expected, atol=1e-9)


def test_a_predictor_without_variance_is_called_constant(slide, kept, tmp_path):
    correlation.gene_correlation({"TrainMean": slide[0]["TrainMean"]}, 4, tmp_path / "c.pdf", tmp_path / "c.png")
    panel = next(ax for ax in kept[0].axes if ax.get_title().startswith("TrainMean"))
    # float32 of one number: the same in every spot
    assert panel.get_title() == "TrainMean\nr = –"
    assert [text.get_text() for text in panel.texts] == ["constant"]


def test_boxes_hold_the_genes_of_the_lists_averaged_over_seeds(scores, kept, tmp_path):
    again = scores.assign(seed=1, pcc=scores["pcc"] + 0.1)
    boxplot.pcc_boxplot(pd.concat([scores, again]), list(PREDICTORS), 4, tmp_path / "b.pdf", tmp_path / "b.png")
    heg, hvg = kept[0].axes
    assert heg.get_title() == "S1\nHEG, 4 genes"
    assert [label.get_text() for label in hvg.get_yticklabels()] == list(PREDICTORS)
    drawn = (line for line in hvg.lines if line.get_linewidth() == 1.0 and len(line.get_xdata()) == 2)
    medians = [line.get_xdata()[0] for line in drawn]
    genes = scores[scores["rank_var"].between(1, 4)]
    expected = genes.groupby("predictor")["pcc"].median()[list(PREDICTORS)] + 0.05
    np.testing.assert_allclose(medians, expected)


def test_a_box_plot_refuses_to_mix_protocols(scores, tmp_path):
    mixed = pd.concat([scores, scores.assign(protocol="patient")])
    with pytest.raises(ValueError, match="one protocol"):
        boxplot.pcc_boxplot(mixed, list(PREDICTORS), 4, tmp_path / "b.pdf", tmp_path / "b.png")


@pytest.mark.parametrize("n_slides", [2, 5])
def test_every_slide_gets_its_pair_of_panels(scores, kept, tmp_path, n_slides):
    many = pd.concat([scores.assign(sample=f"S{i}", fold=i) for i in range(n_slides)])
    boxplot.pcc_boxplot(many, ["Mine", "TrainMean"], 4, tmp_path / "b.pdf", tmp_path / "b.png")
    titles = [ax.get_title() for ax in kept[0].axes if ax.get_visible()]
    assert sorted(titles) == sorted(f"S{i}\n{kind}, 4 genes" for i in range(n_slides) for kind in ("HEG", "HVG"))
    named = [ax.get_title().split("\n")[1] for ax in kept[0].axes if ax.get_xlabel()]
    assert set(named) == {"HVG, 4 genes"}  # the axis is named under the lowest panels only


def draw_maps(slide, folder, genes=("G1", "G2"), **paths):
    maps.expression_maps(
        paths or slide[0], genes, slide[1], (3000, 2600), 0.5, 55.0, folder / "m.pdf", folder / "m.png"
    )


def test_maps_draw_spots_at_true_size_in_one_scale_per_gene(slide, kept, tmp_path):
    draw_maps(slide, tmp_path)
    truth, *predictions = [ax for ax in kept[0].axes if ax.images][:5]
    observed = metrics.read_prediction(slide[0]["Mine"])[:, "G1"].layers["observed"].ravel()
    for ax in (truth, *predictions):
        (spots,) = ax.collections
        assert set(spots.get_widths()) == {110.0}  # 55 µm at 0.5 µm per pixel
        assert (spots.norm.vmin, spots.norm.vmax) == pytest.approx(tuple(np.percentile(observed, (2, 98))))
    np.testing.assert_array_equal(truth.collections[0].get_array(), observed)
    left, right = truth.get_xlim()
    assert (left, right) == (300 - 165, 300 + 11 * 200 + 165)
    assert truth.get_ylim()[0] > truth.get_ylim()[1]  # y runs down, as in the image


def test_scale_bar_has_its_length(slide, kept, tmp_path):
    draw_maps(slide, tmp_path, genes=("G1",))
    truth = kept[0].axes[0]
    bar, label = truth.lines[0], truth.texts[0].get_text()
    left, right = truth.get_xlim()
    microns = np.ptp(bar.get_xdata()) * (right - left) * 0.5
    assert label == "200 µm"
    assert microns == pytest.approx(200)


def test_the_thumbnail_lies_where_the_slide_has_it(slide, kept, tmp_path):
    picture = np.full((260, 300, 3), 255, dtype=np.uint8)
    picture[100:110, 150:160] = 0  # level-0 pixels 1500-1600, 1000-1100
    Image.fromarray(picture).save(tmp_path / "thumbnail.png")
    draw_maps((slide[0], tmp_path / "thumbnail.png"), tmp_path, genes=("G1",))
    image = kept[0].axes[0].images[0]
    pixels, (x0, x1, y1, y0) = image.get_array(), image.get_extent()
    dark = np.argwhere(pixels[..., 0] < 1)
    x = x0 + (dark[:, 1] + 0.5) / pixels.shape[1] * (x1 - x0)
    y = y0 + (dark[:, 0] + 0.5) / pixels.shape[0] * (y1 - y0)
    assert (x.min(), x.max(), y.min(), y.max()) == pytest.approx((1505, 1595, 1005, 1095))


def test_wanted_genes_are_kept_and_filled_up_with_the_most_variable(slide):
    ranks = metrics.gene_ranks(metrics.read_prediction(slide[0]["Mine"]).var)["rank_var"]
    best, worst = ranks[ranks > 0].idxmin(), ranks.idxmax()
    assert maps.choose_genes(slide[0]["Mine"], ["RND", "G5", worst], 2) == [worst, best]
    assert maps.choose_genes(slide[0]["Mine"], ["G0", "G1"], 1) == ["G0", "G1"]


def test_an_unmeasured_gene_is_refused(slide, tmp_path):
    with pytest.raises(InputError, match="found G5, expected genes that the panel holds"):
        draw_maps(slide, tmp_path, genes=("G1", "G5"))


def history(path, best, epochs=20):
    epoch = np.arange(epochs)
    table = {"epoch": epoch, "lr": 1e-4, "train_total": 1 / (epoch + 1), "val_total": 1 + abs(epoch - best) / 10}
    pd.DataFrame(table).to_csv(path, sep="\t", index=False)
    return path


def test_learning_curves_mark_the_best_epoch_of_every_run(kept, tmp_path):
    histories = {f"{m}/fold{f}": history(tmp_path / f"{m}{f}.tsv", 5 + f) for m in ("CMRCNet", "Mine") for f in (0, 1)}
    curves.learning_curves(histories, tmp_path / "l.pdf", tmp_path / "l.png", methods=["CMRCNet", "Mine"])
    assert [ax.get_title() for ax in kept[0].axes] == ["CMRCNet, 2 runs", "Mine, 2 runs"]
    for ax in kept[0].axes:
        marked = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
        assert marked == [(5, 1), (6, 1)]
    assert kept[0].axes[0].lines[1].get_color() == style.METHOD_COLOURS["CMRCNet"]


def test_a_history_without_losses_is_refused(tmp_path):
    (tmp_path / "h.tsv").write_text("epoch\tlr\n0\t1\n")
    with pytest.raises(InputError, match=r"h\.tsv: columns: .*also train_total, val_total"):
        curves.learning_curves({"CMRCNet": tmp_path / "h.tsv"}, tmp_path / "l.pdf", tmp_path / "l.png")


def test_the_same_input_gives_the_same_bytes(slide, scores, tmp_path):
    path = history(tmp_path / "history.tsv", 3)
    drawings = {
        "box": lambda pdf, png: boxplot.pcc_boxplot(scores, list(PREDICTORS), 4, pdf, png),
        "correlation": lambda pdf, png: correlation.gene_correlation(slide[0], 4, pdf, png),
        "map": lambda pdf, png: maps.expression_maps(slide[0], ["G1"], slide[1], (3000, 2600), 0.5, 55.0, pdf, png),
        "curves": lambda pdf, png: curves.learning_curves({"CMRCNet": path}, pdf, png),
    }
    for name, draw in drawings.items():
        for again in ("1", "2"):
            draw(tmp_path / f"{name}{again}.pdf", tmp_path / f"{name}{again}.png")
        for suffix in (".pdf", ".png"):
            one, two = (tmp_path / f"{name}{again}{suffix}" for again in ("1", "2"))
            assert one.read_bytes() == two.read_bytes(), name
        assert b"CreationDate" not in (tmp_path / f"{name}1.pdf").read_bytes()


def test_figures_are_as_wide_as_a_page_and_set_in_no_less_than_6_pt(slide, scores, kept, tmp_path):
    boxplot.pcc_boxplot(scores, list(PREDICTORS), 4, tmp_path / "b.pdf", tmp_path / "b.png")
    draw_maps(slide, tmp_path)
    correlation.gene_correlation(slide[0], 4, tmp_path / "c.pdf", tmp_path / "c.png")
    for fig in kept:
        assert fig.get_figwidth() * 25.4 == pytest.approx(180)
        assert min(text.get_fontsize() for text in fig.findobj(lambda artist: hasattr(artist, "get_fontsize"))) >= 6
    with Image.open(tmp_path / "b.png") as image:
        assert image.size[0] == int(180 / 25.4 * 300)
        assert round(image.info["dpi"][0]) == 300


def test_a_failed_save_leaves_nothing_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (path.write_text("half"), 1 / 0))
    with pytest.raises(ZeroDivisionError):
        style.save(Figure(), tmp_path / "f.pdf", tmp_path / "f.png")
    assert list(tmp_path.iterdir()) == []
