"""Claims about the figures of tissue structure, read back from what they draw."""

from itertools import combinations, permutations

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

import madeup
from colours import DEUTERANOPIA, PROTANOPIA, lab
from drawing import misplaced
from spotwise.errors import InputError
from spotwise.reporting.figures import domain_map, spot_plot, style, umap_plot, variable_gene_maps
from spotwise.reporting.figures.domain_map import DOMAIN_COLOURS, UNLABELLED, colouring
from spotwise.structure.spot_labels import labels_of_slides
from spotwise.structure.structure_tables import spot_expression

CLASSES = sorted(madeup.CLASSES)


@pytest.fixture
def section(tmp_path):
    madeup.write_slide(tmp_path)
    files = (tmp_path / name for name in ("lognorm.h5ad", "qc.json", "thumbnail.png", "S1.json"))
    lognorm, qc, thumbnail, metadata = files
    return spot_plot.read_section(lognorm, qc, madeup.BARCODES, thumbnail, metadata)


def colours_of(ax):
    """Colour of each spot of a panel, None where none are drawn."""
    return [to_hex(colour).upper() for colour in ax.collections[0].get_facecolors()] if ax.collections else None


def titles(fig):
    return [ax.get_title() for ax in fig.axes if ax.get_title()]


# --- Colours


@pytest.mark.parametrize("vision", [np.eye(3), DEUTERANOPIA, PROTANOPIA], ids=["normal", "deutan", "protan"])
def test_domains_differ_in_colour_and_from_tissue_and_from_spots_without_label(vision):
    for one, other in combinations(DOMAIN_COLOURS, 2):
        assert np.linalg.norm(lab(one, vision) - lab(other, vision)) > 15, (one, other)
    tissue = style.lighten("#D9A5C7", spot_plot.THUMBNAIL_WHITE)
    for colour in DOMAIN_COLOURS:
        for ground in (tissue, UNLABELLED):
            assert np.linalg.norm(lab(colour, vision) - lab(ground, vision)) > 12, (colour, ground)


def test_more_names_than_colours_still_differ():
    colours = domain_map.palette(range(36))
    assert len(set(colours.values())) == 36
    assert list(colours.values())[:12] == list(DOMAIN_COLOURS)
    assert domain_map.palette("abc") == {"a": DOMAIN_COLOURS[0], "b": DOMAIN_COLOURS[1], "c": DOMAIN_COLOURS[2]}


def test_matching_is_the_best_of_all_pairings():
    rng = np.random.default_rng(0)
    for _ in range(20):
        index = [f"s{i}" for i in range(60)]
        classes = pd.Series(rng.choice(list("abcd"), 60), index=index)
        labelled = classes.mask(rng.random(60) < 0.2)
        numbers = pd.Series(rng.choice(4, 60), index=index)
        matched = domain_map.match_domains(numbers, labelled)
        agreed = sum((labelled[numbers == number] == name).sum() for number, name in matched.items())
        best = max(
            sum((labelled[numbers == number] == name).sum() for number, name in enumerate(names))
            for names in permutations("abcd")
        )
        assert agreed == best
        assert len(set(matched.values())) == len(matched)


def test_spots_are_matched_by_barcode_not_by_place():
    classes = madeup.labels()
    shuffled = classes.sample(frac=1, random_state=0)
    expected = {1: "stroma", 2: "gland", 0: "tumour"}
    assert domain_map.match_domains(madeup.domains(), classes) == expected
    assert domain_map.match_domains(madeup.domains(), shuffled) == expected


def test_an_unmatched_domain_takes_a_colour_of_its_own():
    index = list("uvwxyz")
    classes = pd.Series(["a", "a", "a", "a", "b", None], index=index)
    numbers = pd.Series([0, 0, 0, 1, 0, 2], index=index)
    colours = colouring(numbers, classes, ["a", "b"])
    # 0 with a and 1 with nothing (3 spots) beats 0 with b and 1 with a (2)
    assert domain_map.match_domains(numbers, classes) == {0: "a"}
    assert colours.by_domain(numbers) == {0: DOMAIN_COLOURS[0], 1: DOMAIN_COLOURS[2], 2: DOMAIN_COLOURS[3]}
    legend = colours.legend([colours.of_classes(), colours.of_domains(numbers)])
    assert legend == {
        "a": DOMAIN_COLOURS[0],
        "b": DOMAIN_COLOURS[1],
        "no label": UNLABELLED,
        "unmatched domain 1": DOMAIN_COLOURS[2],
        "unmatched domain 2": DOMAIN_COLOURS[3],
    }


