"""The sample sheet, patients, and the folds of both protocols.

Folds follow from the sheet alone, so the workflow knows all of them before any data exists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import Field

from spotwise.constants import PAPER, PATIENT
from spotwise.data.spellings import alike, first_pair
from spotwise.data.text_tables import read_rows
from spotwise.errors import InputError
from spotwise.runtime.validation import Form, Settings, validated

Id = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$(?!\n)"), Form("a name of letters, digits, '-' and '_'")]
SampleId = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*$(?!\n)"),
    Form("a name of letters, digits, '-' and '_', with single dots inside"),
]
Text = Annotated[str, Field(pattern=r"^[^<\x00-\x1f]*$(?!\n)"), Form("text without '<' and control characters")]

SHEET = "a tab-separated sample sheet"


class Sample(Settings):
    """A row of the sample sheet: one slide with its counts."""

    sample: SampleId = Field(description="id of the slide, which names files")
    cohort: Id = Field(description="name of its cohort, which names folders")
    patient: Text = Field(
        min_length=1,
        description="patient that the slide is from; slides of one patient are never on both sides of a `patient` fold",
    )
    technology: Text = Field(
        "", description="Visium, Xenium, Spatial Transcriptomics, ...; tells the distance between spots"
    )
    note: Text = Field("", description="anything worth knowing about the slide; not used")


@dataclass(frozen=True)
class FoldPlan:
    """Define which slides a fold tests on, trains on, and selects its checkpoint on.

    Attributes
    ----------
    fold
        Its number, from 0, in the order of the sample sheet.
    test, train
        Sample ids. ``train`` includes the slide that validation is taken from.
    validation
        ``spots``: a random share of every training slide's spots (the paper).
        ``slide``: all of ``validation_slide``. ``block``: a contiguous block of ``validation_slide``.
    validation_slide
        The training slide held out, ``None`` for ``spots``.
    """

    fold: int
    test: tuple[str, ...]
    train: tuple[str, ...]
    validation: str
    validation_slide: str | None = None


def read_samples(path: str | Path) -> list[Sample]:
    """Read and check a tab-separated sample sheet with one row per slide.

    Raises
    ------
    InputError
        For a file that cannot be read or a missing column, an unsafe or duplicate id, a row without a patient, and
        names that differ only in their spelling.
    """
    path = Path(path)
    samples: dict[str, Sample] = {}
    for number, row in enumerate(read_rows(path, SHEET, "samples", "sample, cohort, patient, ..."), start=1):
        sample = validated(Sample, row, f"{path}: row {number} ({row.get('sample', 'no sample id')})")
        if sample.sample in samples:
            raise InputError(path, "sample", f"{sample.sample} twice", "each id once")
        samples[sample.sample] = sample
    _check_spelling(path, list(samples.values()))
    return list(samples.values())


def _check_spelling(path: Path, samples: Sequence[Sample]) -> None:
    """Refuse ids that a file system may confuse, and two spellings of one patient."""
    for column in ("sample", "cohort"):
        names = [getattr(one, column) for one in samples]
        if pair := first_pair(names, str.casefold):
            found = " and ".join(f"{names[row]!r} in row {row + 1}" for row in pair)
            raise InputError(path, column, f"{found}", "names that differ in more than case")
    for members in by_cohort(samples).values():
        if pair := alike([one.patient for one in members]):
            two = [(members[place], samples.index(members[place]) + 1) for place in pair]
            found = " and ".join(f"{one.patient!a} in row {row} ({one.sample})" for one, row in two)
            expected = "one spelling of a patient; they differ only in case, blanks, zeros or look-alike characters"
            raise InputError(path, "patient", found, expected)


def by_cohort(samples: Sequence[Sample]) -> dict[str, list[Sample]]:
    """Return the samples of each cohort, in their order."""
    found: dict[str, list[Sample]] = {}
    for sample in samples:
        found.setdefault(sample.cohort, []).append(sample)
    return found


def patients(samples: Sequence[Sample]) -> list[str]:
    """Return the patients, in the order of their first slide."""
    return list(dict.fromkeys(sample.patient for sample in samples))


def plan_folds(samples: Sequence[Sample], protocol: str) -> list[FoldPlan]:
    """Return the folds of one cohort.

    ``paper`` leaves out one slide ("number of folds is equal to the number of samples") and validates on random spots
    of the training slides. ``patient`` leaves out all slides of one patient and validates on a whole training slide, or
    on a block of it where there is only one.
    """
    if protocol == PAPER:
        return [
            FoldPlan(fold, (left_out.sample,), tuple(s.sample for s in samples if s != left_out), "spots")
            for fold, left_out in enumerate(samples)
        ]
    if protocol != PATIENT:
        raise ValueError(f"no such protocol: {protocol!r}")
    plans = []
    for fold, patient in enumerate(patients(samples)):
        train = [sample for sample in samples if sample.patient != patient]
        test = tuple(sample.sample for sample in samples if sample.patient == patient)
        kind = "slide" if len(train) > 1 else "block"
        plans.append(FoldPlan(fold, test, tuple(s.sample for s in train), kind, _validation_slide(train, fold)))
    return plans


def plan_whole(samples: Sequence[Sample]) -> FoldPlan:
    """Return the plan of a training on all slides of a cohort, with the validation of the patient protocol."""
    kind = "slide" if len(samples) > 1 else "block"
    return FoldPlan(0, (), tuple(sample.sample for sample in samples), kind, _validation_slide(samples, 0))


def _validation_slide(train: Sequence[Sample], fold: int) -> str:
    """Return the training slide that selects the checkpoint.

    It is that of a patient with no other slide if there is one, so that validation, like the test, is on a patient that
    training has not seen. Candidates take turns over the folds.
    """
    slides_of = Counter(sample.patient for sample in train)
    alone = [sample for sample in train if slides_of[sample.patient] == 1]
    candidates = alone or list(train)
    return candidates[fold % len(candidates)].sample
