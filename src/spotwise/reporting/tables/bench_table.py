"""Table of the HEST benchmark: our scores beside the published ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from spotwise.constants import FELL_BACK, IMAGENET_FEATURES
from spotwise.evaluation.bench_published import AVERAGE, published_as, published_tasks
from spotwise.evaluation.hest_bench import summarise
from spotwise.models.encoder_names import is_imagenet_small
from spotwise.models.ridge import HEST_COMPONENTS
from spotwise.reporting.tables.layout import Block, Cell, Column, Page, Row, mean_cell, plural

WITHOUT_WEIGHTS = "random weights, as configured: no number to compare with the published one"
SCORES = ("pcc", "pcc_per_slide", "pcc_cv", "pcc_cv_per_slide")
COLUMNS = [
    *("encoder", "timm", "task", "n_folds", "n_slides", "n_spots", "n_spots_without_patch", "n_genes", "components"),
    *("pcc", "pcc_sd_folds", "model", "published", "difference", "pcc_per_slide", "pcc_cv", "pcc_cv_per_slide"),
    *("alpha_cv", "n_constant", "note"),
]
HEADINGS = ("Task", "PCC ± sd over folds", "Published", "Difference", "PCC per slide", "PCC, CV", "PCC, CV, per slide")
LEGEND = (
    "Under the benchmark's protocol: its folds and genes, log(1 + counts), 256 principal components, ridge regression "
    "with its penalty and without intercept, Pearson correlation of each gene over all test spots of a fold, mean over "
    "genes, then folds; ± is the standard deviation over folds (n). Difference: ours minus published. ",
    "Not part of the benchmark, on the same features: per slide, each gene correlated within each test slide, so that "
    "differences between slides earn nothing; CV, the penalty chosen on training slides left out in turn.",
)


def bench_table(
    scores: Mapping[tuple[str, str], pd.DataFrame], facts: Mapping[str, Mapping], published: pd.DataFrame
) -> pd.DataFrame:
    """Set the scores of the benchmark beside the published ones.

    Parameters
    ----------
    scores
        Scores of `hest_bench.score_task` by encoder and task, with the columns ``timm``, ``pretrained`` and
        ``fell_back``.
    facts
        Numbers of slides, spots and genes by task, as of `BenchTargets.facts`.
    published
        As from `read_published_benchmark`.

    Returns
    -------
    DataFrame
        `COLUMNS`, a row per encoder and task, and a row `AVERAGE` for an encoder with several tasks. ``model`` is the
        published row's name. The published average is shown only where exactly its tasks have run, and nothing is
        compared with an encoder of random weights.
    """
    rows = []
    for encoder in dict.fromkeys(encoder for encoder, _ in scores):
        block = pd.concat(
            [
                _task_row(encoder, task, part, facts[task])
                for (of_encoder, task), part in scores.items()
                if of_encoder == encoder
            ],
            ignore_index=True,
        )
        if len(block) > 1:
            block = pd.concat([block, _average_row(block)], ignore_index=True)
        rows.append(_compared(block, published))
    return pd.concat(rows, ignore_index=True)[COLUMNS]


def _task_row(encoder: str, task: str, scores: pd.DataFrame, facts: Mapping) -> pd.DataFrame:
    first = scores.iloc[0]
    row = summarise(scores).assign(encoder=encoder, timm=first["timm"], task=task, pretrained=bool(first["pretrained"]))
    counts = {name: facts[name] for name in ("n_slides", "n_spots", "n_spots_without_patch", "n_genes")}
    return row.assign(**counts, note=_note(first))


def _note(scored: pd.Series) -> str:
    """Say what a reader must know of an encoder's weights."""
    if scored["fell_back"]:
        return FELL_BACK
    if not scored["pretrained"]:
        return WITHOUT_WEIGHTS
    return IMAGENET_FEATURES if is_imagenet_small(scored["timm"]) else ""


