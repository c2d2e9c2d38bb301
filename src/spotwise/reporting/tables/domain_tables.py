"""Tables of tissue structure: domains against labels, and spatially variable genes."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import h5py
import pandas as pd

from spotwise.constants import FELL_BACK, IMAGENET_FEATURES, KMEANS, LEIDEN, METHOD
from spotwise.evaluation.averages import over_runs
from spotwise.models.encoder_names import is_imagenet_small
from spotwise.reporting.tables import remarks
from spotwise.reporting.tables.layout import BEST, SECOND, Block, Cell, Column, Page, Row, mean_cell, plural, ranked
from spotwise.structure.spaces import half_names
from spotwise.structure.structure_tables import read_structure_table
from spotwise.structure.variable_genes import CIRCULAR, SIGNIFICANT

KEYS = ["cohort", "space", "clustering", "refined"]
# column -> heading, and whether the best is marked
SCORES = {
    "ARI": ("ARI", True),
    "AMI": ("AMI", True),
    "homogeneity": ("homogeneity", True),
    "completeness": ("completeness", True),
    "silhouette": ("silhouette", False),
    "pas": ("PAS", False),
    "n_domains": ("domains", False),
}
CLUSTERINGS = {
    KMEANS: "groups around as many centres as domains are requested",
    LEIDEN: "communities of the graph of nearest spots, as close to the requested number of domains as possible",
}
SCORES_LEGEND = (
    "ARI and AMI: agreement of domains with labels beyond chance, 0 by chance, best 1. Homogeneity: a domain has spots "
    "of one label; completeness: the spots of a label lie in one domain; best 1, and not corrected for chance. Only "
    "labelled spots count in these four. Silhouette: how far the domains lie apart in their own space; not to be "
    "compared between spaces. PAS: share of spots that lie mostly among spots of other domains; low where domains are "
    "smooth, and refining makes them smooth whether or not they are right."
)
DOMAINS_LEGEND = (
    "Means over slides and seeds; ± is the standard deviation over slides (the one over seeds is in the CSV). "
    f"{SCORES_LEGEND} Best of a clustering ",
    Cell("bold", BEST),
    ", second best ",
    Cell("underlined", SECOND),
    ".",
)
NO_LABELS = "The slides have no labels, so nothing shows whether the domains are those of the tissue"
GENES_LEGEND = (
    f"Genes that vary over the slide (Moran's I, q < {SIGNIFICANT}); beyond depth: those that still do after the "
    "effect of the spots' depth is removed, which can remove genes of dense tissue, too. Genes that separate the "
    f"domains of the reference space (rank sum test, q < {SIGNIFICANT} in any domain), and their overlap with those "
    "that vary: "
    "Jaccard index, odds ratio and its p by Fisher's exact test, rank correlation of Moran's I with a gene's largest "
    "score in a domain. Top: the most clearly variable genes.",
)
GENE_COUNTS = {
    "n_genes": "genes tested",
    "n_spatial": "variable",
    "n_spatial_beyond_depth": "beyond depth",
    "n_domain": "of domains",
    "n_both": "both",
}
GENE_NUMBERS = {"jaccard": "Jaccard", "odds_ratio": "odds ratio", "fisher_p": "p", "spearman": "Spearman"}


def read_scores(paths: Iterable[str | os.PathLike]) -> pd.DataFrame:
    """Read the ``domain_scores.tsv`` of some slides."""
    return pd.concat(map(read_structure_table, paths), ignore_index=True)


def encoder_notes(spaces: Iterable[str | os.PathLike]) -> dict[str, str]:
    """Map the names of the spaces whose image encoder had no published weights, or not of pathology, to a note."""
    found = {}
    for path in spaces:
        with h5py.File(path) as file:
            if not file.attrs.get("pretrained", True):
                fell_back = file.attrs.get("fell_back", False)
                found[file.attrs["space"]] = FELL_BACK if fell_back else "image encoder without published weights"
            elif is_imagenet_small(file.attrs.get("encoder", "")):
                found[file.attrs["space"]] = f"image {IMAGENET_FEATURES}"
    return found


def space_notes(kinds: Mapping[str, tuple[str, str]], encoders: Mapping[str, str]) -> dict[str, str]:
    """Describe each space, and the halves of a model's space, in a note.

    ``kinds`` maps a space to the kind of its method (``baseline`` without one) and the scope of a clustering method,
    ``encoders`` is as returned by `encoder_notes`.
    """
    learnt = {
        "retrieval": "trained on other slides only: the model has not seen the slide that it embeds",
        "clustering": {"slide": "trained on the slide alone", "cohort": "trained on the slides of the cohort together"},
    }
    notes = {}
    for space, (kind, scope) in kinds.items():
        said = learnt.get(kind, "")
        parts = [said[scope] if isinstance(said, dict) else said]
        parts.append(encoders.get(space, ""))
        notes[space] = "; ".join(filter(None, parts))
        if said:
            for name, origin in zip(half_names(space), ("images", "expression"), strict=True):
                notes[name] = f"embedding of the {origin} alone, trained together with its other half"
    return notes


def domain_table(scores: pd.DataFrame, cohorts: Sequence[str], notes: Mapping[str, str]) -> pd.DataFrame:
    """Average the scores of domains by cohort, space, clustering and refinement.

    ``scores`` has the rows of ``domain_scores.tsv`` of all slides. ``cohorts`` and ``notes`` (space -> note) are in
    display order.

    Returns
    -------
    DataFrame
        `KEYS`; the means of `SCORES` over slides, then seeds; ``_sd_slides`` (seeds averaged) and ``_sd_seeds`` (slides
        averaged), with ddof 1 and NaN for a single one; n_slides, n_labelled_slides (which count in label scores),
        n_seeds, note.
    """
    means = over_runs(scores.assign(fold=scores["sample"]), KEYS, list(SCORES))
    means.columns = [name.replace("_sd_folds", "_sd_slides") for name in means.columns]
    rows = scores.groupby(KEYS)
    labelled = scores[scores["n_labelled"] > 0].groupby(KEYS)["sample"].nunique()
    table = means.assign(
        n_slides=rows["sample"].nunique(),
        n_labelled_slides=labelled.reindex(means.index, fill_value=0),
        n_seeds=rows["seed"].nunique(),
    ).reset_index()
    table["note"] = table["space"].map(notes)
    ranks = {
        name: {value: place for place, value in enumerate(order)}
        for name, order in (("cohort", cohorts), ("clustering", CLUSTERINGS), ("space", notes))
    }
    by = ["cohort", "clustering", "space", "refined"]
    return table.sort_values(by, key=lambda column: column.map(ranks.get(column.name, int)), ignore_index=True)


def domains_page(table: pd.DataFrame, n_domains: int | None, note: str) -> Page:
    """Lay out `domain_table`.

    ``n_domains`` is as configured, None for the number of classes of a slide's labels. ``note`` is the note of the
    configuration on the labels, which may be empty.
    """
    columns = [Column("Space", numeric=False), Column("Domains", numeric=False)]
    columns += [Column(heading) for heading, _ in SCORES.values()]
    blocks = []
    for (cohort, clustering), block in table.groupby(["cohort", "clustering"], sort=False):
        scores = score_rows(block, "slides")
        noted = dict(zip(block["space"], block["note"], strict=True))
        rows = [Row([remarks.name_cell(space, noted[space]), Cell(form), *cells]) for space, form, *cells in scores]
        said = [n_domains_note(n_domains), note if block["n_labelled_slides"].any() else NO_LABELS]
        said += remarks.notes(block[~block["refined"]], "space")
        runs = plural(block["n_slides"].max(), "slide"), plural(block["n_seeds"].max(), "seed")
        blocks.append(Block(cohort, clustering, columns, rows, list(filter(None, said)), runs))
    return Page("domains", "Tissue domains", DOMAINS_LEGEND, blocks, sections=CLUSTERINGS, noun="clustering")


def score_rows(block: pd.DataFrame, over: str) -> Iterator[list]:
    """Yield space, form and the cells of `SCORES`, with spreads over ``slides`` or ``seeds``."""
    marked = [name for name, (_, is_marked) in SCORES.items() if is_marked]
    for values, marks in ranked(block.assign(kind=METHOD), marked):
        cells = [mean_cell(values[name], values[f"{name}_sd_{over}"], marks.get(name, "")) for name in SCORES]
        cells[-1] = Cell(f"{values['n_domains']:.1f}")
        yield [values["space"], "refined" if values["refined"] else "raw", *cells]


def n_domains_note(n_domains: int | None) -> str:
    """Say where the number of domains comes from."""
    if n_domains is None:
        return "The number of domains was taken from the labels: that of their classes"
    return f"{n_domains} domains were requested, as configured"


def variable_gene_table(
    agreements: Mapping[tuple[str, str], str | os.PathLike], genes: Iterable[str | os.PathLike], top: int
) -> pd.DataFrame:
    """Summarise the variable genes of each slide and their overlap with domain genes.

    ``agreements`` maps cohort and slide to ``agreement.json``; ``genes`` has their ``variable_genes.tsv`` in the same
    order. Columns are cohort, sample, the numbers of ``agreement.json``, and the ``top`` most clearly variable genes,
    separated by spaces.
    """
    rows = []
    for ((cohort, sample), agreement), listed in zip(agreements.items(), genes, strict=True):
        numbers = json.loads(Path(agreement).read_text(encoding="utf-8"))
        names = read_structure_table(listed)["gene"].head(top)
        rows.append({"cohort": cohort, "sample": sample, **numbers, "top_genes": " ".join(names)})
    return pd.DataFrame(rows).astype(dict.fromkeys(GENE_NUMBERS, float))


def variable_genes_page(table: pd.DataFrame, reference: str) -> Page:
    """Lay out `variable_gene_table` for the domains of the space ``reference``."""
    columns = [Column("Slide", numeric=False)]
    columns += [Column(heading) for heading in (*GENE_COUNTS.values(), *GENE_NUMBERS.values())]
    columns += [Column("top", numeric=False)]
    blocks = []
    for cohort, block in table.groupby("cohort", sort=False):
        rows = []
        for values in block.to_dict("records"):
            counts = [Cell(str(values[name])) for name in GENE_COUNTS]
            numbers = [Cell(gene_number(name, values[name])) for name in GENE_NUMBERS]
            rows.append(Row([Cell(values["sample"]), *counts, *numbers, Cell(values["top_genes"])]))
        said = [f"The domains are those of {reference}, by k-means, first seed, not refined", CIRCULAR]
        blocks.append(Block(cohort, "", columns, rows, said, [plural(len(block), "slide")]))
    return Page("variable_genes", "Spatially variable genes", GENES_LEGEND, blocks)


def gene_number(name: str, value: float) -> str:
    """Format one of `GENE_NUMBERS`, NaN as a dash."""
    if pd.isna(value):
        return "–"
    return {"fisher_p": f"{value:.1e}", "odds_ratio": f"{value:.1f}"}.get(name, f"{value:.2f}")
