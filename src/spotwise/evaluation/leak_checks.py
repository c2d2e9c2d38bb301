"""Checks for leaks from test slides to training, within a fold or between slides of the run.

Every check reads the data of the run, not its plan.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from spotwise.constants import EXTERNAL, PAPER, TEST, TRAIN, VAL
from spotwise.data.fingerprints import FEWEST_COUNTS, picture_distance, shared_spots
from spotwise.data.folds import Fold
from spotwise.data.genes import select_genes

if TYPE_CHECKING:
    from anndata import AnnData

CLEAN, BY_DESIGN, LEAK, WARNING, NOT_CHECKED = "clean", "by design", "leak", "warning", "not checked"
ALL = "all"

# checks of one fold
PATIENTS = "patients on both sides"
SPOTS = "spots on both sides"
TWINS = "same slide under two names on both sides"
PANEL = "gene panel chosen with test slides"
RANKING = "evaluation genes ranked on the test slide"
CHECKPOINT = "checkpoint chosen on slides or patients that train"
EXTERNAL_TRUTH = "predictions of other tools equal to the truth"
EXTERNAL_TRAINING = "training slides of other tools"
# checks of the run
SAME_FILE, SAME_PICTURE, SAME_COUNTS = "same file twice", "same picture twice", "same counts twice"
NO_TISSUE, OFF_TISSUE = "spots whose patch shows no tissue", "spots marked as off the tissue"

# Between the largest distance of a copy (.22) and the smallest of two slides (.32), see docs/limitations.md
SAME_PICTURE_DISTANCE = 0.25
SAME_COUNTS_SHARE = 0.05  # Jaccard's index; different slides have no spot in common
OFF_TISSUE_WARNING = 0.05  # share of a slide's spots
COPIED_CORRELATION = 0.999  # above which a gene of a prediction is taken for a copy of the measurement
MOST_NAMES = 10


@dataclass(frozen=True)
class Finding:
    """One row of the audit.

    ``cohort``, ``protocol`` and ``fold`` say what was checked, `ALL` where the check covers several. ``n`` is the
    number of patients, spots, genes, or pairs of slides found. It is 0 where the status is clean, except for up to
    `OFF_TISSUE_WARNING` of a slide's spots off the tissue. ``detail`` names them, or the reason why nothing was
    checked.
    """

    cohort: str
    protocol: str
    fold: str
    check: str
    status: str
    n: int
    detail: str


@dataclass(frozen=True)
class Twins:
    """Two samples that one check identifies as the same slide, and their likeness."""

    first: str
    second: str
    check: str
    likeness: str


def _found(fold: Fold, check: str, n: int, detail: str, status: str | None = None) -> Finding:
    if status is None:
        status = CLEAN if n == 0 else BY_DESIGN if fold.protocol == PAPER else LEAK
    return Finding(fold.cohort, fold.protocol, str(fold.fold), check, status, n, detail)


def _names(values: Iterable[object]) -> str:
    names = sorted(map(str, values))
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _slides(fold: Fold, *roles: str) -> set[str]:
    return set(fold.sample[fold.rows(*roles)])


def shared_patients(fold: Fold) -> Finding:
    """Find patients with both training or validation spots and test spots."""
    known = set(fold.patient[fold.bank])
    shared = known & set(fold.patient[fold.rows(TEST)])
    parts = []
    for patient in sorted(shared):
        training, test = (
            _names(set(fold.sample[rows][fold.patient[rows] == patient])) for rows in (fold.bank, fold.rows(TEST))
        )
        parts.append(f"{patient}: {training} in training, {test} in test")
    return _found(fold, PATIENTS, len(shared), "; ".join(parts))


def shared_rows(fold: Fold) -> Finding:
    """Find test spots of a training slide or with the expression of a training spot.

    Either is a leak under any protocol. Spots with fewer than `FEWEST_COUNTS` counts are not compared by expression.
    """
    tested, trains = fold.rows(TEST), _slides(fold, TRAIN, VAL)
    of_known_slide = np.isin(fold.sample[tested], list(trains))
    repeated = np.zeros(len(tested), dtype=bool)
    for sample in _slides(fold, TEST):
        here = (fold.sample[tested] == sample) & (fold.total_counts[tested] >= FEWEST_COUNTS)
        measured = ~np.isnan(fold.expression[fold.rows(TEST, sample=sample)]).any(axis=0)
        seen = {row.tobytes() for row in fold.expression[np.ix_(fold.bank, measured)]}
        repeated[here] = [row.tobytes() in seen for row in fold.expression[np.ix_(tested[here], measured)]]
    parts = []
    if of_known_slide.any():
        parts.append(f"{of_known_slide.sum()} spots of training slides: {_names(trains & _slides(fold, TEST))}")
    if repeated.any():
        where = _names(set(fold.sample[tested[repeated]]))
        parts.append(f"{repeated.sum()} spots of {where} with the expression of a training spot")
    n = int((of_known_slide | repeated).sum())
    return _found(fold, SPOTS, n, "; ".join(parts), LEAK if n else CLEAN)


def separated_twins(fold: Fold, twins: Iterable[Twins]) -> Finding:
    """Find slides that are in test and, under another name, in training."""
    tested, known = _slides(fold, TEST), _slides(fold, TRAIN, VAL)
    patient_of = dict(zip(fold.sample, fold.patient, strict=True))
    pairs: dict[tuple[str, str], list[str]] = {}
    for twin in twins:
        for one, other in ((twin.first, twin.second), (twin.second, twin.first)):
            if one in tested and other in known:
                pairs.setdefault((one, other), []).append(f"{twin.check.removesuffix(' twice')} ({twin.likeness})")
    detail = "; ".join(
        f"{one} ({patient_of[one]}) in test is {other} ({patient_of[other]}) in training: {', '.join(why)}"
        for (one, other), why in sorted(pairs.items())
    )
    return _found(fold, TWINS, len(pairs), detail, LEAK if pairs else CLEAN)


class Panels:
    """Gene panels selected again from counts, one cohort at a time.

    ``n_top`` and ``target_sum`` are those of :func:`spotwise.data.genes.select_genes`.
    """

    def __init__(self, n_top: int, target_sum: float | None):
        self.n_top, self.target_sum = n_top, target_sum
        self.cohort: str | None = None
        self.counts: dict[str, AnnData] = {}
        self.markers: Sequence[str] = ()
        self.chosen: dict[frozenset[str], set[tuple[str, bool]]] = {}

    def enter(self, cohort: str, counts: Mapping[str, str | os.PathLike], markers: Sequence[str]) -> None:
        """Read the counts of a cohort's slides unless they are loaded."""
        if cohort == self.cohort:
            return
        from anndata import read_h5ad

        self.cohort, self.markers, self.chosen = cohort, markers, {}
        self.counts = {sample: read_h5ad(path) for sample, path in counts.items()}

    def of(self, samples: Iterable[str]) -> set[tuple[str, bool]]:
        """Select the gene panel of these slides, as `_selection`."""
        key = frozenset(samples)
        if key not in self.chosen:
            slides = {sample: self.counts[sample] for sample in sorted(key)}
            panel, _ = select_genes(slides, self.n_top, self.markers, self.target_sum)
            self.chosen[key] = _selection(panel["gene"].to_numpy(), panel["n_slides_hvg"].to_numpy() > 0)
        return self.chosen[key]


