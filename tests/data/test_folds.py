"""Claims about fold.h5: who trains, validates and is tested, joined by label, the same every time."""

import time
from dataclasses import fields, replace

import anndata
import h5py
import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from spotwise.constants import BARCODES, DROPPED, IMAGES, PAPER, PATIENT, SPATIAL, TEST, TOTAL_COUNTS, TRAIN, VAL
from spotwise.data.folds import SlideSpots, assemble_fold, content_hash, read_fold, spots_with_patches, write_fold
from spotwise.data.sample_sheet import FoldPlan, Sample, plan_folds
from spotwise.errors import InputError

PANEL = ["A", "B", "C", "D", "E"]
SPOTS = {"S0": 40, "S1": 25, "S2": 30, "S3": 35}
PATIENTS = {"S0": "p", "S1": "p", "S2": "q", "S3": "r"}
SHEET = [Sample(sample=sample, cohort="c", patient=patient) for sample, patient in PATIENTS.items()]


def slide(sample, genes=PANEL, wide=False):
    """Build a slide whose expression encodes spot and gene of each value."""
    rng = np.random.default_rng(int(sample[1:]))
    n = SPOTS[sample]
    spatial = rng.uniform(size=(n, 2)) * ([3000, 1000] if wide else [1000, 3000])
    value = {gene: 1 + PANEL.index(gene) if gene in PANEL else 99 for gene in genes}
    expression = [[1000 * int(sample[1:]) + 10 * spot + value[gene] for gene in genes] for spot in range(n)]
    return SlideSpots(
        genes=np.array(genes, dtype=object),
        expression=sparse.csr_matrix(np.array(expression, dtype=np.float32)),
        barcode=np.array([f"{sample}-{spot}" for spot in range(n)], dtype=object),
        patch=rng.permutation(n),
        spatial=spatial,
        array=np.stack(np.divmod(np.arange(n), 7), axis=1),
        total_counts=rng.integers(100, 1000, size=n).astype(np.float32),
    )


SLIDES = {sample: slide(sample) for sample in SPOTS}


def assemble(plan, protocol, slides=SLIDES, fraction=0.2, genes=PANEL):
    hvg = [2 if gene != "E" else 0 for gene in genes]
    panel = pd.DataFrame({"gene": genes, "n_slides_hvg": hvg, "is_marker": [gene in ("B", "E") for gene in genes]})
    return assemble_fold(plan, "c", protocol, slides, PATIENTS, panel, fraction)


def folds(protocol):
    return [(plan, assemble(plan, protocol)) for plan in plan_folds(SHEET, protocol)]


# --- roles ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", [PAPER, PATIENT])
def test_every_spot_has_one_role_and_tested_slides_have_no_other(protocol):
    for plan, fold in folds(protocol):
        assert sorted(fold.barcode) == sorted(label for sample in SPOTS for label in SLIDES[sample].barcode)
        rows = np.concatenate([fold.rows(role) for role in (TRAIN, VAL, TEST)])
        assert sorted(rows) == list(range(sum(SPOTS.values())))
        assert set(fold.sample[fold.rows(TEST)]) == set(plan.test)
        assert set(fold.sample[fold.rows(TRAIN, VAL)]) == set(plan.train)


def test_every_spot_carries_its_patient():
    for _, fold in folds(PAPER):
        assert [PATIENTS[sample] for sample in fold.sample] == fold.patient.tolist()


@pytest.mark.parametrize("protocol", [PAPER, PATIENT])
def test_the_bank_holds_all_training_spots_and_no_tested_one(protocol):
    for plan, fold in folds(protocol):
        labels = set(fold.barcode[fold.bank])
        assert labels == {label for sample in plan.train for label in SLIDES[sample].barcode}
        assert not labels & set(fold.barcode[fold.rows(TEST)])


def test_no_patient_of_a_tested_spot_is_in_the_bank():
    for _, fold in folds(PATIENT):
        tested = {PATIENTS[sample] for sample in fold.sample[fold.rows(TEST)]}
        assert not tested & {PATIENTS[sample] for sample in fold.sample[fold.bank]}


def test_a_fifth_of_every_training_slide_validates_under_the_paper_protocol():
    for plan, fold in folds(PAPER):
        for sample in plan.train:
            assert len(fold.rows(VAL, sample=sample)) == SPOTS[sample] / 5


