"""Claims about the leak audit: it finds what is planted in a generated cohort, and is silent on a clean one."""

import json
import shutil
from copy import copy
from dataclasses import replace

import anndata
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from generatedcohort import generate_cohort
from spotwise.constants import PAPER, PATIENT, TEST, TRAIN, VAL
from spotwise.data import hest
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts, thumbnail
from spotwise.data.fingerprints import fingerprint
from spotwise.data.folds import assemble_fold, read_fold, spots_with_patches, write_fold
from spotwise.data.genes import normalise, select_genes
from spotwise.data.patches import extract_patches
from spotwise.data.sample_sheet import Sample, plan_folds
from spotwise.data.synthetic_sample import generate_sample
from spotwise.data.synthetic_tissue import CohortSize
from spotwise.evaluation.gene_sets import gene_ranks
from spotwise.evaluation.leak_audit import RunFiles, audit, to_markdown, write_audit
from spotwise.evaluation.leak_checks import (
    BY_DESIGN,
    CHECKPOINT,
    CLEAN,
    EXTERNAL_TRAINING,
    EXTERNAL_TRUTH,
    LEAK,
    NO_TISSUE,
    NOT_CHECKED,
    OFF_TISSUE,
    PANEL,
    PATIENTS,
    RANKING,
    SAME_COUNTS,
    SAME_FILE,
    SAME_PICTURE,
    SPOTS,
    TWINS,
    WARNING,
    Panels,
    checkpoint_source,
    external_training,
    external_truth,
    panel_source,
    ranking_source,
    read_external_scores,
    shared_patients,
    shared_rows,
)

N_TOP, TOP = 40, 15
MARKERS = ["EPCAM", "COL1A1"]
SIZE = CohortSize(grid=6, n_genes=100)
SHEET = [("S1", "P1"), ("S2", "P1"), ("S3", "P2"), ("S4", "P3")]


CHOSEN = {}


def choose(slides, *arguments):
    """`select_genes`, which is slow, once for the same slides."""
    key = (*sorted((sample, float(adata.X.sum())) for sample, adata in slides.items()), *map(str, arguments))
    if key not in CHOSEN:
        CHOSEN[key] = select_genes(slides, *arguments)
    return CHOSEN[key]


@pytest.fixture(scope="module", autouse=True)
def remembered_panels():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spotwise.evaluation.leak_checks.select_genes", choose)
        yield


# --- a generated run, without its trainings ---------------------------------------------------------------------------


class Prepared:
    """What the pipeline makes of one sample, from its files in HEST's layout."""

    def __init__(self, root, sample):
        files = hest.sample_files(root, sample)
        raw = read_counts(files.counts)
        metadata = hest.read_metadata(files.metadata)
        size = hest.slide_size(metadata, files.metadata)
        self.counts, self.qc = clean_counts(raw, sample, size, 100, files.counts)
        picture, patches = root / f"{sample}.png", root / f"{sample}.h5"
        thumbnail(raw).save(picture)
        extract_patches(
            files.slide,
            self.counts.obsm["spatial"],
            self.counts.obs_names,
            metadata["pixel_size_um_estimated"],
            patches,
        )
        self.fingerprint = fingerprint([files.counts, files.metadata, files.slide], picture, self.counts, patches)
        self.slide = spots_with_patches(normalise(self.counts), patches)
        self.path = root / f"{sample}.counts.h5ad"
        self.counts.write_h5ad(self.path)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cohort")
    generate_cohort(folder, SHEET, 0, size=SIZE)
    return folder


@pytest.fixture(scope="module")
def clean_samples(root):
    return {sample: Prepared(root, sample) for sample, _ in SHEET}