def test_a_class_keeps_its_colour_on_slides_that_lack_others():
    here, there = pd.Series(["a", "c"], index=["x", "y"]), pd.Series(["b", None], index=["x", "y"])
    classes = domain_map.classes_of([here, there])
    assert classes == ["a", "b", "c"]
    first = colouring(pd.Series([0, 1], index=["x", "y"]), here, classes)
    second = colouring(pd.Series([0, 0], index=["x", "y"]), there, classes)
    assert first.of_classes() == [DOMAIN_COLOURS[0], DOMAIN_COLOURS[2]]
    assert second.of_classes() == [DOMAIN_COLOURS[1], UNLABELLED]
    assert list(first.legend([first.of_classes()])) == ["a", "c"]


def test_without_labels_domains_have_the_colours_of_the_reference():
    reference = madeup.domains()
    colours = colouring(reference, None)
    assert colours.by_domain(reference) == {0: DOMAIN_COLOURS[0], 1: DOMAIN_COLOURS[1], 2: DOMAIN_COLOURS[2]}
    renumbered = (reference + 1) % 3
    assert colours.of_domains(renumbered) == colours.of_domains(reference)
    assert list(colours.legend([colours.of_classes()])) == ["domain 0", "domain 1", "domain 2"]


# --- Domain map


def drawn_map(section, labels, classes=CLASSES, spaces=madeup.SPACES, seed=0):
    scores = madeup.scores(n_labelled=0 if labels is None else 29)
    colours = colouring(madeup.domains(seed=seed), labels, classes)
    return domain_map.draw_domains(section, madeup.domain_table(), scores, spaces, seed, colours, "S1 (c)")


def test_a_panel_for_the_slide_the_labels_and_each_space_with_the_ari_of_its_scores(section):
    fig = drawn_map(section, madeup.labels())
    assert titles(fig) == [
        "H&E\n",
        "Labels\n3 classes",
        "Joint\nARI = 0.50",
        "Joint, refined\nARI = 0.52",
        "Expression\nARI = 0.25",
    ]
    assert titles(drawn_map(section, madeup.labels(), seed=1, spaces=["Joint"]))[2:] == [
        "Joint\nARI = 0.60",
        "Joint, refined\nARI = 0.62",
    ]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == [*CLASSES, "no label"]
    assert misplaced(fig) == []


def test_colours_follow_the_labels_and_not_the_numbers_of_the_domains(section):
    picture, labels, joint, refined, expression = drawn_map(section, madeup.labels()).axes[:5]
    of_class = domain_map.palette(CLASSES)
    expected = [of_class[name] for name in madeup.CLASSES[madeup.BAND]]
    assert colours_of(picture) is None
    assert colours_of(labels) == [*expected[:-1], UNLABELLED]
    assert colours_of(joint) == colours_of(refined) == expected  # the domains are the bands, renumbered
    # two domains: stroma with half of gland; tumour (10 spots) with the other half
    right = np.arange(len(madeup.BAND)) % madeup.COLUMNS > 2
    assert colours_of(expression) == [of_class["tumour" if spot else "stroma"] for spot in right]


def test_spots_have_their_true_place_and_size(section):
    fig = drawn_map(section, madeup.labels())
    ax = fig.axes[2]
    np.testing.assert_array_equal(ax.collections[0].get_offsets(), section.centres)
    # 60 um at 0.5 um/px
    assert set(ax.collections[0].get_widths()) == {120}
    bottom, top = ax.get_ylim()
    assert bottom > top  # y runs down, as on the slide
    assert ax.get_xlim() == (300 - 180, 1300 + 180)
    x, _ = fig.axes[0].lines[0].get_data()
    length = (x[1] - x[0]) * (ax.get_xlim()[1] - ax.get_xlim()[0]) * 0.5
    assert f"{length:.0f} µm" in [text.get_text() for text in fig.axes[0].texts]