def validating(plan, sample="S3", **changes):
    fold = assemble(plan, PAPER, **changes)
    return set(fold.barcode[fold.rows(VAL, sample=sample)])


def test_validation_spots_are_random_but_fixed():
    plans = plan_folds(SHEET, PAPER)
    drawn = [validating(plan) for plan in plans[:3]]
    assert drawn == [validating(plan) for plan in plans[:3]]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]
    positions = [sorted(int(label.partition("-")[2]) for label in one) for one in drawn]
    assert all(one != list(range(7)) and np.diff(one).max() > 1 for one in positions)


def test_validation_spots_do_not_follow_from_the_expression():
    plan = plan_folds(SHEET, PAPER)[0]
    other = {sample: replace(one, expression=one.expression * 2) for sample, one in SLIDES.items()}
    assert validating(plan) == validating(plan, slides=other)


def test_a_whole_slide_validates_under_the_patient_protocol():
    for plan, fold in folds(PATIENT):
        assert plan.validation == "slide"
        assert set(fold.sample[fold.rows(VAL)]) == {plan.validation_slide}
        assert len(fold.rows(VAL)) == SPOTS[plan.validation_slide]


@pytest.mark.parametrize("wide", [False, True], ids=["tall tissue", "wide tissue"])
def test_a_block_at_one_end_validates_where_there_is_one_training_slide(wide):
    plan = FoldPlan(0, ("S1",), ("S0",), "block", "S0")
    fold = assemble(plan, PATIENT, {"S0": slide("S0", wide=wide), "S1": SLIDES["S1"]})
    along = fold.spatial[:, 0 if wide else 1]
    held, kept = along[fold.rows(VAL)], along[fold.rows(TRAIN)]
    assert len(held) == 8
    assert held.min() > kept.max()


@pytest.mark.parametrize("fraction", [0.001, 0.999])
def test_a_fold_without_spots_for_a_role_is_refused(fraction):
    with pytest.raises(InputError, match=r"c/paper/fold0: spots: found no (train|val) spot"):
        assemble(plan_folds(SHEET, PAPER)[0], PAPER, fraction=fraction)


# --- the join ---------------------------------------------------------------------------------------------------------


def test_every_value_stands_where_its_spot_and_gene_are():
    plan = plan_folds(SHEET, PAPER)[1]
    shuffled = {sample: slide(sample, list("XECADBY")) for sample in SPOTS}
    fold = assemble(plan, PAPER, shuffled)
    for row in range(len(fold.barcode)):
        sample, spot = fold.barcode[row].split("-")
        assert fold.sample[row] == sample
        assert fold.expression[row].tolist() == [1000 * int(sample[1:]) + 10 * int(spot) + 1 + g for g in range(5)]
        assert fold.patch[row] == shuffled[sample].patch[int(spot)]
        assert fold.spatial[row].tolist() == shuffled[sample].spatial[int(spot)].tolist()
        assert fold.total_counts[row] == shuffled[sample].total_counts[int(spot)]
    assert fold.genes.tolist() == PANEL
    assert fold.genes[fold.is_marker].tolist() == ["B", "E"]
    assert fold.genes[fold.is_hvg].tolist() == ["A", "B", "C", "D"]  # E is a marker that no slide chose


def test_dense_and_sparse_expression_make_the_same_fold():
    plan = plan_folds(SHEET, PAPER)[0]
    dense = {sample: replace(one, expression=one.expression.toarray()) for sample, one in SLIDES.items()}
    assert content_hash(assemble(plan, PAPER, dense)) == content_hash(assemble(plan, PAPER))


def test_a_gene_that_a_tested_slide_does_not_measure_is_nan_there():
    plan = plan_folds(SHEET, PAPER)[0]
    fold = assemble(plan, PAPER, {**SLIDES, "S0": slide("S0", list("EDBA"))})
    lacking = np.isnan(fold.expression)
    assert lacking[fold.sample == "S0", 2].all()
    assert lacking.sum() == SPOTS["S0"]
    complete = assemble(plan, PAPER)
    np.testing.assert_array_equal(fold.expression[~lacking], complete.expression[~lacking])


def test_a_gene_that_a_training_slide_does_not_measure_is_refused():
    with pytest.raises(InputError, match="S2: genes: found C missing"):
        assemble(plan_folds(SHEET, PAPER)[0], PAPER, {**SLIDES, "S2": slide("S2", list("EDBA"))})


