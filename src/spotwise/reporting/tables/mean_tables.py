"""Mean correlation over gene sets (Tables 1, 2, 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

import numpy as np
import pandas as pd

from spotwise.constants import ALL_COHORTS, CONTROL
from spotwise.evaluation.averages import GENE_COUNTS, MARKER_FACTS, ROW_KEYS, RUN_FACTS, SECTION, mean_columns
from spotwise.evaluation.gene_sets import MARKER
from spotwise.models.encoder_names import is_pathology_encoder
from spotwise.models.registry import REGISTRY, resolved_options
from spotwise.reporting.tables import remarks
from spotwise.reporting.tables.layout import (
    RANKS,
    Block,
    Cell,
    Column,
    Page,
    Row,
    mean_cell,
    plural,
    ranked,
    run_counts,
)

ABLATION_K = 50  # "The number of similarity-based embeddings used during the inference stage is set to 50"
# options of CMRCNet with a column in Table 5
DESCRIBED = ["reading", "reconstruction_loss", "masked_fraction", "reconstruction"]
# options of CTransPath that define the network with published weights
NETWORK = ("image_size", "embed_dim", "depths", "heads")

AVERAGING = (
    "Pearson correlation per gene across the spots of a test slide, averaged over the genes of the set, then slides, "
    "folds and seeds; ± is the standard deviation over folds. HEG and HVG: the highly variable genes with the highest "
    "mean and the highest variance"
)
CONSTANT = (
    "Constant genes: mean number per slide, of the measured panel genes, whose prediction or truth does not vary; they "
    "score 0. ",
    *RANKS,
)


# --- Contents


def table1(means: pd.DataFrame, top: int) -> pd.DataFrame:
    """Select the means of top HEG, top HVG and markers (the paper's Table 1).

    ``means`` is as returned by `averages.mean_table`, with lists of ``top`` genes.
    """
    sets = [f"HEG_top{top}", f"HVG_top{top}", MARKER]
    return means[[*ROW_KEYS, "kind", *mean_columns(sets), *GENE_COUNTS, *RUN_FACTS, *MARKER_FACTS, "note"]]


def table2(means: pd.DataFrame, extended: Iterable[tuple[int, int]]) -> pd.DataFrame:
    """Select the means of longer gene lists (the paper's Table 2).

    Parameters
    ----------
    means
        As returned by `averages.mean_table`, with all these lists.
    extended
        Size n of each list and the K of retrieval methods for it. A method without this K is shown with its largest
        smaller K, or its smallest if all are larger; among several predictors of one K, with the first.

    Returns
    -------
    DataFrame
        cohort, protocol, method, kind; the means ``HEG_top<n>_k<K>`` and ``HVG_top<n>_k<K>`` with their spreads; of the
        predictors shown ``predictor_``, ``k_``, ``k_used_min_`` and ``n_constant_top<n>_k<K>``; n_genes, n_ranked,
        n_folds, n_seeds, note.
    """
    lists = {f"top{n}_k{k}": (n, k) for n, k in extended}
    sets = [f"{kind}_{name}" for name in lists for kind in ("HEG", "HVG")]
    facts = ("predictor", "k", "k_used_min", "n_constant")
    rows = []
    for _, runs in means.groupby([*SECTION, "method"], sort=False):
        row = runs.iloc[0].to_dict()
        for name, (n, k) in lists.items():
            smaller = runs["k"][runs["k"] <= k]
            run = runs[runs["k"].eq(smaller.max() if len(smaller) else runs["k"].min())].iloc[0]
            row |= {f"{fact}_{name}": run[fact] for fact in facts}
            for kind in ("HEG", "HVG"):
                for spread in ("", "_sd_folds", "_sd_seeds"):
                    row[f"{kind}_{name}{spread}"] = run[f"{kind}_top{n}{spread}"]
        rows.append(row)
    columns = [*SECTION, "method", "kind", *mean_columns(sets)]
    columns += [f"{fact}_{name}" for name in lists for fact in facts]
    columns += ["n_genes", "n_ranked", "n_folds", "n_seeds", "note"]
    return pd.DataFrame(rows if lists else [], columns=columns)


def table4(
    means: pd.DataFrame, top: int, methods: Mapping[str, Mapping], encoders: Mapping[str, Mapping]
) -> pd.DataFrame:
    """Compare pathology foundation models with CMRCNet at its largest K (the paper's Table 4).

    Foundation models are the methods of class CTransPath, and frozen methods on the features of CTransPath or another
    pathology encoder, as the paper does not say what its row "cTransPath" is. CMRCNet is the first method of that
    class. ``methods`` and ``encoders`` are sections of the configuration, with ``model`` and defaults filled in.

    The columns are those of Table 1, without the markers and with ``encoder``, its name and training. Without a
    foundation model there are no rows.
    """
    described = {name: _foundation_model(settings, encoders) for name, settings in methods.items()}
    foundation = {name: text for name, text in described.items() if text}
    cmrcnet = next((name for name, settings in methods.items() if settings["model"] == "CMRCNet"), None)
    largest = means.loc[means["method"].eq(cmrcnet), "k"].max()
    chosen = means["method"].isin(foundation) | means["kind"].eq(CONTROL)
    chosen |= means["method"].eq(cmrcnet) & means["k"].eq(largest)
    rows = means[chosen & bool(foundation)].drop_duplicates([*SECTION, "method"])
    texts = {**foundation, cmrcnet: "own, from scratch"}
    rows = rows.assign(encoder=rows["method"].map(texts).fillna(""))
    sets = [f"HEG_top{top}", f"HVG_top{top}"]
    return rows[[*ROW_KEYS, "kind", "encoder", *mean_columns(sets), *GENE_COUNTS, *RUN_FACTS, "note"]]


def table5(
    means: pd.DataFrame, top: int, methods: Mapping[str, Mapping], training: Mapping[str, object]
) -> pd.DataFrame:
    """Compare variants of CMRCNet, and its encoder under BLEEP's loss (the paper's Table 5).

    ``methods`` and ``training`` are sections of the configuration, with defaults filled in.

    Returns
    -------
    DataFrame
        As Table 1, with the columns `DESCRIBED` and ``other``, which lists further differences from the first CMRCNet
        of the run. Means over cohorts (cohort `ALL_COHORTS`; spreads are root mean squares, n_folds a sum) come before
        each cohort. A method is represented by its predictor with K = 50, else by its first. Empty without a method.
    """
    variants = _variants(methods, training)
    of_variants = means[means["method"].isin(variants.index)]
    preferred = pd.concat([of_variants[of_variants["k"].eq(ABLATION_K)], of_variants])
    preferred = preferred.drop_duplicates([*SECTION, "method"]).sort_index()
    rows = pd.concat([preferred, means[means["kind"].eq(CONTROL) & bool(len(preferred))]]).sort_index()
    sets = [f"HEG_top{top}", f"HVG_top{top}", MARKER]
    rows = pd.concat([_over_cohorts(rows, sets), rows.assign(n_cohorts=1)], ignore_index=True)
    rows = rows.join(variants, on="method").fillna(dict.fromkeys((*variants, "markers_missing", "note"), ""))
    columns = [*ROW_KEYS, "kind", *DESCRIBED, "other", *mean_columns(sets), *GENE_COUNTS, "n_cohorts", *RUN_FACTS]
    return rows[[*columns, *MARKER_FACTS, "note"]]


def _foundation_model(settings: Mapping, encoders: Mapping[str, Mapping]) -> str:
    """Describe a pathology foundation model, else return an empty text."""
    model = settings["model"]
    if model == "CTransPath":
        options, published = resolved_options(model, settings["options"]), resolved_options(model, {})
        has_weights = options["checkpoint"] or all(options[key] == published[key] for key in NETWORK)
        fine_tuned = has_weights and options["pretrained"] != "no"
        return "CTransPath, fine-tuned" if fine_tuned else "CTransPath, from scratch"
    if REGISTRY[model].kind == "frozen":
        encoder = encoders[settings["encoder"]]
        if is_pathology_encoder(encoder["timm"]):
            return f"{encoder['timm']}, frozen" + (", random weights" if encoder["pretrained"] == "no" else "")
    return ""


def _variants(methods: Mapping[str, Mapping], training: Mapping[str, object]) -> pd.DataFrame:
    """Describe the differences of each method of Table 5 in `DESCRIBED` and ``other``."""
    settings = {
        name: {
            **resolved_options("CMRCNet", entry["options"]),
            **{f"training.{key}": value for key, value in (training | entry["training"]).items()},
            **{key: entry[key] for key in ("harmony", "targets", "features")},
        }
        for name, entry in methods.items()
        if entry["model"] == "CMRCNet"
    }
    usual = next(iter(settings.values()), {})
    rows = {}
    for name, entry in methods.items():
        if name in settings:
            own = settings[name]
            rows[name] = {key: f"{own[key]:g}" if key == "masked_fraction" else own[key] for key in DESCRIBED}
            if own["reconstruction"] == "none":
                rows[name] |= {"reconstruction_loss": "", "masked_fraction": ""}
            others = [key for key in own if key not in DESCRIBED and own[key] != usual[key]]
            rows[name]["other"] = ", ".join(f"{key} {own[key]}" for key in others)
        elif entry["model"] == "BLEEP" and resolved_options("BLEEP", entry["options"])["encoder"] == "vit":
            rows[name] = {"reconstruction": "none", "other": "BLEEP's loss"}
    names = pd.Index(list(rows), dtype=object)
    return pd.DataFrame(list(rows.values()), index=names, columns=[*DESCRIBED, "other"]).fillna("")


def _over_cohorts(rows: pd.DataFrame, sets: Sequence[str]) -> pd.DataFrame:
    """Average each protocol and predictor over cohorts, as rows of the cohort `ALL_COHORTS`."""
    keys = ["protocol", "predictor"]
    cohorts = rows.groupby(keys, sort=False)
    spreads = [column for column in mean_columns(sets) if column not in sets]
    squares = rows[keys].join(rows[spreads] ** 2).groupby(keys, sort=False)
    parts = [
        cohorts[["method", "kind", "k"]].first(),
        cohorts[sets].mean().where(cohorts[sets].count().eq(cohorts.size(), axis=0)),  # NaN unless all cohorts have it
        cohorts[GENE_COUNTS].mean(),
        np.sqrt(squares[spreads].mean()),
        cohorts[["n_folds", "markers_found", "markers_listed"]].sum(),
        cohorts[["n_seeds", "note"]].max(),  # a note of any cohort
        cohorts["k_used_min"].min(),
        cohorts.size().rename("n_cohorts"),
    ]
    return pd.concat(parts, axis=1).reset_index().assign(cohort=ALL_COHORTS)


# --- Layout


def page1(table: pd.DataFrame) -> Page:
    """Lay out `table1`."""
    legend = (f"{AVERAGING}; marker: the cohort's marker genes that were measured. ", *CONSTANT)
    return _page("table1", "gene expression predicted from H&E", legend, table, {"predictor": "Predictor"})


def page2(table: pd.DataFrame) -> Page:
    """Lay out `table2`."""
    legend = (
        f"{AVERAGING}. K: the number of retrieved spots that retrieval methods average for this list. ",
        *CONSTANT,
    )
    nothing = "No longer gene lists are configured (evaluation.extended)."
    return _page("table2", "longer gene lists", legend, table, {"method": "Method"}, _remarks_on_lists, nothing)


def page4(table: pd.DataFrame) -> Page:
    """Lay out `table4`."""
    legend = (
        f"{AVERAGING}. Encoder: which, and whether it was trained here from scratch, fine-tuned from published weights "
        "or left frozen; CMRCNet stands with its largest K. ",
        *CONSTANT,
    )
    nothing = (
        "This run has no pathology foundation model to compare with CMRCNet: no method of class CTransPath, and no "
        "Ridge or KNNImage on the features of a pathology encoder."
    )
    labels = {"predictor": "Predictor", "encoder": "Encoder"}
    return _page("table4", "pathology foundation models", legend, table, labels, remarks.of_means, nothing)


def page5(table: pd.DataFrame) -> Page:
    """Lay out the means over cohorts of `table5`, with remarks on each cohort."""
    legend = (
        f"{AVERAGING}; marker: the cohort's marker genes that were measured. Means over cohorts; ± is the root mean "
        "square of the cohorts' spreads. Masked: fraction of the values set to zero. In the released code of CMRCNet "
        "mask_prob is the fraction kept, so the paper's rows 0.3 and 0.7 may be swapped. Otherwise: further "
        "differences from the first CMRCNet of the run. ",
        *CONSTANT,
    )
    labels = {
        "predictor": "Predictor",
        "reading": "Reading",
        "reconstruction_loss": "Loss",
        "masked_fraction": "Masked",
        "reconstruction": "Reconstructed",
        "other": "Otherwise",
    }
    each = table[table["cohort"].ne(ALL_COHORTS)]

    def remarks_by_cohort(block: pd.DataFrame, sets: Sequence[str]) -> list[str]:
        cohorts = each[each["protocol"].isin(block["protocol"])].groupby("cohort", sort=False)
        lines = [f"{cohort}: {line}" for cohort, rows in cohorts for line in remarks.of_means(rows, sets)]
        return [f"{plural(cohorts.ngroups, 'cohort')}: {', '.join(cohorts.groups)}", *lines]

    means = table[table["cohort"].eq(ALL_COHORTS)]
    nothing = "This run has no method of class CMRCNet to vary."
    return _page("table5", "variants of CMRCNet", legend, means, labels, remarks_by_cohort, nothing)


def _page(
    name: str,
    title: str,
    legend: Sequence[str | Cell],
    table: pd.DataFrame,
    labels: Mapping[str, str],
    remarks_on: Callable[[pd.DataFrame, Sequence[str]], Iterable[str]] = remarks.of_means,
    nothing: str = "",
) -> Page:
    sets = [column.removesuffix("_sd_folds") for column in table if column.endswith("_sd_folds")]
    columns = [Column(label, numeric=False) for label in labels.values()]
    columns += [*(Column(remarks.heading(name)) for name in sets), Column("constant genes", detail=True)]
    blocks = []
    for (cohort, protocol), block in table.groupby(SECTION, sort=False):
        rows = []
        for values, marks in ranked(block, sets):
            first, *others = (values[label] for label in labels)
            cells = [remarks.name_cell(first, values["note"]), *map(Cell, others)]
            cells += [mean_cell(values[name], values[f"{name}_sd_folds"], marks[name]) for name in sets]
            rows.append(Row([*cells, _constant_cell(values)], values["kind"] == CONTROL))
        said = list(dict.fromkeys(remarks_on(block, sets)))
        blocks.append(Block(cohort, protocol, columns, rows, said, run_counts(block)))
    return Page(name, title, legend, blocks, nothing, f"Table {name[-1]}")


def _constant_cell(values: pd.Series) -> Cell:
    """Format the constant genes of each predictor in a row of Table 2."""
    numbers = [f"{value:.4g}" for column, value in values.items() if column.startswith("n_constant")]
    return Cell(f"{' / '.join(dict.fromkeys(numbers))} of {values['n_genes']:.4g}")


def _remarks_on_lists(block: pd.DataFrame, sets: Sequence[str]) -> Iterator[str]:
    """Yield remarks on Table 2, such as predictors with another K than configured."""
    for name in dict.fromkeys(name.partition("_")[2] for name in sets):
        size, k = name.removeprefix("top").split("_k")
        runs = block.rename(columns={f"{fact}_{name}": fact for fact in ("predictor", "k", "k_used_min")})
        for other, some in runs[runs["k"].gt(0) & runs["k"].ne(int(k))].groupby("k"):
            yield f"top {size}: K {other}, as there is none with K {k}: {', '.join(some['predictor'])}"
        yield from remarks.small_banks(runs)
    yield from remarks.short_lists(block, sets)
    yield from remarks.notes(block, names="method")