def _average_row(block: pd.DataFrame) -> pd.DataFrame:
    first = block.iloc[0]
    row = {"encoder": first["encoder"], "timm": first["timm"], "task": AVERAGE, "pretrained": block["pretrained"].all()}
    sums = ("n_folds", "n_slides", "n_spots", "n_spots_without_patch", "n_constant")
    row |= {name: block[name].mean() for name in SCORES} | {name: block[name].sum() for name in sums}
    return pd.DataFrame([row | {"note": first["note"]}])


def _compared(block: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """Add the published row of an encoder, where its weights are the published ones."""
    known = published_as(published, block["timm"].iloc[0])
    block = block.assign(model="", published=float("nan"))
    if len(known) and block["pretrained"].all():
        values = known.set_index("task")["published"]
        block["model"] = known["model"].iloc[0]
        block["published"] = block["task"].map(values)
        others = set(block["task"]) - {AVERAGE} != published_tasks(published)
        block.loc[block["task"].eq(AVERAGE) & others, "published"] = float("nan")
        block["note"] = known["remark"].iloc[0]
    return block.assign(difference=block["pcc"] - block["published"])


# --- Layout -----------------------------------------------------------------------------------------------------------


def bench_page(table: pd.DataFrame) -> Page:
    """Lay out `bench_table`, with a block per encoder."""
    columns = [Column(HEADINGS[0], numeric=False), *map(Column, HEADINGS[1:])]
    blocks = []
    for encoder, block in table.groupby("encoder", sort=False):
        rows = [Row(_cells(values)) for _, values in block.iterrows()]
        tasks = block[block["task"].ne(AVERAGE)]
        runs = [f"{len(tasks)} tasks" if len(tasks) != 1 else "1 task", plural(int(tasks["n_folds"].sum()), "fold")]
        blocks.append(Block(encoder, "", columns, rows, list(remarks(tasks)), runs))
    return Page("hest_bench", "HEST benchmark", LEGEND, blocks)


def _cells(values: pd.Series) -> list[Cell]:
    others = [mean_cell(values[name], float("nan")) for name in SCORES[1:]]
    compared = [mean_cell(values["published"], float("nan")), signed_cell(values["difference"])]
    return [Cell(values["task"]), mean_cell(values["pcc"], values["pcc_sd_folds"]), *compared, *others]


def signed_cell(value: float) -> Cell:
    """Format a difference with its sign and four decimals, NaN as a dash."""
    return Cell("–" if pd.isna(value) else f"{value:+.4f}")


def remarks(tasks: pd.DataFrame) -> Iterator[str]:
    """Yield what a reader of an encoder's rows must know, a sentence each."""
    first = tasks.iloc[0]
    compared = tasks["difference"].dropna().abs()
    yield f"timm: {first['timm']}" + (f"; published as {first['model']}" if first["model"] else "; not published")
    if len(compared):
        largest = tasks.loc[compared.idxmax(), "task"]
        distances = f"median {compared.median():.4f}, largest {compared.max():.4f} ({largest})"
        yield f"Distance from the published numbers: {distances}"
    if first["note"]:
        yield first["note"]
    few = tasks[tasks["components"] < HEST_COMPONENTS]
    if len(few):
        yield f"Fewer than {HEST_COMPONENTS} components: {_listed(few, 'components')}; the penalty follows"
    for name, said in (
        ("n_spots_without_patch", "Spots without a patch, left out"),
        ("n_constant", "Genes constant over a fold, scored 0 (the benchmark's code gives no score then)"),
    ):
        if len(some := tasks[tasks[name] > 0]):
            yield f"{said}: {_listed(some, name)}"


def _listed(tasks: pd.DataFrame, column: str) -> str:
    pairs: Sequence[tuple] = list(tasks[["task", column]].itertuples(index=False, name=None))
    return ", ".join(f"{task} {int(number)}" for task, number in pairs)
