"""Claims about the page that sums up a slide."""

import re

import pytest

from predictedslide import description, facts, picture, prediction, verdict
from spotwise.reporting.predicted_genes import choose_genes
from spotwise.reporting.summary_page import AppliedModel, reliability_words, render_summary_page


@pytest.fixture
def page(tmp_path):
    def render(alike=True, **more):
        maps = picture(tmp_path / "maps.png", 2600)  # noise, the largest picture there can be
        spots = prediction()
        one = AppliedModel(description(**more), spots, verdict(alike), choose_genes(spots.var, "panel"), maps)
        return render_summary_page("slide <1>", facts(), picture(tmp_path / "tissue.png"), {"Ridge": one, "KNN": one})

    return render


def plain(html):
    return " ".join(re.sub(r"<[^>]+>", " ", re.sub(r'src="[^"]*"', "", html)).split())


def test_the_page_holds_everything_and_asks_for_nothing(page):
    html = page()
    assert re.findall(r'(?:src|href)="(?!data:image/jpeg;base64,)', html) == []
    assert "<script" not in html
    assert len(html) < 6e6  # of two models of pure noise; two of tissue have 2 MB


def test_the_verdict_comes_first_and_is_loud_for_a_slide_at_a_wrong_scale(page):
    html = page(alike=False)
    assert html.index('class="verdict far"') < html.index("<h2>The slide</h2>")
    text = plain(html)
    assert "This slide is far from those trained on: do not trust its predictions (breast)" in text
    assert "NOT as in training as in training as in training" in text
    assert text.count("do not trust its predictions") == 1  # once for both models of the cohort


def test_facts_and_warnings_of_the_slide_are_escaped(page):
    html = page()
    assert "slide &lt;1&gt;" in html
    assert "block 7 &lt;b&gt;.svs" in html
    assert "/data/" not in html
    assert "a fold of the tissue &amp; dust" in html


def test_genes_are_listed_with_their_reliability(page):
    text = plain(page())
    assert "CD3E reliable 0.60 [0.50, 0.70] 0.80 75 % 4" in text
    assert "ACTB not reliable not known – – 0" in text


def test_model_and_use_are_said(page):
    text = plain(page())
    assert "2 slides of 2 patients (breast): S1, S2" in text
    assert "Licences: CC BY 4.0." in text
    assert 'sc.read_h5ad("Ridge.h5ad")' in text
    assert "not for diagnosis" in text
    assert "QuPath" in text


def test_reliability_says_what_was_left_out():
    var = prediction().var
    words = reliability_words(var, {"basis": "slide", "threshold": 0.06, "cutoff": 0.06})
    assert words[0].startswith("2 of 5 genes are reliable: in slides left out")
    assert "correlations of 0.50 to 0.60" in words[1]


def test_without_reliable_genes_no_map_should_be_believed():
    var = prediction().var.assign(reliable=False)
    assert reliability_words(var, {"basis": "patient", "threshold": 0.06, "cutoff": 0.06})[1].startswith("No map")