class Run:
    """Folds and scores of a run; ``panel_of`` and ``rank_as`` are protocols by which genes are chosen and ranked."""

    def __init__(self, folder, samples, sheet=SHEET, panel_of=None, rank_as=None):
        self.folder, self.samples, self.folds, self.scores = folder, samples, [], {}
        rows = [Sample(sample=sample, cohort="demo", patient=patient) for sample, patient in sheet]
        for protocol in (PAPER, PATIENT):
            for plan in plan_folds(rows, protocol):
                chooses = [*plan.train, *(plan.test if (panel_of or protocol) == PAPER else ())]
                counts = {sample: samples[sample].counts for sample in chooses}
                panel, _ = choose(counts, N_TOP, MARKERS, None)
                slides = {sample: samples[sample].slide for sample in (*plan.train, *plan.test)}
                patients = dict(sheet)
                fold = assemble_fold(plan, "demo", protocol, slides, patients, panel, 0.2)
                self.add(fold, rank_as or protocol)

    def add(self, fold, rank_as):
        place = self.folder / fold.protocol / str(fold.fold)
        write_fold(place / "fold.h5", fold)
        self.folds.append(place / "fold.h5")
        for sample in sorted(set(fold.sample[fold.rows(TEST)])):
            mean, var = replace(fold, protocol=rank_as).reference(sample)
            reference = {"reference_mean": mean, "reference_var": var, "is_hvg": fold.is_hvg}
            genes = pd.DataFrame(reference, index=fold.genes)
            genes["is_measured"] = ~np.isnan(fold.expression[fold.rows(TEST, sample=sample)]).any(axis=0)
            path = place / f"{sample}.parquet"
            scores = gene_ranks(genes).assign(gene=fold.genes, fold=fold.fold, sample=sample, is_measured=True)
            scores.to_parquet(path, index=False)
            self.scores.setdefault(("demo", fold.protocol), []).append(path)

    def tamper(self, protocol, number, change):
        """Rewrite one fold with other contents; the plan and the sheet stay as they are."""
        path = next(path for path in self.folds if path.parts[-3:-1] == (protocol, str(number)))
        write_fold(path, change(read_fold(path)))

    def audit(self, trained_on=None):
        run = RunFiles(
            self.folds,
            {name: sample.path for name, sample in self.samples.items()},
            self.scores,
            {name: sample.fingerprint for name, sample in self.samples.items()},
            {name: sample.qc for name, sample in self.samples.items()},
        )
        return audit(run, Panels(N_TOP, None), {"demo": MARKERS}, TOP, trained_on)


@pytest.fixture(scope="module")
def clean_run(tmp_path_factory, clean_samples):
    return Run(tmp_path_factory.mktemp("clean"), clean_samples)


@pytest.fixture(scope="module")
def clean(clean_run):
    return clean_run.audit()


def status(findings, check, protocol=None, fold=None):
    """Status of a check where it is the only one of its kind, else by fold."""
    rows = findings[findings["check"] == check]
    rows = rows if protocol is None else rows[rows["protocol"] == protocol]
    rows = rows if fold is None else rows[rows["fold"] == str(fold)]
    assert not rows.empty
    return rows["status"].item() if len(rows) == 1 else dict(zip(rows["fold"], rows["status"], strict=True))


def only(findings, check, protocol, fold):
    rows = findings.query("check == @check and protocol == @protocol and fold == @fold")
    return rows.iloc[0]


def alarms(findings):
    rows = findings[findings["status"].isin([LEAK, WARNING])]
    return {(row.check, row.protocol, row.fold): row.status for row in rows.itertuples()}


# --- clean ------------------------------------------------------------------------------------------------------------


def test_a_clean_run_has_no_leak_and_no_warning(clean):
    assert set(clean["status"]) == {CLEAN, BY_DESIGN}


def test_what_the_protocols_prescribe_is_reported_as_by_design(clean):
    assert status(clean, PATIENTS, PAPER) == {"0": BY_DESIGN, "1": BY_DESIGN, "2": CLEAN, "3": CLEAN}
    for check in (PANEL, RANKING, CHECKPOINT):
        assert set(status(clean, check, PAPER).values()) == {BY_DESIGN}
    for check in (PATIENTS, SPOTS, TWINS, PANEL, RANKING, CHECKPOINT):
        assert set(status(clean, check, PATIENT).values()) == {CLEAN}
    for check in (SAME_FILE, SAME_PICTURE, SAME_COUNTS, NO_TISSUE, OFF_TISSUE):
        assert status(clean, check) == CLEAN


