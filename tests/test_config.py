"""Claims about the configuration: what is wrong with it is told in one line, what is left out is filled in."""

import copy
import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from spotwise import config as configuration
from spotwise.config import fold_plans, folds_that_test, plans_by_protocol, predictors, prepare, seeds
from spotwise.constants import PAPER, PATIENT
from spotwise.data.sample_sheet import patients, read_samples
from spotwise.errors import InputError
from spotwise.models.registry import REGISTRY, build, without_pretraining

ROOT = Path(__file__).parents[1]
EXAMPLES = [ROOT / "config.yaml", *sorted((ROOT / "configs").glob("*.yaml"))]


def content(path):
    return yaml.safe_load(Path(path).read_text(encoding="utf-8"))


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    """Configurations name their sample sheet from the root of the repository, where snakemake runs."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def paper():
    return content(ROOT / "config.yaml")


SHEET = """sample cohort patient
A1 two a
A2 two a
B1 two b
C1 one c
C2 one c
D1 single d
"""


@pytest.fixture
def small(tmp_path):
    """The least that a configuration can say."""
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(SHEET.replace(" ", "\t"))
    return {
        "run": "r",
        "samples": str(sheet),
        "data": {"source": "local", "root": "data"},
        "cohorts": {"two": {}},
        "methods": {"CMRCNet": {"neighbours": [50]}},
    }


def at(config, path, value):
    """``config`` with the value at a dotted path set; as the last part, `-key` takes a key out."""
    *parents, last = path.split(".")
    place = config
    for part in parents:
        place = place.setdefault(part, {})
    if last.startswith("-"):
        place.pop(last[1:])
    else:
        place[last] = value
    return config


def complaint(config):
    with pytest.raises(InputError) as error:
        prepare(config, "my.yaml")
    told = str(error.value)
    assert "\n" not in told
    return told


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_configuration_is_accepted(path):
    assert prepare(content(path))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_trained_method_of_an_example_can_be_built(path):
    import torch

    from spotwise.models.sizes import Sizes

    config = content(path)
    prepare(config)
    for settings in config["methods"].values():
        if REGISTRY[settings["model"]].trained:
            given = without_pretraining(settings["model"], settings["options"])
            with torch.device("meta"):
                build(settings["model"], Sizes(genes=10, positions=50, features=64), given)


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


# --- faults -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("protocol", "protocols"),
        ("data.sorce", "source"),
        ("data.generated.sed", "seed"),
        ("cohorts.two.marker", "markers"),
        ("expression.hvg_per_slides", "hvg_per_slide"),
        ("training.epoch", "epochs"),
        ("encoders.mine.pretraind", "pretrained"),
        ("methods.CMRCNet.neighbors", "neighbours"),
        ("methods.CMRCNet.training.learning_rates", "learning_rate"),
        ("methods.CMRCNet.options.masked_fractoin", "masked_fraction"),
        ("evaluation.topp", "top"),
    ],
)
def test_a_mistyped_key_is_named_and_its_meaning_guessed(small, path, meant):
    told = complaint(at(at(small, "encoders.mine.timm", "resnet18"), path, 1))
    assert path.rpartition(".")[2] in told
    assert told.endswith(f"did you mean {meant!r}?")
    assert told.startswith("my.yaml: ")


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("-run", None, "run: found nothing, expected a name of letters"),
        ("-samples", None, "samples: found nothing, expected path of the sample sheet"),
        ("run", "../elsewhere", "run: found '../elsewhere', expected a name of letters"),
        ("protocols", ["patients"], "found 'patients', expected one of paper, patient; did you mean 'patient'?"),
        ("protocols", [], "protocols: found []"),
        ("data.source", "huggingface", "data.revision: found nothing, expected a commit"),
        ("training.epochs", 0, "training.epochs: found 0, expected minimum 1"),
        ("training.batch_size", 64.0, "training.batch_size: found 64.0, expected integer"),
        ("training.learning_rate", "1e-4", "training.learning_rate: found '1e-4', expected number"),
        ("training.device", "gpu", "training.device: found 'gpu', expected one of cuda, cpu, auto"),
        ("validation_fraction", 1, "validation_fraction: found 1, expected exclusiveMaximum 1"),
        ("seeds", [0, 0], "seeds: found [0, 0], expected each value once"),
        ("seeds", [True], "seeds.0: found True, expected integer"),
        ("cohorts", {}, "cohorts: found {}"),
        ("cohorts.two", None, "cohorts.two: found None, expected object"),
        ("methods", {"a b": {}}, "methods: found 'a b', expected a name of letters"),
        ("methods", {1: {"model": "BLEEP", "neighbours": [1]}}, "methods: found 1, expected string"),
        ("methods.CMRCNet.model", "CMRCnet", "methods.CMRCNet.model: found 'CMRCnet'"),
        ("methods.CMRCNet.model", "TrainMean", "methods.CMRCNet.model: found 'TrainMean'"),
        ("methods.Unheard", {}, "methods.Unheard.model: found 'Unheard', expected one of BLEEP, CMRCNet, CTransPath"),
        ("methods.CMRCNet.neighbours", [], "methods.CMRCNet.neighbours: found nothing, expected a list of K"),
        ("methods.CMRCNet.neighbours", [0], "methods.CMRCNet.neighbours.0: found 0, expected minimum 1"),
        ("methods.CMRCNet.encoder", "mine", "methods.CMRCNet.encoder: found 'mine', expected none"),
        ("methods.CMRCNet.options.temperature", "1", "options.temperature: found '1', expected a number above 0"),
        (
            "methods.CMRCNet.options.encoder_depth",
            True,
            "options.encoder_depth: found True, expected an integer of at least 0",
        ),
        (
            "methods.CMRCNet.options.encoder_depth",
            2.0,
            "options.encoder_depth: found 2.0, expected an integer of at least 0",
        ),
        ("methods.CMRCNet.options.detach_target", 1, "options.detach_target: found 1, expected true or false"),
        ("methods.CMRCNet.options.reading", "papers", "reading: found 'papers', expected one of released, paper"),
        (
            "methods.Ridge.encoder",
            "mine",
            "methods.Ridge.encoder: found 'mine', expected a key of encoders: one of none",
        ),
        ("methods.Ridge", {}, "methods.Ridge.encoder: found None, expected a key of encoders"),
        (
            "controls",
            ["Trainmean"],
            "controls: found 'Trainmean', expected one of Coordinates, LibrarySize, NeighbourSlide, NoiseCeiling, "
            "Oracle, RandomRetrieval, TrainMean",
        ),
        ("controls", ["CMRCNet"], "controls: found 'CMRCNet'"),
        ("cohorts", {"twoo": {}}, "cohorts.twoo: found no sample of it"),
        ("cohorts", {"single": {"protocols": ["paper"]}}, "cohort single: found one sample, expected at least two"),
        ("cohorts", {"one": {}}, "cohorts.one.protocols: found the patient protocol with one patient (c)"),
        ("samples", "nowhere.tsv", "nowhere.tsv: samples: found no such file"),
    ],
)
def test_a_fault_is_told_in_one_line_that_names_its_place(small, path, value, told):
    assert told in complaint(at(small, path, value))


def test_a_key_that_yaml_does_not_read_as_text_is_told_too(small):
    assert "False: found an unknown key" in complaint({**small, **yaml.safe_load("no: 1")})


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"neighbours": [50]}, "Ridge retrieves no spots"),
        ({"matching": ["weighted"]}, "Ridge retrieves no spots"),
        ({"training": {"epochs": 2}}, "Ridge is fitted, not trained"),
        ({"harmony": True}, "Ridge is fitted on uncorrected expression"),
    ],
)
def test_what_a_frozen_method_does_not_know_is_refused(small, settings, why):
    at(small, "encoders.mine.timm", "resnet18")
    key = next(iter(settings))
    told = complaint(at(small, "methods.Ridge", {"encoder": "mine", **settings}))
    assert f"methods.Ridge.{key}: found" in told
    assert f"expected none: {why}" in told


def test_a_method_that_uses_frozen_features_needs_an_encoder_and_others_refuse_one(small):
    assert "methods.EGN.encoder: found None, expected a key of encoders" in complaint(at(small, "methods.EGN", {}))
    del small["methods"]["EGN"]
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, "methods.STNet", {"encoder": "mine"}))
    assert "methods.STNet.encoder: found 'mine', expected none: STNet has its own encoder" in told


@pytest.mark.parametrize("place", ["encoders.mine.checkpoint", "methods.CTransPath.options.checkpoint"])
def test_a_checkpoint_that_is_not_there_is_told_before_any_job(small, place):
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, place, "nowhere.pth"))
    assert told == f"my.yaml: {place}: found no file nowhere.pth, expected a file with an encoder's weights"


def test_each_matching_of_an_entry_is_a_predictor_of_the_same_training(small):
    at(small, "methods.CMRCNet.neighbours", [1, 50])
    prepare(at(small, "methods.CMRCNet.matching", ["average", "weighted"]))
    found = [(one.name, one.method, one.k, one.matching) for one in predictors(small) if one.kind == "retrieval"]
    assert found == [
        ("CMRCNet-1", "CMRCNet", 1, "average"),
        ("CMRCNet-50", "CMRCNet", 50, "average"),
        ("CMRCNet-50-weighted", "CMRCNet", 50, "weighted"),
    ]


@pytest.mark.parametrize("second", ["CMRCNet-50", "TrainMean"])
def test_two_predictors_of_one_name_are_refused(small, second):
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(small, f"methods.{second}", {"model": "Ridge", "encoder": "mine"}))
    assert f"two predictors named {second}" in told


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


# --- defaults ---------------------------------------------------------------------------------------------------------


def test_what_is_left_out_is_filled_in_at_every_level(small):
    prepare(small)
    assert small["protocols"] == ["paper", "patient"]
    assert small["cohorts"]["two"] == {"markers": [], "genes": [], "protocols": ["paper", "patient"]}
    assert small["data"]["images"] == "auto"
    assert small["data"]["generated"] == {"seed": 0, "spots_across": 15, "unlinked": []}
    assert small["expression"] == {
        "min_counts": 1,
        "target_sum": None,
        "outside": "refuse",
        "hvg_per_slide": 1000,
    }
    assert small["evaluation"] == {
        "top": 50,
        "extended": [{"top": 150, "k": 250}, {"top": 250, "k": 500}],
        "reference": "CMRCNet-50",
        "bootstrap": 2000,
    }
    assert small["methods"]["CMRCNet"]["model"] == "CMRCNet"
    assert small["methods"]["CMRCNet"]["matching"] == ["average"]


def test_the_reference_of_comparisons_is_a_predictor_of_the_run(small):
    small["evaluation"] = {"reference": "CMRCNet"}
    with pytest.raises(InputError, match=r"evaluation\.reference: found 'CMRCNet', .* did you mean 'CMRCNet-50'"):
        prepare(small)


def test_what_is_said_stays(small):
    said = copy.deepcopy(at(at(small, "training.epochs", 3), "expression.target_sum", 1e4))
    prepare(small)
    assert small["training"]["epochs"] == 3
    assert small["expression"]["target_sum"] == 1e4
    assert small["methods"]["CMRCNet"]["neighbours"] == said["methods"]["CMRCNet"]["neighbours"]


def test_a_methods_own_training_holds_nothing_but_what_it_says(small):
    prepare(at(small, "methods.CMRCNet.training.epochs", 3))
    assert small["methods"]["CMRCNet"]["training"] == {"epochs": 3}  # a default there would hide the run's own value


def test_no_two_defaults_are_one_object(small):
    small["cohorts"]["one"] = {"protocols": ["paper"]}
    prepare(small)
    small["cohorts"]["two"]["markers"].append("X")
    small["cohorts"]["two"]["protocols"].pop()
    assert small["cohorts"]["one"]["markers"] == small["cohorts"]["two"]["genes"] == []
    assert small["protocols"] == ["paper", "patient"]


def test_preparing_twice_changes_nothing(small):
    prepare(small)
    once = copy.deepcopy(small)
    prepare(small)
    assert small == once


def test_defaults_of_the_schema_are_those_of_the_training():
    from spotwise.training.loop import TrainingOptions

    described = content(ROOT / "schemas/config.schema.yaml")["$defs"]["training"]["properties"]
    assert {key: entry["default"] for key, entry in described.items()} == dataclasses.asdict(TrainingOptions())


# --- schemas ----------------------------------------------------------------------------------------------------------


def subschemas(schema, path=()):
    """Every property's schema with where it is, ``if`` conditions left out."""
    if isinstance(schema, dict):
        yield path, schema
        for key, value in schema.items():
            if key not in ("if", "then", "default", "enum", "required"):
                yield from subschemas(value, (*path, key))
    elif isinstance(schema, list):
        for number, value in enumerate(schema):
            yield from subschemas(value, (*path, number))


