"""Claims about the maps of a slide that was never sequenced."""

import numpy as np
import pytest
from matplotlib.collections import EllipseCollection

from drawing import extents, misplaced
from predictedslide import PITCH_PX, facts, picture, prediction
from spotwise.reporting.figures import style
from spotwise.reporting.figures.slide_maps import MOST_GENES, draw_slide_maps

MANY = [f"GENE{number}" for number in range(14)]


@pytest.fixture
def draw(tmp_path):
    hires = picture(tmp_path / "hires.png")

    def drawn(genes, spots=None, across=6):
        return draw_slide_maps(
            spots or prediction(across), genes, facts(across), hires, "S, predicted by Ridge", "patient"
        )

    return drawn


def texts(figure):
    return [text for text, _ in extents(figure)]


def test_titles_give_gene_correlation_and_verdict(draw):
    shown = texts(draw(["EPCAM", "KRT8", "ACTB"]))
    assert "EPCAM\nPCC 0.50 [0.40, 0.60]\nreliable" in shown
    assert "KRT8\nPCC 0.20 [0.10, 0.30]\nnot reliable" in shown
    assert "ACTB\nPCC not known\nnot reliable" in shown
    assert any("2 of 36 spots unlike any" in text for text in shown)


def test_a_page_holds_twelve_maps_whose_texts_keep_clear_of_each_other(draw):
    figure = draw(MANY, prediction(genes=MANY))
    assert misplaced(figure) == []
    assert figure.get_figheight() <= style.PAGE_HEIGHT * 1.001
    assert figure.get_figwidth() == pytest.approx(style.PAGE_WIDTH)
    shown = " ".join(texts(figure))
    assert "GENE11" in shown
    assert "GENE12" not in shown
    assert "The first 12 of 14" in shown.replace("\n", " ")
    assert MOST_GENES == 12


def test_spots_are_as_wide_as_they_lie_apart_and_each_gene_has_its_own_colours(draw):
    spots = prediction()
    spots.X[:, 1] *= 100
    figure = draw(["EPCAM", "CD3E"], spots)
    maps = [item for ax in figure.axes for item in ax.collections if isinstance(item, EllipseCollection)]
    assert len(maps) == 3  # likeness and two genes
    for drawn, gene in zip(maps[1:], (0, 1), strict=True):
        np.testing.assert_allclose(drawn.get_clim(), np.percentile(spots.X[:, gene], [2, 98]), rtol=1e-5)
        np.testing.assert_allclose(drawn.get_widths(), PITCH_PX)


def test_many_spots_are_drawn_as_pixels(draw):
    few, many = draw(["EPCAM"]), draw(["EPCAM"], across=40)
    for figure, expected in ((few, False), (many, True)):
        maps = [item for ax in figure.axes for item in ax.collections if isinstance(item, EllipseCollection)]
        assert all(bool(drawn.get_rasterized()) is expected for drawn in maps)


def test_without_a_reliable_gene_the_figure_says_so(draw):
    figure = draw([])
    assert any("No gene of this model is reliable" in text.replace("\n", " ") for text in texts(figure))
    assert misplaced(figure) == []
