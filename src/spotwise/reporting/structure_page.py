"""One slide on one page: its domains, its variable genes and how they go together, to read and to print."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd
from jinja2 import Environment
from PIL import Image

from spotwise.reporting.figures.domain_map import Colouring
from spotwise.reporting.tables.domain_tables import (
    CLUSTERINGS,
    GENE_NUMBERS,
    NO_LABELS,
    SCORES,
    SCORES_LEGEND,
    domain_table,
    gene_number,
    score_cell,
    sought,
)
from spotwise.reporting.tables.layout import best_marks
from spotwise.structure.variable_genes import CIRCULAR, SIGNIFICANT

GENES_LISTED, GENES_PER_DOMAIN, SHARES_LISTED = 20, 6, 3
JPEG = {"quality": 88, "subsampling": 0}  # as sharp as print at a tenth of the size of PNG
PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Tissue structure of {{ sample }}</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 2rem auto; max-width: 68rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; } h2 { font-size: 1.15rem; margin-top: 2rem; }
p, ul { max-width: 55rem; }
img { max-width: 100%; height: auto; }
.facts { font-size: 1.1rem; font-weight: 600; }
table { border-collapse: collapse; font-size: 0.85rem; font-variant-numeric: tabular-nums; margin: 0.8rem 0; }
th, td { padding: 0.2rem 0.7rem 0.2rem 0; border-bottom: 1px solid #d0d0d0; text-align: left; vertical-align: top; }
th { border-bottom: 2px solid #1a1a1a; }
.number { text-align: right; white-space: nowrap; }
.best { font-weight: 700; } .second { text-decoration: underline; }
.swatch { display: inline-block; width: 0.8em; height: 0.8em; border-radius: 50%; margin-right: 0.4em; }
.gene { font-style: italic; }
@page { size: A4; margin: 12mm; }
@media print {
  body { font-size: 9pt; margin: 0; max-width: none; }
  thead { display: table-header-group; } tr, img { break-inside: avoid; } h2 { break-after: avoid; }
  .swatch { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
</style>
</head>
<body>
<h1>Tissue structure of {{ sample }} ({{ cohort }})</h1>
<p class="facts">{{ facts }}</p>
<h2>Domains</h2>
<p>Spots at their true size. A domain has the colour of the {{ "label" if labelled else "domain of " ~ reference }} that
it shares most spots with, for the eye alone: no score knows of it.</p>
<img src="{{ pictures.domains }}" alt="Map of the domains over the slide">
<ul>
{% for remark in remarks %}
<li>{{ remark }}</li>
{% endfor %}
</ul>
{% for table in scores %}
<h2>Scores, {{ table.title }}</h2>
<p>{{ table.text }}.</p>
<table>
<thead><tr><th>Space</th><th>Domains</th>
{%- for heading in headings %}<th class="number">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}
<tr><td>{{ row.space }}</td><td>{{ row.form }}</td>
{%- for cell in row.cells %}
<td class="number"><span class="{{ cell.mark }}">{{ cell.text }}</span>{{ cell.after }}</td>
{%- endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endfor %}
<p>± is the standard deviation over seeds. {{ legend }}</p>
<h2>What the domains of {{ reference }} hold</h2>
<table>
<thead><tr><th>Domain</th><th class="number">Spots</th>
{%- if labelled %}<th>Labels of its spots</th>{% endif %}<th>Genes that it has more of</th></tr></thead>
<tbody>
{% for row in contents %}
<tr><td><span class="swatch" style="background: {{ row.colour }}"></span>{{ row.domain }}</td>
<td class="number">{{ row.spots }}</td>
{%- if labelled %}<td>{{ row.labels }}</td>{% endif %}<td class="gene">{{ row.genes }}</td></tr>
{% endfor %}
</tbody>
</table>
<p>{{ circular }}</p>
<h2>Layout of the spots</h2>
<p>UMAP of {{ reference }}: spots that are alike lie beside each other. Distances between groups and their sizes mean
little: no number is taken from it. Genes in standard deviations above their mean.</p>
<img src="{{ pictures.umap }}" alt="UMAP of the spots by domain, label and gene">
<h2>Genes that vary over the slide</h2>
<p>{{ agreement }}</p>
<img src="{{ pictures.variable_genes }}" alt="The most variable genes over the slide">
<table>
<thead><tr><th>Gene</th><th class="number">Moran's I</th><th class="number">p</th><th class="number">q</th>
<th class="number">q beyond depth</th>
<th class="number">Spots with it</th><th class="number">Mean</th></tr></thead>
<tbody>
{% for row in genes %}
<tr><td class="gene">{{ row.gene }}</td><td class="number">{{ "%.3f" | format(row.moran_i) }}</td>
<td class="number">{{ "%.1e" | format(row.p) }}</td><td class="number">{{ "%.1e" | format(row.q) }}</td>
<td class="number">{{ "%.1e" | format(row.q_beyond_depth) }}</td>
<td class="number">{{ row.n_spots }}</td><td class="number">{{ "%.2f" | format(row.mean) }}</td></tr>
{% endfor %}
</tbody>
</table>
<p>Moran's I: how alike adjacent spots are, 0 for noise, about 1 for smooth maps; p: the chance of as much where the
values are dealt to the spots at random; q: p corrected for the number of genes; beyond depth: with what the depth of
the spots explains taken out. Mean in log-normalised expression.</p>
</body>
</html>
"""