def _selection(genes: np.ndarray, is_hvg: np.ndarray) -> set[tuple[str, bool]]:
    """Return a panel (G,) as pairs: each gene with False, and each highly variable one with True, too."""
    return {*((gene, False) for gene in genes), *((gene, True) for gene in genes[is_hvg])}


def panel_source(fold: Fold, panels: Panels) -> Finding:
    """Check that the training slides alone select the fold's panel."""
    selected, known = _selection(fold.genes, fold.is_hvg), _slides(fold, TRAIN, VAL)
    expected = panels.of(known)
    others, missing = ({gene for gene, _ in pairs} for pairs in (selected - expected, expected - selected))
    n = len(others | missing)
    if n == 0:
        return _found(fold, PANEL, 0, "")
    differ = (
        f"{len(others)} of its {len(fold.genes)} genes not selected by the training slides, "
        f"{len(missing)} that they select are missing"
    )
    if selected == panels.of(known | _slides(fold, TEST)):
        return _found(fold, PANEL, n, f"the panel of all slides, {_names(_slides(fold, TEST))} included: {differ}")
    detail = f"neither the training slides' panel nor that of all slides: {differ}"
    return _found(fold, PANEL, n, detail, WARNING if fold.protocol == PAPER else LEAK)


def read_ranks(scores: Iterable[str | os.PathLike], top: int) -> pd.DataFrame:
    """Read which genes (``sample``, ``gene``) scores list by mean and by variance (bool)."""
    lists = ["rank_mean", "rank_var"]
    parts = []
    for path in scores:
        table = pd.read_parquet(path, columns=["sample", "gene", *lists]).drop_duplicates()
        table[lists] = table[lists].apply(lambda rank: rank.between(1, top))
        parts.append(table[table[lists].any(axis=1)])
    return pd.concat(parts).drop_duplicates(ignore_index=True)