def test_a_slide_without_labels_shows_numbers_of_domains(section):
    fig = drawn_map(section, None)
    assert titles(fig) == [
        "H&E\n",
        "Joint\n3 domains",
        "Joint, refined\n3 domains",
        "Expression\n2 domains",
    ]


def test_without_a_slide_spots_stand_on_white_at_half_their_distance(tmp_path):
    madeup.write_slide(tmp_path, um_per_px=None)
    section = spot_plot.read_section(tmp_path / "lognorm.h5ad", tmp_path / "qc.json", madeup.BARCODES)
    assert section.diameter == 100
    fig = drawn_map(section, madeup.labels())
    assert "H&E\n" not in titles(fig)
    assert not fig.axes[0].lines  # no scale bar without a pixel size
    np.testing.assert_array_equal(fig.axes[0].images[0].get_array(), 1)
    assert misplaced(fig) == []


def test_a_section_is_read_in_the_order_of_the_barcodes(tmp_path):
    madeup.write_slide(tmp_path, order=slice(None, None, -1))
    files = tmp_path / "lognorm.h5ad", tmp_path / "qc.json", ["0x1", "2x0"]
    for slide in ((), (tmp_path / "thumbnail.png", tmp_path / "S1.json")):
        assert spot_plot.read_section(*files, *slide).centres.tolist() == [[500, 400], [300, 800]]
    with pytest.raises(InputError, match="no spot 7x7"):
        spot_plot.read_section(tmp_path / "lognorm.h5ad", tmp_path / "qc.json", ["0x1", "7x7"])


def test_long_labels_break_into_as_many_columns_as_fit(section):
    names = {name: f"immune : B/plasma cells, endothelium and {name}" for name in CLASSES}
    labels = madeup.labels().map(names)
    assert misplaced(drawn_map(section, labels, sorted(names.values()))) == []


# --- UMAP


def test_the_umap_shows_domains_labels_and_genes_in_the_order_of_its_own_spots():
    plane = madeup.umap().sample(frac=1, random_state=1)
    own = madeup.domains()
    colours = colouring(own, madeup.labels(), CLASSES)
    fig = umap_plot.draw_slide_umap(plane, own, colours, madeup.expression(), "Joint", "S1 (c)")
    by_domain, by_label, *genes = (ax for ax in fig.axes if ax.get_title())
    assert titles(fig) == ["Domains in Joint", "Labels", *madeup.GENES]
    of_class = domain_map.palette(CLASSES)
    band = pd.Series(madeup.BAND, index=madeup.BARCODES)[plane["barcode"]].to_numpy()
    expected = [of_class[name] for name in madeup.CLASSES[band]]
    assert colours_of(by_domain) == expected
    last = plane["barcode"].to_list().index(madeup.BARCODES[-1])
    assert colours_of(by_label) == [UNLABELLED if at == last else colour for at, colour in enumerate(expected)]
    np.testing.assert_array_equal(by_domain.collections[0].get_offsets(), plane[["umap1", "umap2"]])
    # in standard deviations: of 0, 1, 2 in equal numbers it is sqrt(2/3)
    np.testing.assert_allclose(genes[0].collections[0].get_array(), (band - 1) / np.sqrt(2 / 3))
    np.testing.assert_allclose(genes[1].collections[0].get_array(), (1 - band) / np.sqrt(2 / 3))
    assert not genes[3].collections[0].get_array().any()  # the same everywhere
    assert len({ax.collections[0].norm for ax in genes}) == 1
    assert misplaced(fig) == []


def test_a_slide_without_labels_and_genes_has_one_panel():
    own = madeup.domains()
    nothing = madeup.expression()[[]]
    fig = umap_plot.draw_slide_umap(madeup.umap(), own, colouring(own, None), nothing, "Joint", "S1")
    assert titles(fig) == ["Domains in Joint"]
    assert misplaced(fig) == []