def test_every_fold_is_checked_for_everything(clean):
    folds = clean[clean["fold"] != "all"]
    assert folds.groupby(["protocol", "fold"])["check"].nunique().to_dict() == {
        **{(PAPER, str(fold)): 6 for fold in range(4)},
        **{(PATIENT, str(fold)): 6 for fold in range(3)},
    }
    assert (folds.loc[folds["status"] == CLEAN, "n"] == 0).all()
    assert (clean.loc[clean["status"] == BY_DESIGN, "n"] > 0).all()


def test_differences_of_the_panel_are_counted_gene_by_gene(clean, clean_samples):
    for fold in range(4):
        tested = SHEET[fold][0]
        counts = {sample: prepared.counts for sample, prepared in clean_samples.items()}
        everyone, everyones_hvg = selected(counts)
        del counts[tested]
        training, trainings_hvg = selected(counts)
        more = (everyone - training) | (everyones_hvg - trainings_hvg)
        fewer = (training - everyone) | (trainings_hvg - everyones_hvg)
        found = only(clean, PANEL, PAPER, str(fold))
        assert found["n"] == len(more | fewer)
        assert found["detail"].startswith(f"the panel of all slides, {tested} included: {len(more)} of")
        assert f"{len(fewer)} that they select are missing" in found["detail"]


def selected(counts):
    panel, _ = choose(counts, N_TOP, MARKERS, None)
    return set(panel["gene"]), set(panel.loc[panel["n_slides_hvg"] > 0, "gene"])


@pytest.mark.parametrize(("protocol", "status"), [(PAPER, WARNING), (PATIENT, LEAK)])
def test_a_marker_taken_for_highly_variable_is_found(fold, protocol, status):
    """A slide whose test spots alone make a marker variable would put it into the lists, with the same panel."""

    class FixedPanels:
        def of(self, samples):
            return {("A", False), ("B", False), ("A", True)}  # B is a marker

    genes = np.array(["A", "B"], dtype=object)
    fold = replace(fold, genes=genes, is_hvg=np.array([True, False]), protocol=protocol)
    assert panel_source(fold, FixedPanels()).status == CLEAN
    found = panel_source(replace(fold, is_hvg=np.array([True, True])), FixedPanels())
    assert (found.status, found.n) == (status, 1)


def test_genes_too_many_and_genes_too_few_both_count(fold):
    class FixedPanels:
        def of(self, samples):
            genes = "ABC" if {"C", "D"} & set(samples) else "BCDE"
            return {(gene, is_hvg) for gene in genes for is_hvg in (False, True)}

    fold = replace(fold, genes=np.array(["A", "B", "C"], dtype=object), is_hvg=np.ones(3, dtype=bool))
    found = panel_source(fold, FixedPanels())
    assert (found.status, found.n) == (LEAK, 3)
    assert found.detail == (
        "the panel of all slides, C, D included: 1 of its 3 genes not selected by the training slides, "
        "2 that they select are missing"
    )
    fewer = panel_source(replace(fold, genes=np.array(["B", "C", "D"], dtype=object)), FixedPanels())
    assert (fewer.status, fewer.n) == (LEAK, 1)


def test_one_predictor_that_was_scored_on_other_genes_is_found(tmp_path, clean_samples):
    run = Run(tmp_path, clean_samples)
    path = run.scores["demo", PATIENT][0]
    table = pd.read_parquet(path)
    table["rank_mean"] = table["rank_mean"].max() + 1 - table["rank_mean"]
    table.to_parquet(tmp_path / "other.parquet")
    run.scores["demo", PATIENT].append(tmp_path / "other.parquet")
    assert alarms(run.audit()) == {(RANKING, PATIENT, "0"): LEAK}


def test_details_name_the_patients_and_slides_on_both_sides(clean):
    assert only(clean, PATIENTS, PAPER, "1")["detail"] == "P1: S1 in training, S2 in test"


# --- planted: the same slide twice ------------------------------------------------------------------------------------


def copied(root, sample, new):
    """Files of a sample under another id."""
    for folder, suffix in (("st", "h5ad"), ("wsis", "tif"), ("metadata", "json")):
        shutil.copy(root / folder / f"{sample}.{suffix}", root / folder / f"{new}.{suffix}")
    metadata = json.loads((root / f"metadata/{new}.json").read_text()) | {"id": new}
    (root / f"metadata/{new}.json").write_text(json.dumps(metadata))