def ranking_source(fold: Fold, ranks: pd.DataFrame) -> Finding:
    """Check whether training slides or the test slide ranked the genes.

    Training slides rank the HVG that the test slide measures by mean and variance within slides, averaged over slides.
    """
    known = [fold.expression[fold.rows(TRAIN, VAL, sample=slide)] for slide in sorted(_slides(fold, TRAIN, VAL))]
    slides, genes = set(), set()  # test slides, and genes that the training slides do not rank so high
    own = True
    for sample in sorted(_slides(fold, TEST)):
        truth = fold.expression[fold.rows(TEST, sample=sample)]
        ranked = fold.is_hvg & ~np.isnan(truth).any(axis=0)
        for name, statistic in (("rank_mean", np.mean), ("rank_var", np.var)):
            listed = np.isin(fold.genes, ranks.loc[(ranks["sample"] == sample) & ranks[name], "gene"].to_list())
            by_training = np.mean([statistic(block, axis=0, dtype=np.float64) for block in known], axis=0)
            by_truth = statistic(truth, axis=0, dtype=np.float64)
            if (foreign := _below_the_top(by_training, listed, ranked)).any():
                slides.add(sample)
                genes.update(fold.genes[foreign])
            own &= not _below_the_top(by_truth, listed, ranked).any()
    if not genes:
        return _found(fold, RANKING, 0, "")
    named = f"{_names(slides)}: {_names(genes)}"
    if own:
        return _found(fold, RANKING, len(genes), f"genes that only the test slide ranks so high, {named}")
    detail = f"neither the training slides' nor the test slide's ranks, {named}"
    return _found(fold, RANKING, len(genes), detail, WARNING if fold.protocol == PAPER else LEAK)


def _below_the_top(values: np.ndarray, listed: np.ndarray, ranked: np.ndarray) -> np.ndarray:
    """Mark the listed genes (G,) outside the ranked genes of highest values."""
    if not listed.any():
        return listed
    lowest = np.sort(values[ranked])[::-1][: listed.sum()].min(initial=np.inf)
    return listed & ~(ranked & (values >= lowest - 1e-9 * abs(lowest)))


def checkpoint_source(fold: Fold) -> Finding:
    """Find validation spots of slides or patients that also train.

    A checkpoint chosen on them may overfit, which does not concern the test slide. The patient protocol also does so
    where no whole training slide is available for validation, or no training patient has a single slide.
    """
    val, train = fold.rows(VAL), fold.rows(TRAIN)
    same_slide = np.isin(fold.sample[val], list(set(fold.sample[train])))
    same_patient = np.isin(fold.patient[val], list(set(fold.patient[train])))
    n = int((same_slide | same_patient).sum())
    if n == 0:
        return _found(fold, CHECKPOINT, 0, "")
    slides, patients = set(fold.sample[val[same_slide]]), set(fold.patient[val[same_patient]])
    detail = f"{n} of {len(val)} validation spots: slides {_names(slides) or 'none'}, patients {_names(patients)}"
    if fold.protocol == PAPER:
        return _found(fold, CHECKPOINT, n, detail)
    patient_of = dict(zip(fold.sample[fold.bank], fold.patient[fold.bank], strict=True))
    no_patient_to_spare = not slides and min(Counter(patient_of.values()).values()) > 1
    return _found(fold, CHECKPOINT, n, detail, BY_DESIGN if len(patient_of) == 1 or no_patient_to_spare else WARNING)


def read_external_scores(scores: Iterable[str | os.PathLike]) -> pd.DataFrame:
    """Read the genes that other tools have scored: predictor, fold, sample, gene and pcc."""
    columns = ["predictor", "fold", "sample", "gene", "pcc"]
    filters = [("kind", "==", EXTERNAL), ("is_measured", "==", True), ("is_constant", "==", False)]
    return pd.concat([pd.read_parquet(path, columns=columns, filters=filters) for path in scores], ignore_index=True)


def external_truth(fold: Fold, scores: pd.DataFrame) -> Finding:
    """Find predictions of other tools that correlate perfectly with the truth, which no predictor from images does.

    ``scores`` are as from `read_external_scores`. A few genes may be copies by chance, such as genes with a count in a
    single spot; a slide is reported where more than half of its genes are.
    """
    parts, n = [], 0
    for (predictor, sample), genes in scores[scores["fold"].eq(fold.fold)].groupby(["predictor", "sample"], sort=False):
        copied = genes["pcc"].gt(COPIED_CORRELATION)
        if copied.mean() > 0.5:
            n += int(copied.sum())
            parts.append(f"{predictor} on {sample}: {copied.sum()} of {len(genes)} genes")
    return _found(fold, EXTERNAL_TRUTH, n, "; ".join(parts), LEAK if n else CLEAN)