def resolved(schema, root):
    while "$ref" in schema:
        target = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


@pytest.mark.parametrize("name", ["config", "samples"])
def test_schemas_describe_every_key_close_every_object_and_keep_their_own_rules(name):
    root = content(ROOT / f"schemas/{name}.schema.yaml")
    Draft202012Validator.check_schema(root)
    keys = 0
    for path, schema in subschemas(root):
        if len(path) > 1 and path[-2] == "properties":
            keys += 1
            assert resolved(schema, root).get("description"), f"{path} has no description"
        if path[-1:] != ("properties",) and "properties" in schema:
            assert schema.get("additionalProperties") is False, f"{path} takes any key"
        if path[-1:] != ("properties",) and "default" in schema:
            Draft202012Validator(resolved(schema, root) | {"$defs": root.get("$defs", {})}).validate(schema["default"])
    assert keys >= 5


def test_a_comment_explains_every_key_of_the_papers_configuration():
    lines = (ROOT / "config.yaml").read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if line[:1].isalpha():
            above = lines[number - 1].startswith("#")
            below = lines[number + 1].startswith("  ")  # a heading: its own keys are explained one by one
            assert above or below or "#" in line, f"{line} goes without a word"


# --- methods ----------------------------------------------------------------------------------------------------------


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
    assert all(REGISTRY[name].kind == "control" for name in paper["controls"])