def with_copy(tmp_path, clean_samples, twin, patient):
    return Run(tmp_path, {**clean_samples, "S5": twin}, [*SHEET, ("S5", patient)])


@pytest.fixture(scope="module")
def plain_copy(root, clean_samples):
    copied(root, "S3", "S5")
    return Prepared(root, "S5")


def test_a_slide_under_two_ids_of_its_patient_leaks_where_slides_are_left_out(tmp_path, clean_samples, plain_copy):
    findings = with_copy(tmp_path, clean_samples, plain_copy, "P2").audit()
    expected = {(check, "all", "all"): WARNING for check in (SAME_FILE, SAME_PICTURE, SAME_COUNTS)}
    expected |= {(check, PAPER, fold): LEAK for check in (TWINS, SPOTS) for fold in ("2", "4")}
    assert alarms(findings) == expected
    detail = only(findings, TWINS, PAPER, "4")["detail"]
    assert detail.startswith("S5 (P2) in test is S3 (P2) in training: same file (")
    assert "same picture (distance 0.00), same counts (100% of the spots)" in detail


def test_a_patient_under_two_names_leaks_where_patients_are_left_out(tmp_path, clean_samples, plain_copy):
    findings = with_copy(tmp_path, clean_samples, plain_copy, "another name").audit()
    assert {key for key in alarms(findings) if key[1] == PATIENT} == {
        (check, PATIENT, fold) for check in (TWINS, SPOTS) for fold in ("1", "3")
    }
    assert set(status(findings, TWINS, PATIENT).values()) == {LEAK, CLEAN}
    assert "S3 (P2) in test is S5 (another name) in training" in only(findings, TWINS, PATIENT, "1")["detail"]
    assert "S3 (demo, P2) and S5 (demo, another name)" in findings.query("check == @SAME_COUNTS")["detail"].item()
    assert set(status(findings, PATIENTS, PATIENT).values()) == {CLEAN}  # by its name it is someone else


def test_a_copy_with_other_counts_is_found_by_its_picture(tmp_path, root, clean_samples):
    copied(root, "S3", "S6")
    with (root / "wsis/S6.tif").open("ab") as file:
        file.write(b"0")  # another file
    adata = anndata.read_h5ad(root / "st/S6.h5ad")
    adata.X = adata.X[:, np.random.default_rng(0).permutation(adata.n_vars)]
    pictures = adata.uns["spatial"]["ST"]["images"]
    picture = Image.fromarray(pictures["downscaled_fullres"]).transpose(Image.Transpose.ROTATE_270).resize((640, 640))
    pictures["downscaled_fullres"] = np.asarray(picture.crop((9, 0, 640, 631)))
    adata.write_h5ad(root / "st/S6.h5ad")

    findings = with_copy(tmp_path, clean_samples, Prepared(root, "S6"), "P9").audit()
    assert alarms(findings) == {
        (SAME_PICTURE, "all", "all"): WARNING,
        **{(TWINS, PAPER, fold): LEAK for fold in ("2", "4")},
        **{(TWINS, PATIENT, fold): LEAK for fold in ("1", "3")},
    }
    assert (
        "S5 (P9) in test is S3 (P2) in training: same picture (distance 0."
        in only(findings, TWINS, PATIENT, "3").detail
    )