def external_training(cohort: str, protocol: str, tools: Iterable[str], trained_on: Mapping[str, str]) -> Finding:
    """Report what is stated of the training slides of other tools, which no file of the run can tell."""
    tools = list(tools)
    stated = "; ".join(f"{tool}: {trained_on[tool] or 'not stated'}" for tool in tools)
    detail = f"only their users know whether test slides were among them. {stated}"
    return Finding(cohort, protocol, ALL, EXTERNAL_TRAINING, NOT_CHECKED, len(tools), detail)


def find_twins(fingerprints: Mapping[str, Mapping]) -> Iterator[Twins]:
    """Find pairs of samples that share a file, a picture or spots."""
    for (first, one), (second, other) in combinations(fingerprints.items(), 2):
        hashes = {record["sha256"] for record in other["files"]}
        if files := [record["path"] for record in one["files"] if record["sha256"] in hashes]:
            yield Twins(first, second, SAME_FILE, ", ".join(files))
        if one["picture"] and other["picture"]:
            distance = picture_distance(one["picture"], other["picture"])
            if distance < SAME_PICTURE_DISTANCE:
                yield Twins(first, second, SAME_PICTURE, f"distance {distance:.2f}")
        share = shared_spots(one["spots"], other["spots"])
        if share > SAME_COUNTS_SHARE:
            yield Twins(first, second, SAME_COUNTS, f"{share:.0%} of the spots")


def twin_findings(
    twins: Iterable[Twins], fingerprints: Mapping[str, Mapping], slides: Mapping[str, tuple[str, str]]
) -> Iterator[Finding]:
    """Report slides that occur twice in the run."""
    blank = [sample for sample, known in fingerprints.items() if not known["picture"]]
    for check in (SAME_FILE, SAME_PICTURE, SAME_COUNTS):
        pairs = [twin for twin in twins if twin.check == check]
        parts = [
            f"{twin.first} ({', '.join(slides[twin.first])}) and {twin.second} ({', '.join(slides[twin.second])}): "
            f"{twin.likeness}"
            for twin in pairs
        ]
        unseen = check == SAME_PICTURE and blank
        if unseen:
            parts.append(f"no picture of {_names(blank)}")
        if check == SAME_PICTURE and not pairs:
            parts += _nearest(fingerprints)
        status = WARNING if pairs else NOT_CHECKED if unseen else CLEAN
        yield Finding(ALL, ALL, ALL, check, status, len(pairs), "; ".join(parts))


def _nearest(fingerprints: Mapping[str, Mapping]) -> list[str]:
    """Describe the two most similar pictures, if there are two."""
    hashes = {sample: known["picture"] for sample, known in fingerprints.items() if known["picture"]}
    pairs = [(picture_distance(hashes[one], hashes[other]), one, other) for one, other in combinations(hashes, 2)]
    return [f"nearest: {one} and {other}, distance {distance:.2f}" for distance, one, other in sorted(pairs)[:1]]


def tissue_findings(
    fingerprints: Mapping[str, Mapping], qc: Mapping[str, Mapping], slides: Mapping[str, tuple[str, str]]
) -> Iterator[Finding]:
    """Report spots off the tissue per cohort, by patches and by ``in_tissue``."""
    for cohort in dict.fromkeys(cohort for cohort, _ in slides.values()):
        members = [sample for sample in fingerprints if slides[sample][0] == cohort]
        by_image = {s: (fingerprints[s]["n_without_tissue"], fingerprints[s]["n_spots"]) for s in members}
        off = {s: n for s in members if (n := qc[s].get("n_spots_kept_off_tissue")) is not None}
        marked = {s: (n, qc[s]["n_spots_kept"]) for s, n in off.items()}
        unmarked = [s for s in members if s not in marked]
        for check, counted, unknown in ((NO_TISSUE, by_image, []), (OFF_TISSUE, marked, unmarked)):
            parts = [f"{sample}: {n} of {of} ({n / of:.1%})" for sample, (n, of) in counted.items() if n]
            parts += [f"no column in_tissue: {_names(unknown)}"] if unknown else []
            many = any(n > OFF_TISSUE_WARNING * of for n, of in counted.values())
            status = WARNING if many else NOT_CHECKED if unknown else CLEAN
            yield Finding(cohort, ALL, ALL, check, status, sum(n for n, _ in counted.values()), "; ".join(parts))
