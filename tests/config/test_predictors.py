"""Predictors, seeds and folds of the shipped configurations and of small ones."""

from configurations import ROOT, at, content
from spotwise.config import Predictor, fold_plans, folds_that_test, plans_by_protocol, predictors, prepare, seeds
from spotwise.constants import PAPER, PATIENT, SHUFFLED
from spotwise.data.sample_sheet import patients, read_samples
from spotwise.models.registry import REGISTRY


def test_the_paper_is_six_cohorts_of_22_slides():
    samples = prepare(content(ROOT / "config.yaml"))
    members = {}
    for sample in samples:
        members.setdefault(sample.cohort, []).append(sample.sample)
    assert members == {
        "IDC-LymphNode": ["NCBI681", "NCBI682", "NCBI683", "NCBI684"],
        "SKCM": ["TENX115", "TENX117"],
        "READ": ["ZEN36", "ZEN40", "ZEN48", "ZEN49"],
        "COAD": ["TENX111", "TENX147", "TENX148", "TENX149"],
        "IDC": ["NCBI783", "NCBI785", "TENX95", "TENX99"],
        "PSC": ["NCBI672", "NCBI673", "NCBI674", "NCBI675"],
    }


def test_patients_of_the_paper_are_those_of_its_donors():
    samples = read_samples("resources/samples.tsv")
    of = {sample.sample: sample.patient for sample in samples}
    slides = {cohort: [s for s in samples if s.cohort == cohort] for cohort in {s.cohort for s in samples}}
    assert len(samples) == 22
    assert all(sample.patient and sample.technology for sample in samples)
    assert {cohort: len(patients(members)) for cohort, members in slides.items()} == {
        "IDC-LymphNode": 4,
        "SKCM": 2,
        "READ": 2,
        "COAD": 4,
        "IDC": 3,
        "PSC": 1,
    }
    assert of["ZEN36"] == of["ZEN40"]  # replicates of one resection
    assert of["ZEN48"] == of["ZEN49"]
    assert of["TENX95"] == of["TENX99"]  # one donor, says their publisher
    assert len({of["TENX147"], of["TENX148"], of["TENX149"]}) == 3  # "Patient 1" thrice in HEST 1.1


def test_markers_are_those_of_the_papers_datasets_section(paper):
    assert {cohort: " ".join(settings["markers"]) for cohort, settings in paper["cohorts"].items()} == {
        "IDC-LymphNode": "ZNF276 ZNF750 YBX1 VHL RUNX2 RND ERCC4 PADI2 S100A8 S100A6",
        "SKCM": "MIA PMEL MLANA MITF TYR",
        "READ": "OLFM4 PLA2G2A PLA2G2D MMP1 MMP11 MMP12 SMAD4 MUC13 SLC26A3 ZG16 NDRG1",
        "COAD": "CLCA1 CD8A PRF1 GZMA GZMK",
        "IDC": "MKI67 ERBB2 PRF1 ESR1 PGR GATA3 AR EGFR",
        "PSC": "CYP3A4 VWF KRT7 ACTA2 DCN",
    }


def test_folds_of_the_paper_are_counted_right(paper):
    samples = prepare(paper)
    counted = {}
    for cohort, protocol, _ in fold_plans(paper, samples):
        counted[cohort, protocol] = counted.get((cohort, protocol), 0) + 1
    assert counted == {
        ("IDC-LymphNode", PAPER): 4,
        ("SKCM", PAPER): 2,
        ("READ", PAPER): 4,
        ("COAD", PAPER): 4,
        ("IDC", PAPER): 4,
        ("PSC", PAPER): 4,
        ("IDC-LymphNode", PATIENT): 4,
        ("SKCM", PATIENT): 2,
        ("READ", PATIENT): 2,
        ("COAD", PATIENT): 4,
        ("IDC", PATIENT): 3,
    }


def test_each_matching_of_an_entry_is_a_predictor_of_the_same_training(small):
    at(small, "methods.CMRCNet.neighbours", [1, 50])
    prepare(at(small, "methods.CMRCNet.matching", ["average", "weighted"]))
    found = [(one.name, one.method, one.k, one.matching) for one in predictors(small) if one.kind == "retrieval"]
    assert found == [
        ("CMRCNet-1", "CMRCNet", 1, "average"),
        ("CMRCNet-50", "CMRCNet", 50, "average"),
        ("CMRCNet-50-weighted", "CMRCNet", 50, "weighted"),
    ]