def test_a_part_of_the_spots_with_another_picture_is_found_by_its_counts(tmp_path, root, clean_samples):
    generate_sample(root, "S7", "P9", 0, size=SIZE)
    picture = read_counts(root / "st/S7.h5ad").uns
    adata = anndata.read_h5ad(root / "st/S3.h5ad")
    half = adata[np.random.default_rng(0).permutation(adata.n_obs)[: adata.n_obs // 2]].copy()
    half.obs_names = [f"spot{number}" for number in range(half.n_obs)]
    half.uns = picture
    half.write_h5ad(root / "st/S7.h5ad")

    findings = with_copy(tmp_path, clean_samples, Prepared(root, "S7"), "P9").audit()
    assert {key: value for key, value in alarms(findings).items() if key[0] in (SAME_COUNTS, SAME_PICTURE, TWINS)} == {
        (SAME_COUNTS, "all", "all"): WARNING,
        **{(TWINS, PAPER, fold): LEAK for fold in ("2", "4")},
        **{(TWINS, PATIENT, fold): LEAK for fold in ("1", "3")},
    }


def test_two_cohorts_that_share_a_slide_are_reported_without_a_leak(tmp_path, clean_samples, plain_copy):
    one, two = Run(tmp_path / "one", clean_samples), {"S5": plain_copy, "S1": clean_samples["S1"]}
    other = Run(tmp_path / "two", two, [("S5", "P2"), ("S1", "P1")])
    for path in other.folds:
        write_fold(path, replace(read_fold(path), cohort="other"))
    samples = {**clean_samples, **two}
    run = RunFiles(
        [*one.folds, *other.folds],
        {name: sample.path for name, sample in samples.items()},
        one.scores | {("other", protocol): paths for (_, protocol), paths in other.scores.items()},
        {name: sample.fingerprint for name, sample in samples.items()},
        {name: sample.qc for name, sample in samples.items()},
    )
    findings = audit(run, Panels(N_TOP, None), {"demo": MARKERS, "other": MARKERS}, TOP)
    assert LEAK not in set(findings["status"])
    assert status(findings, SAME_PICTURE) == WARNING
    assert "S3 (demo, P2) and S5 (other, P2)" in findings.query("check == @SAME_PICTURE")["detail"].item()


def test_a_slide_without_a_picture_is_not_called_clean(tmp_path, clean_samples):
    blank = dict(clean_samples)
    blank["S2"] = copy(clean_samples["S2"])
    blank["S2"].fingerprint = clean_samples["S2"].fingerprint | {"picture": None}
    findings = Run(tmp_path, blank).audit()
    row = findings.query("check == @SAME_PICTURE").iloc[0]
    assert (row["status"], row["detail"].split("; ")[0]) == (NOT_CHECKED, "no picture of S2")


# --- planted: folds that are not what their plan says -----------------------------------------------------------------


def test_a_patient_of_the_training_set_that_is_tested_is_a_leak(tmp_path, clean_samples):
    run = Run(tmp_path, clean_samples)

    def renamed(fold):
        patient = fold.patient.copy()
        patient[fold.rows(TEST)] = "P1"
        return replace(fold, patient=patient)

    run.tamper(PATIENT, 2, renamed)
    findings = run.audit()
    assert alarms(findings) == {(PATIENTS, PATIENT, "2"): LEAK}
    assert only(findings, PATIENTS, PATIENT, "2")["detail"] == "P1: S1, S2 in training, S4 in test"


def test_a_patient_who_only_validates_counts_as_training(fold):
    role = fold.role.copy()
    role[fold.sample == "B"] = VAL
    patient = fold.patient.copy()
    patient[fold.sample == "D"] = "B"
    patient[fold.sample == "C"] = "C"
    found = shared_patients(replace(fold, role=role, patient=patient))
    assert (found.status, found.n, found.detail) == (LEAK, 1, "B: B in training, D in test")


def test_a_panel_chosen_with_test_slides_is_a_leak(tmp_path, clean_samples, clean):
    findings = Run(tmp_path, clean_samples, panel_of=PAPER).audit()
    assert alarms(findings) == {(PANEL, PATIENT, str(fold)): LEAK for fold in range(3)}
    # P2 and P3 have one slide each, which the paper protocol leaves out, too
    assert only(findings, PANEL, PATIENT, "1")["n"] == only(clean, PANEL, PAPER, "2")["n"]


def test_a_panel_that_no_set_of_slides_selects_is_reported(tmp_path, clean_samples):
    run = Run(tmp_path, clean_samples)
    for protocol in (PAPER, PATIENT):
        run.tamper(protocol, 0, lambda fold: replace(fold, genes=np.array(["ODD", *fold.genes[1:]], dtype=object)))
    findings = run.audit()
    assert alarms(findings)[PANEL, PAPER, "0"] == WARNING
    assert alarms(findings)[PANEL, PATIENT, "0"] == LEAK
    assert only(findings, PANEL, PATIENT, "0")["detail"].startswith("neither")


def test_genes_ranked_on_the_test_slide_are_a_leak(tmp_path, clean_samples):
    findings = Run(tmp_path, clean_samples, rank_as=PAPER).audit()
    assert alarms(findings) == {(RANKING, PATIENT, str(fold)): LEAK for fold in range(3)}
    assert "genes that only the test slide ranks so high" in only(findings, RANKING, PATIENT, "0")["detail"]


def test_a_list_is_checked_gene_by_gene(fold):
    """Genes by mean of the training slides; one listed gene swapped for the first that is not in the list."""
    fold = replace(fold, fold=3, is_hvg=np.ones(len(fold.genes), dtype=bool))
    slides = [fold.expression[fold.rows(TRAIN, VAL, sample=slide)] for slide in ("A", "B")]
    order = {
        "rank_mean": fold.genes[np.argsort(-(slides[0].mean(axis=0) + slides[1].mean(axis=0)))],
        "rank_var": fold.genes[np.argsort(-(slides[0].var(axis=0) + slides[1].var(axis=0)))],
    }

    def listed(swapped):
        table = pd.DataFrame({"sample": np.repeat(["C", "D"], len(fold.genes)), "gene": [*fold.genes] * 2})
        for name, genes in order.items():
            table[name] = table["gene"].isin(genes[:5])
        if swapped:
            rows = table["sample"] == "D"
            table.loc[rows & (table["gene"] == order["rank_mean"][4]), "rank_mean"] = False
            table.loc[rows & (table["gene"] == order["rank_mean"][5]), "rank_mean"] = True
        return table

    assert ranking_source(fold, listed(swapped=False)).status == CLEAN
    found = ranking_source(fold, listed(swapped=True))
    assert (found.status, found.n) == (LEAK, 1)
    assert found.detail.endswith(f"D: {order['rank_mean'][5]}")
    assert ranking_source(replace(fold, protocol=PAPER), listed(swapped=True)).status == WARNING


def test_unmeasured_genes_take_no_place_in_the_lists(fold):
    """The training slides' first gene is not measured on C: the next ones move up, and that is no leak."""
    expression = fold.expression.copy()
    expression[fold.rows(TEST, sample="C"), 0] = np.nan  # gene 0 has by far the highest mean
    fold = replace(fold, expression=expression)
    var = {}
    for sample in ("C", "D"):
        mean, variance = fold.reference(sample)
        reference = {"reference_mean": mean, "reference_var": variance, "is_hvg": fold.is_hvg}
        genes = pd.DataFrame(reference, index=fold.genes)
        genes["is_measured"] = ~np.isnan(expression[fold.rows(TEST, sample=sample)]).any(axis=0)
        var[sample] = gene_ranks(genes).le(4) & gene_ranks(genes).ge(1)
    ranks = pd.concat([table.assign(sample=sample, gene=table.index) for sample, table in var.items()])
    assert not ranks.query("sample == 'C' and gene == 'G00'")["rank_mean"].item()
    assert ranking_source(fold, ranks).status == CLEAN


@pytest.mark.parametrize(("protocol", "status"), [(PAPER, WARNING), (PATIENT, LEAK)])
def test_a_marker_in_the_lists_is_found(fold, protocol, status):
    """Gene 0 has by far the highest mean of all slides, and is in the panel as a marker only."""
    order = fold.genes[np.argsort(-fold.reference("C")[0])]  # of the training slides
    assert order[0] == "G00"
    fold = replace(fold, is_hvg=np.arange(len(fold.genes)) > 0, protocol=protocol)
    for listed, expected in ((order[1:5], CLEAN), (order[:4], status)):
        ranks = pd.DataFrame({"sample": "C", "gene": listed, "rank_mean": True, "rank_var": False})
        assert ranking_source(fold, ranks).status == expected


def test_a_tested_spot_of_a_training_slide_is_a_leak_by_any_protocol(fold):
    role = fold.role.copy()
    role[fold.rows(TRAIN, sample="A")[:4]] = TEST
    for protocol in (PAPER, PATIENT):
        found = shared_rows(replace(fold, role=role, protocol=protocol))
        assert (found.status, found.n, found.detail) == (LEAK, 4, "4 spots of training slides: A")


def test_a_tested_spot_with_the_expression_of_a_training_spot_is_a_leak(fold):
    expression = fold.expression.copy()
    tested = fold.rows(TEST, sample="D")
    expression[tested[:2]] = expression[fold.rows(VAL)[:2]]
    repeated = replace(fold, expression=expression)
    found = shared_rows(replace(repeated, protocol=PAPER))
    assert (found.status, found.n) == (LEAK, 2)
    assert found.detail == "2 spots of D with the expression of a training spot"
    few = fold.total_counts.copy()
    few[tested[0]] = 19
    assert shared_rows(replace(repeated, total_counts=few)).n == 1
    assert shared_rows(fold).status == CLEAN


@pytest.mark.parametrize(
    ("val_on", "patients", "paper", "patient"),
    [
        ({"B": 25}, "AB", CLEAN, CLEAN),  # a slide of its own patient
        ({"B": 5}, "AB", BY_DESIGN, WARNING),  # a part of a slide that trains
        ({"B": 25}, "AA", BY_DESIGN, BY_DESIGN),  # the only training patient has both slides
        ({"A": 10, "B": 10}, "AB", BY_DESIGN, WARNING),
        ({"B": 5}, "AA", BY_DESIGN, WARNING),
    ],
)
def test_where_the_checkpoint_is_chosen(fold, val_on, patients, paper, patient):
    role = np.where(fold.role == TEST, TEST, TRAIN).astype(object)
    for slide, n in val_on.items():
        role[np.flatnonzero(fold.sample == slide)[:n]] = VAL
    names = np.array([dict(zip("AB", patients, strict=True)).get(slide, slide) for slide in fold.sample], dtype=object)
    fold = replace(fold, role=role, patient=names)
    assert checkpoint_source(replace(fold, protocol=PAPER)).status == paper
    assert checkpoint_source(replace(fold, protocol=PATIENT)).status == patient


def test_a_block_of_the_only_training_slide_may_validate(fold):
    kept = fold.sample != "B"
    alone = replace(fold, sample=fold.sample[kept], patient=fold.patient[kept], role=fold.role[kept])
    found = checkpoint_source(alone)
    assert (found.status, found.n) == (BY_DESIGN, 3)


def test_validation_on_training_slides_is_a_warning_where_a_whole_slide_was_available(fold):
    """B, of patient A, validates beside A, while D, of a patient of its own, trains."""
    role = np.where(fold.sample == "B", VAL, np.where(fold.sample == "C", TEST, TRAIN)).astype(object)
    names = np.array([{"B": "A", "C": "C"}.get(slide, slide) for slide in fold.sample], dtype=object)
    assert checkpoint_source(replace(fold, role=role, patient=names)).status == WARNING


# --- spots off the tissue ---------------------------------------------------------------------------------------------


def test_spots_off_the_tissue_are_counted_by_picture_and_by_mark(tmp_path, clean_samples):
    changed = {name: copy(sample) for name, sample in clean_samples.items()}
    for sample in changed.values():
        sample.fingerprint = sample.fingerprint | {"n_without_tissue": 0}
        sample.qc = sample.qc | {"n_spots_kept_off_tissue": 0}
    spots = clean_samples["S2"].fingerprint["n_spots"]
    changed["S2"].fingerprint = changed["S2"].fingerprint | {"n_without_tissue": spots // 2}
    changed["S3"].qc = {key: value for key, value in changed["S3"].qc.items() if key != "n_spots_kept_off_tissue"}
    changed["S4"].qc = changed["S4"].qc | {"n_spots_kept_off_tissue": 1}
    findings = Run(tmp_path, changed).audit()
    by_picture = findings.query("check == @NO_TISSUE").iloc[0]
    assert (by_picture["status"], by_picture["n"]) == (WARNING, spots // 2)
    assert f"S2: {spots // 2} of {spots} (" in by_picture["detail"]
    by_mark = findings.query("check == @OFF_TISSUE").iloc[0]
    assert (by_mark["status"], by_mark["n"]) == (NOT_CHECKED, 1)
    assert by_mark["detail"].endswith("no column in_tissue: S3")
    assert set(alarms(findings)) == {(NO_TISSUE, "all", "all")}


# --- predictions of other tools ---------------------------------------------------------------------------------------


def tool_scores(path, **pcc):
    """Write scores of genes on S1, which fold 0 tests, by predictor."""
    rows = [
        {"predictor": name, "kind": kind, "fold": 0, "sample": "S1", "gene": f"G{place}", "pcc": value}
        for name, (kind, values) in pcc.items()
        for place, value in enumerate(values)
    ]
    table = pd.DataFrame(rows)
    table["is_measured"], table["is_constant"] = table["pcc"].notna(), table["pcc"].eq(0)
    table.to_parquet(path, index=False)
    return read_external_scores([path])


def test_a_prediction_that_is_the_truth_is_a_leak_under_both_protocols(tmp_path, clean_run):
    copied, real = [1, 0.99999, 0.9999, 0.2, np.nan], [1, 0.5, 0.3, 0.2, 0]
    kinds = {"Oracle": ("control", copied), "Tool": ("external", copied), "Real": ("external", real)}
    scores = tool_scores(tmp_path / "scores.parquet", **kinds)
    assert sorted(scores["predictor"].unique()) == ["Real", "Tool"]
    for path in clean_run.folds:
        fold = read_fold(path)
        found = external_truth(fold, scores)
        assert (found.check, found.status) == (EXTERNAL_TRUTH, LEAK if fold.fold == 0 else CLEAN)
        assert (found.n, found.detail) == ((3, "Tool on S1: 3 of 4 genes") if fold.fold == 0 else (0, ""))
    assert external_truth(read_fold(clean_run.folds[0]), scores[scores["predictor"] == "Real"]).status == CLEAN


def test_training_slides_of_other_tools_are_not_checked_and_what_is_stated_is_repeated():
    found = external_training("demo", PATIENT, ["A", "B"], {"A": "TCGA", "B": ""})
    assert (found.check, found.status, found.n, found.fold) == (EXTERNAL_TRAINING, NOT_CHECKED, 2, "all")
    assert found.detail.endswith("A: TCGA; B: not stated")


def test_a_run_with_other_tools_has_both_findings(clean_run, clean, tmp_path):
    run = copy(clean_run)
    run.scores = {}
    for section, paths in clean_run.scores.items():
        for number, path in enumerate(paths):
            table = pd.read_parquet(path).assign(predictor="Tool", kind="external", pcc=0.3, is_constant=False)
            target = tmp_path / f"{section[1]}{number}.parquet"
            table.to_parquet(target, index=False)
            run.scores.setdefault(section, []).append(target)
    findings = run.audit({"Tool": "other slides"})
    more = findings[findings["check"].isin([EXTERNAL_TRUTH, EXTERNAL_TRAINING])]
    assert more["status"].value_counts().to_dict() == {CLEAN: len(run.folds), NOT_CHECKED: 2}
    rest = findings.drop(more.index).reset_index(drop=True)
    pd.testing.assert_frame_equal(rest, clean)


# --- files ------------------------------------------------------------------------------------------------------------


def test_the_page_puts_alarms_first_and_folds_with_one_result_together(clean):
    page = to_markdown(clean)
    assert "Neither a leak nor a warning." in page
    assert f"| {SPOTS} | {CLEAN} | 0, 1, 2, 3 | 0 |  |" in page
    assert f"| {PATIENTS} | {BY_DESIGN} | 0, 1 | 1 | fold 0: P1: S2 in training, S1 in test; ... |" in page
    odd = clean.copy()
    odd.loc[odd.index[-1], ["status", "detail"]] = [LEAK, "a <b>|name_"]
    page = to_markdown(odd)
    assert page.index("## Leaks and warnings") < page.index("## demo")
    assert "a &lt;b>\\|name\\_" in page.split("## demo")[0]
    assert "<b>" not in page


def test_written_twice_the_files_are_the_same_and_hold_all_findings(tmp_path, clean, clean_run):
    write_audit(clean, tmp_path / "a.csv", tmp_path / "a.md")
    write_audit(clean_run.audit(), tmp_path / "b.csv", tmp_path / "b.md")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert (tmp_path / "a.md").read_bytes() == (tmp_path / "b.md").read_bytes()
    read = pd.read_csv(tmp_path / "a.csv", dtype={"fold": str}, keep_default_na=False)
    assert list(read.columns) == ["cohort", "protocol", "fold", "check", "status", "n", "detail"]
    pd.testing.assert_frame_equal(read, clean)