def test_the_paper_runs_every_registered_method_and_control_that_predicts(paper):
    prepare(paper)
    predicting = {name for name, entry in REGISTRY.items() if entry.predicts}
    assert {settings["model"] for settings in paper["methods"].values()} | set(paper["controls"]) == predicting


def test_the_arena_runs_every_registered_method_and_control():
    arena = content(ROOT / "configs/arena.yaml")
    prepare(arena)
    assert {settings["model"] for settings in arena["methods"].values()} | set(arena["controls"]) == set(REGISTRY)


def test_what_holds_nothing_random_runs_once(paper):
    prepare(paper)
    assert seeds(paper, "CMRCNet-paper") == seeds(paper, "RandomRetrieval") == [0, 1, 2]
    assert seeds(paper, "Ridge") == seeds(paper, "TrainMean") == seeds(paper, "LibrarySize") == [0]


def test_reading_a_configuration_imports_nothing_heavy():
    program = (
        "import sys, yaml; from spotwise import config; from spotwise.runtime import job, provenance\n"
        "config.prepare(yaml.safe_load(open('config.yaml', encoding='utf-8')))\n"
        "print({'torch', 'scanpy', 'anndata', 'numpy', 'pandas', 'h5py'} & set(sys.modules))"
    )
    source = str(Path(configuration.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-c", program], env={"PYTHONPATH": source}, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "set()"


def test_a_generated_cohort_has_no_patches_to_take(small):
    small["data"] |= {"source": "generated", "images": "patches"}
    assert complaint(small).endswith("expected auto or slides: a generated cohort has slides only")


def test_a_mistyped_unlinked_cohort_is_refused_as_it_would_be_linked(small):
    small["data"]["generated"] = {"unlinked": ["nul"]}
    assert "data.generated.unlinked: found 'nul'" in complaint(small)


# --- structure --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tissue(small):
    """A configuration that seeks structure in every kind of space."""
    at(small, "encoders.mine.timm", "resnet18")
    at(small, "methods.MicNet", {})
    spaces = ["MicNet", "CMRCNet", "Expression", "SmoothedExpression", "Image", "Concatenation"]
    return at(small, "structure", {"spaces": spaces, "encoder": "mine", "domains": 4})


def test_a_clustering_method_predicts_nothing_and_is_trained_on_each_slide_by_default(tissue):
    prepare(tissue)
    assert tissue["methods"]["MicNet"]["scope"] == "slide"
    assert tissue["structure"]["slides"] == ["A1", "A2", "B1"]
    assert tissue["structure"]["genes"] == []
    assert "MicNet" not in {predictor.method for predictor in predictors(tissue)}
    assert "CMRCNet" in {predictor.method for predictor in predictors(tissue)}
    assert tissue["evaluation"]["reference"] == "CMRCNet-50"


@pytest.mark.parametrize(
    ("path", "value", "told"),
    [
        ("structure.spaces", [], "structure.spaces: found []"),
        ("structure.spaces", ["MicNet", "Expresion"], "structure.spaces: found 'Expresion', expected one of CMRCNet"),
        (
            "structure.spaces",
            ["MicNet", "STNet"],
            "structure.spaces: found 'STNet', expected one of CMRCNet, MicNet, Ex",
        ),
        (
            "structure.spaces",
            ["Image"],
            "methods.MicNet: found a clustering method, expected its name among structure.s",
        ),
        ("structure.slides", ["A1", "C1"], "structure.slides: found 'C1', expected one of A1, A2, B1"),
        ("structure.encoder", "other", "structure.encoder: found 'other', expected a key of encoders: one of mine"),
        ("structure.domains", None, "structure.domains: found null without labels, expected a number of domains, or"),
        ("structure.domains", 1, "structure.domains: found 1, expected minimum 2"),
        ("structure.labels", {"file": "{sample}.csv"}, "structure.labels.column: found nothing"),
        (
            "structure.labels",
            {"column": "d", "file": "labels.csv"},
            "structure.labels.file: found 'labels.csv', expected",
        ),
        ("structure.space", ["Image"], "structure.space: found an unknown key, expected one of domains, encoder"),
        ("methods.MicNet.scope", "patient", "methods.MicNet.scope: found 'patient', expected one of slide, cohort"),
        (
            "methods.MicNet.neighbours",
            [50],
            "methods.MicNet.neighbours: found [50], expected none: MicNet retrieves no",
        ),
        (
            "methods.MicNet.harmony",
            True,
            "methods.MicNet.harmony: found True, expected none: MicNet is fitted on uncorr",
        ),
        ("methods.MicNet.encoder", "mine", "methods.MicNet.encoder: found 'mine', expected none: MicNet has its own"),
        (
            "methods.CMRCNet.scope",
            "slide",
            "methods.CMRCNet.scope: found slide, expected none: CMRCNet is trained on f",
        ),
        ("methods.Image", {"model": "BLEEP", "neighbours": [50]}, "methods.Image: found a name that a space has"),
        (
            "methods.CMRCNet.training",
            {"clip_norm": 0},
            "methods.CMRCNet.training.clip_norm: found 0, expected exclusiveMi",
        ),
        ("data.images", "none", "methods: found CMRCNet, expected no method where data.images is none"),
    ],
)
def test_a_fault_of_structure_is_told_in_one_line_that_names_its_place(tissue, path, value, told):
    assert told in complaint(at(tissue, path, value))


def test_a_clustering_method_without_the_section_is_refused(tissue):
    del tissue["structure"]
    assert "methods.MicNet: found a clustering method, expected its name among" in complaint(tissue)


def test_an_encoder_is_needed_for_images_alone(tissue):
    del tissue["structure"]["encoder"]
    assert "structure.encoder: found None, expected a key of encoders" in complaint(copy.deepcopy(tissue))
    tissue["structure"]["spaces"] = ["MicNet", "Expression"]
    prepare(tissue)


def test_structure_without_a_predictor_needs_no_second_slide_and_has_no_folds(small):
    at(small, "methods", {"MicNet": {"scope": "cohort"}})
    at(small, "structure", {"spaces": ["MicNet"], "labels": {"column": "d"}})
    small["cohorts"] = {"single": {}, "one": {}}
    samples = prepare(small)
    assert [sample.sample for sample in samples] == ["C1", "C2", "D1"]
    assert predictors(small) == []
    assert fold_plans(small, samples) == {}
    assert "reference" not in small["evaluation"]


def test_counts_alone_are_enough_for_the_spaces_of_expression(small):
    del small["methods"]
    assert "methods: found nothing, expected a method, or a section structure" in complaint(copy.deepcopy(small))
    at(small, "data.images", "none")
    at(small, "structure", {"spaces": ["Expression", "SmoothedExpression"], "domains": 3})
    prepare(copy.deepcopy(small))
    at(small, "encoders.mine.timm", "resnet18")
    told = complaint(at(copy.deepcopy(small), "structure", {"spaces": ["Image"], "encoder": "mine", "domains": 3}))
    assert "structure.spaces: found 'Image', expected Expression or SmoothedExpression, as data.images is none" in told
    at(small, "data.source", "generated")
    assert "data.images: found 'none', expected images, as source generated has them" in complaint(small)


def test_labels_may_be_in_a_file_of_each_slide(tissue, tmp_path):
    at(tissue, "data.root", str(tmp_path))
    at(tissue, "structure.labels", {"column": "d", "file": "labels/{sample}_labels.csv"})
    (tmp_path / "labels").mkdir()
    for sample in ("A1", "A2", "B1"):
        (tmp_path / f"labels/{sample}_labels.csv").touch()
    at(tissue, "structure.domains", None)
    prepare(tissue)
    configuration.require_labels(tissue, "my.yaml")
    assert configuration.label_file(tissue, "A2") == tmp_path / "labels/A2_labels.csv"
    (tmp_path / "labels/A2_labels.csv").unlink()
    with pytest.raises(InputError, match=r"my\.yaml: structure.labels.file: found no file .*A2_labels.csv"):
        configuration.require_labels(tissue, "my.yaml")
    del tissue["structure"]["labels"]["file"]
    assert configuration.label_file(tissue, "A2") is None


def test_values_of_the_command_line_get_their_types():
    given = {
        "seeds": ["0", "1"],
        "data": {"images": "none", "generated": {"unlinked": ["null"]}},
        "x": ["1e-4", "true"],
    }
    assert configuration.typed(given) == {
        "seeds": [0, 1],
        "data": {"images": "none", "generated": {"unlinked": ["null"]}},
        "x": [0.0001, True],
    }
    assert configuration.typed(3) == 3