def test_shuffled_controls_are_the_reference_with_its_k_alone_and_one_seed(small):
    at(
        small,
        "methods.CMRCNet",
        {"neighbours": [1, 50], "matching": ["average", "weighted"], "options": {"reading": "paper"}},
    )
    small |= {"seeds": [3, 4], "controls": ["TrainMean", *SHUFFLED], "evaluation": {"reference": "CMRCNet-50-weighted"}}
    prepare(small)
    reference = small["methods"]["CMRCNet"]
    for name, over in SHUFFLED.items():
        changed = {"neighbours": [50], "matching": ["weighted"], "shuffled": over}
        assert small["methods"][name] == reference | changed
        assert seeds(small, name) == [3]
    assert [one for one in predictors(small) if one.kind == "control"] == [
        Predictor("TrainMean", "TrainMean", "control"),
        *(Predictor(name, name, "control", 50, "weighted") for name in SHUFFLED),
    ]
    assert len(predictors(small)) == 3 + 3


def test_folds_are_found_by_protocol_and_by_the_slide_they_test(paper):
    folds = fold_plans(paper, prepare(paper))
    by_protocol, tested_in = plans_by_protocol(folds), folds_that_test(folds)
    assert list(by_protocol) == list(dict.fromkeys(key[:2] for key in folds))
    assert [(*key, plan.fold) for key, plans in by_protocol.items() for plan in plans] == list(folds)
    assert tested_in["READ", PAPER, "ZEN40"] == 1  # the second slide of its cohort
    assert tested_in["READ", PATIENT, "ZEN40"] == 0  # both slides of the first patient
    assert ("PSC", PATIENT, "NCBI672") not in tested_in
    assert all(sample in folds[(*key, fold)].test for (*key, sample), fold in tested_in.items())


def test_one_patient_is_enough_for_the_paper_protocol(small):
    small["cohorts"] = {"one": {"protocols": ["paper"]}}
    assert [sample.sample for sample in prepare(small)] == ["C1", "C2"]
    assert {protocol for _, protocol, _ in fold_plans(small, prepare(small))} == {PAPER}


def test_each_k_is_a_predictor_and_controls_come_last(paper):
    prepare(paper)
    names = [predictor.name for predictor in predictors(paper)]
    assert names[:6] == [f"{name}-{k}" for name in ("CMRCNet", "CMRCNet-paper") for k in (50, 250, 500)]
    assert [name for name in names if name.startswith("BLEEP")] == [
        *(f"BLEEP-ViT-{k}" for k in (50, 250, 500)),
        "BLEEP-50",
        "BLEEP-1",  # a weight alone is 1: there is no BLEEP-1-weighted
        "BLEEP-50-weighted",
        "BLEEP-Harmony-50",
    ]
    assert {"STNet", "HisToGene", "CTransPath", "NH2ST", "EGN", "Ridge", "KNNImage"} < set(names)
    assert names[-len(paper["controls"]) :] == paper["controls"]
    assert all(one.kind == "control" for one in predictors(paper)[-len(paper["controls"]) :])


def test_the_paper_runs_every_registered_method_and_control_that_predicts(paper):
    prepare(paper)
    predicting = {name for name, entry in REGISTRY.items() if entry.predicts}
    used = {settings["model"] for settings in paper["methods"].values()} | set(paper["controls"])
    assert used == predicting | {"ShuffledTraining"}


def test_the_arena_runs_every_registered_method_and_control():
    arena = content(ROOT / "configs/arena.yaml")
    prepare(arena)
    used = {settings["model"] for settings in arena["methods"].values()} | set(arena["controls"])
    assert used == set(REGISTRY) | set(SHUFFLED)


def test_what_holds_nothing_random_runs_once(paper):
    prepare(paper)
    assert seeds(paper, "CMRCNet-paper") == seeds(paper, "RandomRetrieval") == [0, 1, 2]
    assert seeds(paper, "Ridge") == seeds(paper, "TrainMean") == seeds(paper, "LibrarySize") == [0]
