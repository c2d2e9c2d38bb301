"""HTML page of one slide: domains, variable genes and their agreement."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from spotwise.reporting.embedded_pictures import embedded
from spotwise.reporting.figures.domain_map import Colouring
from spotwise.reporting.tables.domain_tables import (
    CLUSTERINGS,
    GENE_NUMBERS,
    NO_LABELS,
    SCORES,
    SCORES_LEGEND,
    domain_table,
    gene_number,
    n_domains_note,
    score_rows,
)
from spotwise.reporting.templates import render
from spotwise.structure.variable_genes import CIRCULAR, SIGNIFICANT

GENES_LISTED, GENES_PER_DOMAIN, SHARES_LISTED = 20, 6, 3


@dataclass(frozen=True)
class StructureResults:
    """Results of the structure analysis of one slide.

    Tables are the contents of the slide's files. ``domains`` are the (N,) domains of the reference space by barcode,
    coloured by ``colours`` (`domain_map.colouring`).
    """

    cohort: str
    sample: str
    scores: pd.DataFrame
    variable_genes: pd.DataFrame
    domain_genes: pd.DataFrame
    agreement: Mapping[str, float | None]
    domains: pd.Series
    colours: Colouring

    @property
    def labels(self) -> pd.Series | None:
        """Labels by barcode, NaN where there is none, or None without any."""
        return self.colours.classes if self.colours.labelled else None


def render_structure_page(
    results: StructureResults,
    figures: Mapping[str, str | os.PathLike],
    notes: Mapping[str, str],
    n_domains: int | None,
    label_note: str,
) -> str:
    """Render the results of a slide as one self-contained HTML page.

    All text is escaped. The page embeds its pictures and holds no scripts or links.

    Parameters
    ----------
    figures
        PNG files of the ``domains``, the ``umap`` and the ``variable_genes``.
    notes
        Space -> note (`domain_tables.space_notes`), in display order, the reference first.
    n_domains, label_note
        As for `domain_tables.domains_page`.
    """
    reference = next(iter(notes))
    labelled = results.colours.labelled
    remarks = [n_domains_note(n_domains), label_note if labelled else NO_LABELS]
    remarks += [f"{space}: {note}" for space, note in notes.items()]
    return render(
        "structure_page.html",
        cohort=results.cohort,
        sample=results.sample,
        reference=reference,
        labelled=labelled,
        facts=_facts(results),
        remarks=[remark for remark in remarks if remark and not remark.endswith(": ")],
        headings=[heading for heading, _ in SCORES.values()],
        legend=SCORES_LEGEND,
        scores=_score_tables(domain_table(results.scores, [results.cohort], notes)),
        contents=_contents(results),
        circular=CIRCULAR,
        agreement=agreement_text(results.agreement, reference),
        genes=results.variable_genes.head(GENES_LISTED).to_dict("records"),
        pictures={name: embedded(path) for name, path in figures.items()},
    )


def agreement_text(agreement: Mapping[str, float | None], reference: str) -> str:
    """Summarise ``agreement.json`` in words."""
    numbers = {name: gene_number(name, value) for name, value in agreement.items() if name in GENE_NUMBERS}
    return (
        f"Of {agreement['n_genes']} genes tested, {agreement['n_spatial']} vary over the slide "
        f"({agreement['n_spatial_beyond_depth']} beyond the depth of their spots) and "
        f"{agreement['n_domain']} separate the domains of {reference} (q < {SIGNIFICANT}); {agreement['n_both']} do "
        f"both: Jaccard index {numbers['jaccard']}, odds ratio {numbers['odds_ratio']} (Fisher's exact test, p = "
        f"{numbers['fisher_p']}), rank correlation {numbers['spearman']}."
    )


def _facts(results: StructureResults) -> str:
    text = f"{len(results.domains)} spots"
    if results.labels is None:
        return f"{text}, no labels"
    return f"{text}, {results.labels.notna().sum()} of them labelled, {results.labels.nunique()} classes"


def _score_tables(table: pd.DataFrame) -> list[dict]:
    tables = []
    for clustering, block in table.groupby("clustering", sort=False):
        rows = [{"space": space, "form": form, "cells": cells} for space, form, *cells in score_rows(block, "seeds")]
        tables.append({"title": clustering, "text": CLUSTERINGS[clustering].capitalize(), "rows": rows})
    return tables


def _contents(results: StructureResults) -> list[dict]:
    """Describe each domain of the reference by colour, spots, labels and genes."""
    colours, rows = results.colours.by_domain(results.domains), []
    more = results.domain_genes[results.domain_genes["score"].gt(0) & results.domain_genes["q"].lt(SIGNIFICANT)]
    for domain, spots in results.domains.groupby(results.domains):
        genes = more.loc[more["domain"].eq(domain), "gene"].head(GENES_PER_DOMAIN)
        labels = "" if results.labels is None else label_shares(results.labels.reindex(spots.index))
        row = {"domain": domain, "colour": colours[domain], "spots": len(spots), "labels": labels}
        rows.append(row | {"genes": ", ".join(genes) or "none"})
    return rows


def label_shares(labels: pd.Series) -> str:
    """Format the commonest labels of the labelled spots, such as ``tumour 83 %, stroma 17 %``."""
    shares = labels.value_counts(normalize=True).sort_index().sort_values(ascending=False, kind="stable")
    return ", ".join(f"{name} {100 * share:.0f} %" for name, share in shares.head(SHARES_LISTED).items()) or "none"