def test_slides_of_a_cohort_have_colours_that_no_label_has():
    plane = pd.concat([madeup.umap("S1"), madeup.umap("S2")], ignore_index=True)
    found = {"S1": madeup.domains(seed=0), "S2": madeup.domains(seed=1)}  # numbered otherwise
    labels = dict.fromkeys(found, madeup.labels())
    fig = umap_plot.draw_cohort_umap(plane, found, labels, CLASSES, "Joint", "c")
    slides, by_label, by_domain = fig.axes
    assert titles(fig) == ["Slides", "Labels", "Domains in Joint"]
    of_class = domain_map.palette(CLASSES)
    assert set(colours_of(slides)) == {DOMAIN_COLOURS[3], DOMAIN_COLOURS[4]}
    assert set(colours_of(by_label)) == {*of_class.values(), UNLABELLED}
    at = {
        tuple(place): colour
        for place, colour in zip(by_domain.collections[0].get_offsets().tolist(), colours_of(by_domain), strict=True)
    }
    place = plane.loc[0, ["umap1", "umap2"]].tolist()  # the same place on both slides, another number, one band
    assert at[tuple(place)] == of_class["stroma"]
    assert [text.get_text() for text in fig.legends[0].get_texts()] == ["slide S1", "slide S2", *CLASSES, "no label"]
    assert misplaced(fig) == []
    fig = umap_plot.draw_cohort_umap(plane, found, {}, [], "Joint", "c")
    assert titles(fig) == ["Slides"]


# --- Variable genes


def test_a_panel_for_each_gene_with_its_i_and_q(section):
    genes = madeup.variable_genes()
    fig = variable_gene_maps.draw_variable_genes(section, genes, madeup.expression(), "S1 (c)")
    assert titles(fig) == [
        "H&E\n",
        "G0\nI = 0.90, q < 0.001",
        "G1\nI = 0.70, q < 0.001",
        "G2\nI = 0.50, q = 0.027",
        "G3\nI = 0.30, q = 0.400",
    ]
    panels = [ax for ax in fig.axes if ax.collections and ax.get_title()]
    np.testing.assert_allclose(panels[1].collections[0].get_array(), (1 - madeup.BAND) / np.sqrt(2 / 3))
    assert len({ax.collections[0].norm for ax in panels}) == 1
    assert misplaced(fig) == []


def test_genes_are_found_by_name_whatever_the_order_of_the_columns(section):
    genes = madeup.variable_genes().iloc[::-1]
    fig = variable_gene_maps.draw_variable_genes(section, genes, madeup.expression(), "S1 (c)")
    first = next(ax for ax in fig.axes if ax.get_title().startswith("G1"))
    np.testing.assert_allclose(first.collections[0].get_array(), (1 - madeup.BAND) / np.sqrt(2 / 3))


# --- What is read back


def test_labels_and_expression_are_read_by_barcode(tmp_path):
    madeup.write_slide(tmp_path, order=slice(None, None, -1))
    csv = tmp_path / "labels.csv"
    csv.write_text("barcode,kind\n0x0,a\n0x1,b\n0x2,undetermined\n9x9,b\n")
    labels = labels_of_slides(["S1"], [tmp_path / "lognorm.h5ad"], [csv], "kind", ["undetermined"])["S1"]
    assert labels.dropna().to_dict() == {"0x0": "a", "0x1": "b"}
    assert list(labels.index) == madeup.BARCODES[::-1]
    assert labels_of_slides(["S1"], [tmp_path / "lognorm.h5ad"], [], None, []) == {}
    values = spot_expression(tmp_path / "lognorm.h5ad", ["0x5", "0x0"], ["G1", "absent", "G0"])
    assert values.to_dict("list") == {"G1": [-2, 0], "G0": [2, 0]}


# --- Bytes


def test_the_same_figure_gives_the_same_bytes(section, tmp_path, monkeypatch):
    monkeypatch.setattr(style, "PNG_DPI", 60)
    own, genes = madeup.domains(), madeup.expression()
    colours = colouring(own, madeup.labels(), CLASSES)
    runs = []
    for turn in "12":
        figures = {
            "map": drawn_map(section, madeup.labels()),
            "umap": umap_plot.draw_slide_umap(madeup.umap(), own, colours, genes, "Joint", "S1"),
            "genes": variable_gene_maps.draw_variable_genes(section, madeup.variable_genes(), genes, "S1"),
        }
        files = [[tmp_path / f"{name}{turn}.{kind}" for kind in ("pdf", "png")] for name in figures]
        for fig, paths in zip(figures.values(), files, strict=True):
            style.save(fig, *paths)
        runs.append([path.read_bytes() for paths in files for path in paths])
    assert runs[0] == runs[1]
    assert all(len(content) > 3000 for content in runs[0])