@pytest.fixture
def on_disk(tmp_path):
    """Build a slide of ten spots, two of them dropped, and patches in another order for all but two spots."""
    rng = np.random.default_rng(3)
    labels = [f"s{number}" for number in range(10)]
    dropped = ["s1", "s6"]
    kept = [label for label in labels if label not in dropped]
    lognorm = anndata.AnnData(
        sparse.csr_matrix(rng.gamma(1, size=(8, 4)).astype(np.float32)),
        obs=pd.DataFrame({TOTAL_COUNTS: rng.integers(1, 99, 8)}, index=kept),
        var=pd.DataFrame(index=list("ABCD")),
        obsm={SPATIAL: rng.uniform(size=(8, 2))},
        uns={DROPPED: np.array(dropped)},
    )
    stored = [str(label) for label in rng.permutation([label for label in labels if label not in ("s0", "s7")])]
    return lognorm, stored, tmp_path / "patches.h5"


def write_patches(path, labels, px=224):
    with h5py.File(path, "w") as file:
        file.create_dataset(IMAGES, shape=(len(labels), px, px, 3), dtype=np.uint8)
        file[BARCODES] = np.array(labels, dtype="S")[:, None]


def test_spots_are_joined_to_patches_by_barcode(on_disk):
    lognorm, stored, path = on_disk
    write_patches(path, stored)
    one = spots_with_patches(lognorm, path)
    assert one.barcode.tolist() == ["s2", "s3", "s4", "s5", "s8", "s9"]  # s0, s7 without patch; s1, s6 dropped
    for at, label in enumerate(one.barcode):
        spot = lognorm.obs_names.get_loc(label)
        assert stored[one.patch[at]] == label
        np.testing.assert_array_equal(one.expression[at].toarray()[0], lognorm.X[spot].toarray()[0])
        np.testing.assert_array_equal(one.spatial[at], lognorm.obsm[SPATIAL][spot])
        assert one.total_counts[at] == lognorm.obs[TOTAL_COUNTS].iloc[spot]


def test_the_order_of_the_patches_changes_only_their_rows(on_disk):
    lognorm, stored, path = on_disk
    write_patches(path, stored)
    one = spots_with_patches(lognorm, path)
    write_patches(path, stored[::-1])
    other = spots_with_patches(lognorm, path)
    assert other.barcode.tolist() == one.barcode.tolist()
    np.testing.assert_array_equal(other.patch, len(stored) - 1 - one.patch)


def test_a_patch_of_no_spot_is_refused(on_disk):
    lognorm, stored, path = on_disk
    write_patches(path, [*stored, "s77"])
    with pytest.raises(InputError, match=r"patches.h5: barcode: found 1 barcodes of no spot, e\.g\. 's77'"):
        spots_with_patches(lognorm, path)


def test_a_slide_of_which_no_spot_has_a_patch_is_refused(on_disk):
    lognorm, _, path = on_disk
    write_patches(path, ["s1", "s6"])
    with pytest.raises(InputError, match="no barcode of the slide's spots, expected such as s0"):
        spots_with_patches(lognorm, path)


def test_patches_of_another_size_are_refused(on_disk):
    lognorm, stored, path = on_disk
    write_patches(path, stored, px=256)  # HEST's own of before August 2024
    with pytest.raises(
        InputError, match=r"patches.h5: img: found 256 x 256 px, as in older files of HEST, expected 224 px"
    ):
        spots_with_patches(lognorm, path)


# --- the slides that choose evaluation genes --------------------------------------------------------------------------


def noisy(sample, seed=0, shift=0.0):
    rng = np.random.default_rng([seed, int(sample[1:])])
    expression = (shift + rng.gamma(2, size=(SPOTS[sample], 5))).astype(np.float32)
    return replace(SLIDES[sample], expression=expression)


