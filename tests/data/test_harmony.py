"""Claims about the Harmony correction: it removes what slides differ in, and the truth stays out of its reach."""

from dataclasses import replace

import numpy as np
import pytest

from spotwise.constants import PAPER, PATIENT, TEST, TRAIN, VAL
from spotwise.data.folds import Fold, content_hash, read_fold, write_fold
from spotwise.data.harmony import harmonise

GENES, SPOTS = 40, 60
TYPES = np.repeat([0, 1], SPOTS // 2)  # of the spots of a slide


def shifted(genes=GENES, slides=("A", "B", "C", "T"), protocol=PATIENT):
    """Slides of the same two kinds of spots, every slide with an offset of its own; T is tested."""
    rng = np.random.default_rng(0)
    profile = rng.gamma(2, size=(2, genes))
    expression = np.concatenate(
        [profile[TYPES] + rng.gamma(2, 0.4, size=genes) + rng.normal(0, 0.1, size=(SPOTS, genes)) for _ in slides]
    )
    n = len(expression)
    sample = np.repeat(np.array(slides, dtype=object), SPOTS)
    role = np.where(sample == "T", TEST, TRAIN).astype(object)
    role[::7] = np.where(role[::7] == TRAIN, VAL, role[::7])
    return Fold(
        genes=np.array([f"G{gene:02d}" for gene in range(genes)], dtype=object),
        is_hvg=np.ones(genes, dtype=bool),
        is_marker=np.zeros(genes, dtype=bool),
        expression=expression.astype(np.float32),
        sample=sample,
        patient=sample,
        barcode=np.arange(n).astype(str).astype(object),
        role=role,
        patch=np.arange(n),
        spatial=rng.uniform(size=(n, 2)),
        array=np.zeros((n, 2), dtype=np.int64),
        total_counts=np.ones(n, dtype=np.float32),
        cohort="c",
        protocol=protocol,
        fold=0,
    )


def between(expression, fold, slides):
    """Mean distance of the slides' means from each other."""
    means = np.stack([expression[fold.sample == slide].mean(axis=0) for slide in slides])
    return np.linalg.norm(means - means.mean(axis=0), axis=1).mean()


@pytest.mark.parametrize("protocol", [PATIENT, PAPER])
def test_harmony_moves_slides_together_and_keeps_kinds_of_spots_apart(protocol):
    fold = shifted(protocol=protocol)
    corrected = harmonise(fold).expression
    assert between(corrected, fold, "ABC") < 0.2 * between(fold.expression, fold, "ABC")
    types = np.tile(TYPES, 4)
    bank = fold.bank

    def contrast(expression):
        return expression[bank][types[bank] == 1].mean(axis=0) - expression[bank][types[bank] == 0].mean(axis=0)

    np.testing.assert_allclose(contrast(corrected), contrast(fold.expression), atol=0.1)
    assert corrected.dtype == np.float32
    assert np.isfinite(corrected).all()


@pytest.mark.parametrize("protocol", [PATIENT, PAPER])
def test_the_truth_of_the_test_slide_is_never_corrected(protocol):
    fold = shifted(protocol=protocol)
    corrected = harmonise(fold)
    rows = fold.rows(TEST)
    np.testing.assert_array_equal(corrected.expression[rows], fold.expression[rows])
    moved = (corrected.expression != fold.expression).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), fold.bank)  # validation spots, too


def test_under_the_patient_protocol_no_test_expression_enters_the_correction():
    fold = shifted()
    for value in (0.0, 50.0, np.nan):
        expression = fold.expression.copy()
        expression[fold.role == TEST] = value
        corrected = harmonise(replace(fold, expression=expression))
        np.testing.assert_array_equal(corrected.expression[fold.bank], harmonise(fold).expression[fold.bank])


def test_under_the_paper_protocol_the_test_slide_takes_part_in_the_fit():
    fold = shifted(slides=("A", "T"), protocol=PAPER)
    corrected = harmonise(fold).expression
    apart = np.linalg.norm(fold.expression[fold.bank].mean(axis=0) - fold.expression[fold.rows(TEST)].mean(axis=0))
    left = np.linalg.norm(corrected[fold.bank].mean(axis=0) - corrected[fold.rows(TEST)].mean(axis=0))
    assert left < 0.6 * apart  # A moves half of the way; T would have gone the other half


def test_one_training_slide_under_the_patient_protocol_stays_as_it_is():
    fold = shifted(slides=("A", "T"))
    assert harmonise(fold) is fold


def test_nothing_but_expression_changes_and_the_input_stays():
    fold = shifted()
    before = content_hash(fold)
    corrected = harmonise(fold)
    assert content_hash(fold) == before
    assert content_hash(replace(corrected, expression=fold.expression)) == before


def test_the_correction_is_the_same_again():
    np.testing.assert_array_equal(harmonise(shifted()).expression, harmonise(shifted()).expression)


def test_as_many_genes_as_training_spots_are_not_taken_for_spots():
    """A gene without expression changes nothing between spots, so that one more of it must make no difference."""
    square = shifted(genes=3 * SPOTS)
    assert len(square.bank) == len(square.genes)
    wider = replace(square, expression=np.pad(square.expression, ((0, 0), (0, 1))))
    np.testing.assert_allclose(harmonise(square).expression, harmonise(wider).expression[:, :-1], rtol=1e-4)


def test_a_few_spots_are_one_cluster():
    fold = shifted(slides=("A", "B", "T"))
    few = np.concatenate([np.flatnonzero(fold.sample == slide)[:6] for slide in ("A", "B", "T")])
    by_spot = ("expression", "sample", "patient", "barcode", "role", "patch", "spatial", "array", "total_counts")
    small = replace(fold, **{name: getattr(fold, name)[few] for name in by_spot})
    corrected = harmonise(small).expression
    assert between(corrected, small, "AB") < 0.5 * between(small.expression, small, "AB")


def test_a_corrected_fold_is_written_and_read_as_any_fold(tmp_path):
    corrected = harmonise(shifted())
    write_fold(tmp_path / "fold_harmony.h5", corrected)
    assert content_hash(read_fold(tmp_path / "fold_harmony.h5")) == content_hash(corrected)