@dataclass(frozen=True)
class Slide:
    """What is known of a slide and what was found in it.

    Attributes
    ----------
    cohort, sample
        Its names.
    scores, variable_genes, domain_genes, agreement
        Contents of its files of the same names.
    domains
        (N,) domains of the reference space by barcode.
    labels
        Known domains by barcode, NaN where there is none; None for a slide without.
    colours
        `figures.domains.colouring` of the slide.
    """

    cohort: str
    sample: str
    scores: pd.DataFrame
    variable_genes: pd.DataFrame
    domain_genes: pd.DataFrame
    agreement: Mapping[str, float | None]
    domains: pd.Series
    labels: pd.Series | None
    colours: Colouring


def slide_page(
    slide: Slide,
    figures: Mapping[str, str | os.PathLike],
    notes: Mapping[str, str],
    n_domains: int | None,
    label_note: str,
) -> str:
    """Lay out a slide as a page of HTML: all text escaped, no scripts, pictures inside, nothing loaded from elsewhere.

    Parameters
    ----------
    slide
        See `Slide`.
    figures
        PNG files of the ``domains``, the ``umap`` and the ``variable_genes``.
    notes
        Space -> what a reader has to know of it (`table.space_notes`), in display order, the reference first.
    n_domains, label_note
        As for `table.domains_page`.
    """
    reference = next(iter(notes))
    labelled = slide.labels is not None
    remarks = [sought(n_domains), label_note if labelled else NO_LABELS]
    remarks += [f"{space}: {note}" for space, note in notes.items()]
    content = {
        "cohort": slide.cohort,
        "sample": slide.sample,
        "reference": reference,
        "labelled": labelled,
        "facts": _facts(slide),
        "remarks": [remark for remark in remarks if remark and not remark.endswith(": ")],
        "headings": [heading for heading, _ in SCORES.values()],
        "legend": SCORES_LEGEND,
        "scores": _score_tables(domain_table(slide.scores, [slide.cohort], notes)),
        "contents": _contents(slide),
        "circular": CIRCULAR,
        "agreement": agreement_text(slide.agreement, reference),
        "genes": slide.variable_genes.head(GENES_LISTED).to_dict("records"),
        "pictures": {name: _picture(path) for name, path in figures.items()},
    }
    return Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE).render(content) + "\n"


def agreement_text(agreement: Mapping[str, float | None], reference: str) -> str:
    """``agreement.json`` in words."""
    numbers = {name: gene_number(name, value) for name, value in agreement.items() if name in GENE_NUMBERS}
    return (
        f"Of {agreement['n_genes']} genes tested, {agreement['n_spatial']} vary over the slide "
        f"({agreement['n_spatial_beyond_depth']} beyond the depth of their spots) and "
        f"{agreement['n_domain']} separate the domains of {reference} (q < {SIGNIFICANT}); {agreement['n_both']} do "
        f"both: Jaccard index {numbers['jaccard']}, odds ratio {numbers['odds_ratio']} (Fisher's exact test, p = "
        f"{numbers['fisher_p']}), rank correlation {numbers['spearman']}."
    )


def _facts(slide: Slide) -> str:
    text = f"{len(slide.domains)} spots"
    if slide.labels is None:
        return f"{text}, no labels"
    labels = slide.labels.reindex(slide.domains.index)
    return f"{text}, {labels.notna().sum()} of them labelled, {labels.nunique()} classes"


def _score_tables(table: pd.DataFrame) -> list[dict]:
    tables = []
    for clustering, block in table.groupby("clustering", sort=False):
        marks = {name: best_marks(block.assign(kind=""), name) for name, (_, marked) in SCORES.items() if marked}
        rows = [
            {
                "space": values["space"],
                "form": "refined" if values["refined"] else "raw",
                "cells": [score_cell(name, values, "seeds", marks.get(name, {}).get(row, "")) for name in SCORES],
            }
            for row, values in block.iterrows()
        ]
        tables.append({"title": clustering, "text": CLUSTERINGS[clustering].capitalize(), "rows": rows})
    return tables


def _contents(slide: Slide) -> list[dict]:
    """Each domain of the reference: its colour, spots, commonest labels and the genes that mark it."""
    colours, rows = slide.colours.by_domain(slide.domains), []
    more = slide.domain_genes[slide.domain_genes["score"].gt(0) & slide.domain_genes["q"].lt(SIGNIFICANT)]
    for domain, spots in slide.domains.groupby(slide.domains):
        genes = more.loc[more["domain"].eq(domain), "gene"].head(GENES_PER_DOMAIN)
        rows.append(
            {
                "domain": domain,
                "colour": colours[domain],
                "spots": len(spots),
                "labels": "" if slide.labels is None else label_shares(slide.labels.reindex(spots.index)),
                "genes": ", ".join(genes) or "none",
            }
        )
    return rows


def label_shares(labels: pd.Series) -> str:
    """The commonest labels of some spots with their shares of the labelled ones: ``tumour 83 %, stroma 17 %``."""
    shares = labels.value_counts(normalize=True).sort_index().sort_values(ascending=False, kind="stable")
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.head(SHARES_LISTED).items()) or "none"


def _picture(png: str | os.PathLike) -> str:
    """A picture as an address that holds it."""
    packed = io.BytesIO()
    with Image.open(png) as image:
        image.convert("RGB").save(packed, "JPEG", **JPEG)
    return "data:image/jpeg;base64," + base64.b64encode(packed.getvalue()).decode("ascii")
