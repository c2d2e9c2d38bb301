import base64
import io
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import madeup
from spotwise.reporting import structure_page
from spotwise.reporting.figures.domain_map import DOMAIN_COLOURS, colouring
from spotwise.reporting.structure_page import StructureResults, render_structure_page
from spotwise.reporting.tables.domain_tables import NO_LABELS

NOTES = {"Joint": "trained on the slide alone", "Expression": ""}
CLASSES = sorted(madeup.CLASSES)


@pytest.fixture
def figures(tmp_path):
    rng, paths = np.random.default_rng(0), {}
    for place, name in enumerate(("domains", "umap", "variable_genes")):
        paths[name] = tmp_path / f"{name}.png"
        Image.fromarray(rng.integers(0, 255, (8, 10 + place, 3), dtype=np.uint8)).save(paths[name])
    return paths


def slide(labels=None, rename=None, genes=madeup.GENES, sample="S1", cohort="c"):
    labels = madeup.labels() if labels is None else labels
    labels = labels.replace(rename or {})
    return StructureResults(
        cohort=cohort,
        sample=sample,
        scores=madeup.scores(sample, cohort),
        variable_genes=madeup.variable_genes(genes),
        domain_genes=madeup.domain_genes(genes),
        agreement=madeup.AGREEMENT,
        domains=madeup.domains(),
        colours=colouring(madeup.domains(), labels, sorted(labels.dropna().unique())),
    )


class Read(HTMLParser):
    """Tags, addresses, styles, and the text of each cell, paragraph and item of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.styles, self.rows, self.texts, self.open = [], [], [], [], [], None
        self.attributes = set()
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}
        self.sources += [value for name, value in attributes if name == "src"]
        self.styles += [value for name, value in attributes if name == "style"]
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag in ("td", "th", "p", "li", "h1", "h2"):
            self.open = tag
            self.texts.append("")

    def handle_data(self, data):
        if self.open:
            self.texts[-1] += data
            if self.open in ("td", "th"):
                self.rows[-1][-1] += data

    def handle_endtag(self, tag):
        if tag == self.open:
            self.open = None


@pytest.fixture
def read(figures):
    return Read(render_structure_page(slide(), figures, NOTES, None, "a note on labels"))


def table_after(read, first):
    start = next(place for place, row in enumerate(read.rows) if row[0] == first)
    end = next((place for place in range(start + 1, len(read.rows)) if read.rows[place][0] in HEADS), len(read.rows))
    return read.rows[start + 1 : end]


HEADS = ("Space", "Domain", "Gene")


def test_facts_by_hand(read):
    assert "30 spots, 29 of them labelled, 3 classes" in read.texts
    assert "Tissue structure of S1 (c)" in read.texts


def test_scores_are_means_over_seeds_with_their_spread(read):
    kmeans = table_after(read, "Space")
    assert [row[:2] for row in kmeans] == [
        ["Joint", "raw"],
        ["Joint", "refined"],
        ["Expression", "raw"],
        ["Expression", "refined"],
    ]
    # seeds 0 and 1: 0.5 and 0.6; sd 0.1 / sqrt(2)
    assert [row[2].strip() for row in kmeans] == ["0.550 ± 0.071", "0.570 ± 0.071", "0.250", "0.270"]
    assert [read.texts.count(f"Scores, {name}") for name in ("kmeans", "leiden")] == [1, 1]


def test_each_domain_has_its_size_labels_genes_and_colour(read):
    rows = table_after(read, "Domain")
    # of the last band, domain 0, a spot has no label: shares are of the labelled ones
    assert [[cell.strip() for cell in row] for row in rows] == [
        ["0", "10", "tumour 100 %", "G0"],
        ["1", "10", "stroma 100 %", "G1"],
        ["2", "10", "gland 100 %", "none"],
    ]
    of = dict(zip(CLASSES, DOMAIN_COLOURS, strict=False))
    assert read.styles == [f"background: {of[name]}" for name in ("tumour", "stroma", "gland")]


def test_shares_of_labels_are_of_the_labelled_spots_commonest_first():
    labels = pd.Series(["b", "a", "b", None, "c", "a", "b", "d"])
    assert structure_page.label_shares(labels) == "b 43 %, a 29 %, c 14 %"
    assert structure_page.label_shares(pd.Series([None, None])) == "none"


def test_agreement_in_words(read):
    text = next(text for text in read.texts if text.startswith("Of 4 genes tested"))
    assert (
        "3 vary over the slide (1 beyond the depth of their spots) and 2 separate the domains of Joint "
        "(q < 0.05); 2 do both" in text
    )
    assert "Jaccard index 0.67, odds ratio 5.0" in text
    assert "rank correlation –" in text


def test_circular_and_missing_evidence_is_stated(read, figures):
    assert "a note on labels" in read.texts
    assert "Joint: trained on the slide alone" in read.texts
    assert not any(text.startswith("Expression:") for text in read.texts)
    assert any("taken from the labels" in text for text in read.texts)
    assert any("no evidence that there are domains" in text for text in read.texts)
    assert not any("stands in the CSV" in text or "over slides" in text for text in read.texts)

    nothing = slide()
    nothing = StructureResults(**(vars(nothing) | {"colours": colouring(nothing.domains, None)}))
    without = Read(render_structure_page(nothing, figures, NOTES, 3, "a note on labels"))
    assert "30 spots, no labels" in without.texts
    assert NO_LABELS in without.texts
    assert "a note on labels" not in without.texts
    assert table_after(without, "Domain")[0] == ["0", "10", "G0"]


def test_pictures_are_in_the_page_and_nothing_else_is_loaded_or_run(read, figures):
    assert len(read.sources) == 3
    for address, path in zip(read.sources, figures.values(), strict=True):
        kind, packed = address.split(",", 1)
        assert kind == "data:image/jpeg;base64"
        with Image.open(io.BytesIO(base64.b64decode(packed))) as shown, Image.open(path) as drawn:
            assert shown.size == drawn.size
            difference = np.asarray(shown, dtype=float) - np.asarray(drawn, dtype=float)
        assert np.abs(difference).mean() < 16  # noise, the hardest to pack
    assert not {"script", "link", "iframe", "object", "a"} & set(read.tags)
    assert read.attributes == {"lang", "charset", "class", "src", "alt", "style"}
    text = render_structure_page(slide(), figures, NOTES, None, "")
    for outside in ("http", "url(", "@import", "javascript"):
        assert outside not in text


@pytest.mark.parametrize("evil", ["<b>x</b>", '"><script>alert(1)</script>', "{{ 7 * 7 }}", "a&b"])
def test_names_from_users_are_escaped(figures, evil):
    genes = [evil, *madeup.GENES[1:]]
    content = slide(rename={"tumour": evil}, genes=genes, sample=evil, cohort=evil)
    notes = {"Joint": evil, "Expression": ""}
    plain = Read(render_structure_page(slide(), figures, NOTES, None, "note"))
    text = render_structure_page(content, figures, notes, None, evil)
    read = Read(text)
    assert read.tags == plain.tags
    assert read.attributes == plain.attributes
    assert f"Tissue structure of {evil} ({evil})" in read.texts
    assert evil in read.texts  # the note
    assert f"Joint: {evil}" in read.texts
    domain = table_after(read, "Domain")[0]
    assert [domain[2], domain[3]] == [f"{evil} 100 %", evil]
    assert table_after(read, "Gene")[0][0] == evil


def test_the_same_slide_gives_the_same_bytes(figures):
    first, second = (render_structure_page(slide(), figures, NOTES, None, "n") for _ in range(2))
    assert first == second