def test_the_paper_ranks_genes_by_the_tested_slides_own_truth():
    plan = plan_folds(SHEET, PAPER)[2]
    slides = {sample: noisy(sample) for sample in SPOTS}
    mean, variance = assemble(plan, PAPER, slides).reference("S2")
    np.testing.assert_allclose(mean, slides["S2"].expression.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(variance, slides["S2"].expression.var(axis=0), rtol=1e-5)


def test_the_patient_protocol_ranks_genes_by_training_slides_alone():
    plan = plan_folds(SHEET, PATIENT)[1]
    slides = {sample: noisy(sample) for sample in SPOTS}
    fold = assemble(plan, PATIENT, slides)
    other = assemble(plan, PATIENT, {**slides, "S2": noisy("S2", seed=1)})
    np.testing.assert_array_equal(fold.reference("S2"), other.reference("S2"))
    assert not np.array_equal(
        assemble(plan, PAPER, slides).reference("S2"),
        assemble(plan, PAPER, {**slides, "S2": noisy("S2", seed=1)}).reference("S2"),
    )
    trained = [slides[sample].expression.astype(np.float64) for sample in plan.train]
    np.testing.assert_allclose(fold.reference("S2")[0], sum(e.mean(axis=0) for e in trained) / 3, rtol=1e-6)
    np.testing.assert_allclose(fold.reference("S2")[1], sum(e.var(axis=0) for e in trained) / 3, rtol=1e-6)


def test_a_batch_effect_between_slides_makes_no_gene_variable():
    plan = plan_folds(SHEET, PATIENT)[1]
    plain = assemble(plan, PATIENT, {sample: noisy(sample) for sample in SPOTS})
    shifted = assemble(plan, PATIENT, {s: noisy(s, shift=100.0 * (s == "S0")) for s in SPOTS})
    np.testing.assert_allclose(shifted.reference("S2")[1], plain.reference("S2")[1], rtol=1e-4)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_a_fold_reads_back_as_it_was_written(fold, tmp_path):
    expression = fold.expression.copy()
    expression[fold.sample == "D", 3] = np.nan
    fold = replace(fold, expression=expression, genes=np.array([*fold.genes[:-1], "µ-1"], dtype=object))
    write_fold(tmp_path / "fold.h5", fold)
    read = read_fold(tmp_path / "fold.h5")
    for field in fields(fold):
        written, back = getattr(fold, field.name), getattr(read, field.name)
        assert type(back) is type(written), field.name
        if isinstance(written, np.ndarray):
            assert back.dtype == written.dtype, field.name
            np.testing.assert_array_equal(back, written)
        else:
            assert back == written
    assert {type(label) for label in (*read.genes, *read.barcode, *read.role)} == {str}
    assert content_hash(read) == content_hash(fold)
    with h5py.File(tmp_path / "fold.h5") as file:
        assert file.attrs["sha256"] == content_hash(fold)


def test_the_hash_changes_with_any_single_value(fold):
    known = content_hash(fold)
    assert content_hash(replace(fold)) == known
    hashes = {known}
    for field in fields(fold):
        value = getattr(fold, field.name)
        if not isinstance(value, np.ndarray):
            changed = [value + 1 if isinstance(value, int) else value + "x"]
        else:
            changed = []
            for place in (0, value.size // 2, value.size - 1):
                other = value.copy()
                old = other.flat[place]
                other.flat[place] = old + "x" if isinstance(old, str) else not old if value.dtype == bool else old + 1
                changed.append(other)
        hashes |= {content_hash(replace(fold, **{field.name: other})) for other in changed}
    arrays = sum(isinstance(getattr(fold, field.name), np.ndarray) for field in fields(fold))
    assert len(hashes) == 1 + 3 * arrays + 3


def test_the_hash_tells_labels_apart_that_only_run_together_alike(fold):
    first, second = (replace(fold, genes=np.array(names, dtype=object)) for names in (["AB", "C"], ["A", "BC"]))
    assert content_hash(first) != content_hash(second)


def test_a_fold_written_twice_is_the_same_file(fold, tmp_path):
    write_fold(tmp_path / "first.h5", fold)
    time.sleep(1.1)  # HDF5 keeps times in seconds
    write_fold(tmp_path / "second.h5", fold)
    assert (tmp_path / "first.h5").read_bytes() == (tmp_path / "second.h5").read_bytes()


def test_the_owner_is_the_patient_only_where_patients_are_left_out_and_several_train():
    for plan, fold in folds(PATIENT):
        several = len({PATIENTS[sample] for sample in plan.train}) > 1
        assert fold.owner().tolist() == (fold.patient if several else fold.sample).tolist()
    assert all(fold.owner() is fold.sample for _, fold in folds(PAPER))
