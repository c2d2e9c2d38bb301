"""Definition of every setting of the configuration, with type, default, range and description.

The JSON schemas, the configuration reference and the error messages derive from these classes. Options of the methods
are defined beside each method, in :mod:`spotwise.models`, and options of the training in
:mod:`spotwise.training.training_options`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, ConfigDict, Field, WithJsonSchema, create_model, model_validator

from spotwise.constants import PAPER, PATIENT
from spotwise.models.encoder_names import is_imagenet_small, is_pathology_encoder
from spotwise.models.options import Pretrained
from spotwise.runtime.configured_paths import FilePath, FolderPath, PredictionFilePath, SampleFilePath
from spotwise.runtime.validation import UNSET, Form, PositiveNumber, Settings, Size, Unique, fault, optional
from spotwise.training.training_options import TrainingOptions, TrainingOverrides

# Keys without which no cohort can run, and what they hold
REQUIRED_OF_COHORTS = {
    "samples": "a path (the sample sheet)",
    "data": "keys with values (source of slides and counts)",
    "cohorts": "cohorts to run, by their names in the sample sheet",
}
HEST_BENCH_TASKS = ("IDC", "PRAD", "PAAD", "SKCM", "COAD", "READ", "CCRCC", "LUNG", "LYMPH_IDC")

Name = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\n)"),
    Form("a name of letters, digits, '.', '-' and '_'"),
]
Gene = Annotated[str, Field(pattern=r"^\S+$(?!\n)"), Form("a gene symbol without blanks")]
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Repository = Annotated[
    str,
    Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*$(?!\n)"),
    Form("<owner>/<name>"),
]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{40}$(?!\n)"), Form("40 hex digits")]
Protocol = Literal["paper", "patient"]
Matching = Literal["average", "weighted"]
Units = Literal["log_normalised", "log_counts", "counts"]
GeneChoice = Literal["reliable", "panel", "markers"]
Line = Annotated[str, Field(pattern=r"^[^\n\r]*$(?!\n)"), Form("text in one line")]


class Generated(Settings):
    """Generated cohorts (source `generated`)."""

    seed: Seed = Field(0, description="seed of the genes, patients and tissue")
    spots_across: Annotated[int, Field(ge=6)] = Field(15, description="spots along a side of the square array")
    unlinked: list[str] = Field(
        [], description="cohorts whose expression has no link to the image, on which every method must score 0"
    )


class Data(Settings):
    """Source of slides and counts."""

    source: Literal["huggingface", "local", "generated"] = Field(
        description="HEST-1k from the Hugging Face hub, a folder in HEST's layout, or a generated cohort"
    )
    root: FolderPath = Field(
        description="folder in HEST's layout (st/, patches/ or wsis/, metadata/), also for downloads and generated data"
    )
    images: Literal["auto", "patches", "slides", "none"] = Field(
        "auto",
        description="HEST's own patches, or patches cut from the slide; `auto` takes patches if the source has them; "
        "`none` for a folder of counts without images, which only structure needs",
    )
    repo: Repository = Field("MahmoodLab/hest", description="dataset repository on the hub (source `huggingface`)")
    revision: Commit = optional("commit of the dataset repository; required by source `huggingface`")
    generated: Generated = Field(default_factory=Generated, description="settings of the generated cohorts")

    @model_validator(mode="after")
    def _check_revision(self) -> Data:
        if self.source == "huggingface" and self.revision is UNSET:
            raise fault("revision", "nothing", "a commit of the dataset repository, 40 hex digits")
        return self


class Cohort(Settings):
    """Settings of a cohort."""

    markers: Unique[Gene] = Field(
        [], description="marker genes, added to the panel if every slide measures them, and scored apart"
    )
    protocols: Unique[Protocol] = optional("protocols of this cohort; those of the run by default", min_length=1)
    genes: Unique[Gene] = Field(
        [], description="genes to draw over the slides; the first four markers in the panel by default"
    )


class Expression(Settings):
    """Cleaning, normalisation and gene panels."""

    min_counts: Size = Field(
        1, description="least counts of a spot, control features not counted; spots with fewer are dropped"
    )
    target_sum: PositiveNumber | None = Field(
        None,
        description="counts per spot after normalisation; null is the slide's median, as in the authors' code",
    )
    outside: Literal["error", "drop"] = Field(
        "error",
        description="how to treat spots whose centre lies off the slide: stop with an error, or drop and report them "
        "while they are at most a tenth of the spots",
    )
    hvg_per_slide: Size = Field(1000, description="highly variable genes of each slide, before the union over slides")


class Encoder(Settings):
    """A frozen image encoder."""

    timm: str = Field(
        description="imagenet-small, the name of a timm model, hf-hub:<owner>/<name>, or the name of a pathology "
        "encoder (UNI, CONCH, ...)"
    )
    pretrained: Pretrained = optional(
        "published weights: none, those that can be downloaded (otherwise random ones, which tables say), or stop "
        "without them; by default `required` for imagenet-small, whose weights are installed, and for pathology "
        "encoders and others on the hub, which may be gated, and `if_available` for timm's own",
    )
    checkpoint: FilePath = Field(
        "", description="local file of the weights (safetensors or torch), for machines without network"
    )
    views: Literal[1, 2, 4, 8] = Field(
        8,
        description="symmetries of the square over which the features for `ContextRidge` are averaged; 1 takes an "
        "eighth of the time",
    )

    @model_validator(mode="before")
    @classmethod
    def _require_weights(cls, given: object) -> object:
        if not isinstance(given, dict) or "pretrained" in given:
            return given
        name = str(given.get("timm", ""))
        required = ":" in name or is_pathology_encoder(name) or is_imagenet_small(name)
        return {**given, "pretrained": "required" if required else "if_available"}


class Method(Settings):
    """A method to train or fit."""

    model: str = optional("class in the registry; the name of the entry by default")
    options: dict[str, Any] = Field({}, description="options of the class")
    neighbours: Unique[Size] = Field(
        [], description="numbers K of retrieved spots, each a predictor of its own from one training"
    )
    matching: Unique[Matching] = Field(
        ["average"],
        min_length=1,
        description="plain mean of the retrieved spots, or BLEEP's mean weighted by distance, each a predictor",
    )
    harmony: bool = Field(
        False,
        description="train and retrieve on expression that Harmony corrected for differences between slides; fitted on "
        "the training slides alone under `patient`; the truth is never corrected",
    )
    targets: Literal["log", "slide_centred"] = Field(
        "log",
        description="expression to learn and retrieve: log-normalised as it is, or with each gene centred on every "
        "training slide, so that no difference between slides is learnt; the truth is never centred",
    )
    features: Literal["raw", "slide_centred"] = Field(
        "raw",
        description="`slide_centred`: features of a frozen encoder are standardised on each slide, and embeddings of a "
        "retrieval method centred on each slide before their cosine, from images alone for a test slide",
    )
    encoder: str = optional("key of `encoders`, for frozen methods and EGN")
    scope: Literal["slide", "cohort"] = optional(
        "what a clustering method is trained on: each slide alone (the default, as published) or the slides of a cohort"
    )
    training: TrainingOverrides = Field(
        default_factory=TrainingOverrides, description="keys of `training` that differ for this method"
    )


class External(Settings):
    """Predictions that another tool has written."""

    predictions: PredictionFilePath = Field(
        description="one .h5ad per slide, spots x genes, with `{sample}` in its path, and with `{cohort}`, "
        "`{protocol}` and `{fold}` where files differ by them"
    )
    units: Units = Field(
        description="what the files hold: log(1 + x) of normalised counts, log(1 + x) of counts, or counts; counts are "
        "normalised as the measured ones are"
    )
    target_sum: PositiveNumber = optional(
        "counts per spot that values of `log_normalised` refer to, such as 10000, to scale them to those of the run; "
        "by default they are taken as they are"
    )
    protocols: Unique[Protocol] = optional(
        "protocols under which they stand; those of the run by default", min_length=1
    )
    cohorts: Unique[str] = optional("cohorts that were predicted; all of the run by default", min_length=1)
    trained_on: Line = Field("", description="slides that the tool was trained on, in words, which the tables show")

    @model_validator(mode="after")
    def _check(self) -> External:
        if not self.predictions.endswith(".h5ad"):
            raise fault("predictions", repr(self.predictions), "a path that ends in .h5ad")
        if self.target_sum is not UNSET and self.units != "log_normalised":
            raise fault(
                "target_sum", f"{self.target_sum:g}", f"none for units {self.units}: it belongs to log_normalised"
            )
        return self


class LongerList(Settings):
    """A longer gene list of Table 2."""

    top: Size = Field(description="genes in the HEG and HVG lists")
    k: Size = Field(
        description="retrieved spots of the predictor that is judged; without such a predictor, the largest smaller K"
    )


class Evaluation(Settings):
    """Scores and figures."""

    top: Size = Field(50, description="genes in the HEG and HVG lists")
    extended: list[LongerList] = Field(
        [LongerList(top=150, k=250), LongerList(top=250, k=500)], description="longer gene lists of Table 2"
    )
    reference: str = optional(
        "predictor that the box plots compare all others with, and that ShuffledTraining trains; the first one of "
        "`methods` by default"
    )
    bootstrap: Annotated[int, Field(ge=100)] = Field(
        2000, description="draws of slides and genes behind every confidence interval"
    )


class Labels(Settings):
    """Known domains of the spots, which found domains are compared with."""

    column: str = Field(min_length=1, description="column of obs in the sample's .h5ad, or of the file")
    file: SampleFilePath = optional("CSV below data.root with the column `barcode` and that one")
    unknown: Unique[str] = Field([], description="values of the column that name no class, such as `undetermined`")
    note: str = Field(
        "",
        description="what a reader of the scores must know of the labels, such as that they come from the expression",
    )


class Structure(Settings):
    """Domains, variable genes and organisation of slides."""

    slides: Unique[str] = optional("samples to analyse; all of the run by default", min_length=1)
    spaces: Unique[str] = Field(
        min_length=1,
        description="where domains are sought: clustering and retrieval methods by name, and Expression, "
        "SmoothedExpression, Image, Concatenation; figures and variable genes use the first one",
    )
    encoder: str = optional("key of `encoders`, for the spaces Image and Concatenation")
    labels: Labels = optional("known domains of the spots")
    domains: Annotated[int, Field(ge=2)] | None = Field(
        None, description="number of domains; null is the number of classes among the slide's labels"
    )
    genes: Unique[str] = Field([], description="genes to draw in the UMAP; the markers of the cohort by default")


class HestBench(Settings):
    """Tasks of the HEST benchmark, run under its own protocol."""

    root: FolderPath = Field(description="folder with the tasks: <task>/{adata,patches,splits}/, var_50genes.json")
    repo: Repository = Field("MahmoodLab/hest-bench", description="dataset repository on the hub")
    revision: Commit = optional("commit of the repository to download; without it, the tasks are in `root` already")
    tasks: Unique[Name] = Field(
        list(HEST_BENCH_TASKS), min_length=1, description="tasks to run, by the names of their folders"
    )
    encoders: Unique[str] = Field(min_length=1, description="keys of `encoders`, each a block of the table")


class Grid(Settings):
    """Grid of the spots of a slide without counts."""

    layout: Literal["hexagonal", "square", "dense"] = Field(
        "hexagonal", description="arrangement of the spots; `dense` is square, with patches that overlap by half"
    )
    pitch_um: PositiveNumber = optional("distance of neighbouring spots in micrometres; 100 by default, 56 of `dense`")

    @model_validator(mode="after")
    def _check_pitch(self) -> Grid:
        if self.layout == "dense" and self.pitch_um is not UNSET:
            raise fault("pitch_um", f"{self.pitch_um:g} beside layout dense", "none, or layout square with that pitch")
        return self


def _slides(given: object) -> object:
    """Check that slides are the path of a table, or a list; its items are checked when they are read."""
    if not isinstance(given, str | list):
        raise fault("", repr(given), "the path of a table of slides, or a list of slides")
    return given


def _genes(given: object) -> object:
    """Check a choice of genes, or a list of symbols."""
    if isinstance(given, str) and given in get_args(GeneChoice):
        return given
    if not isinstance(given, list) or not all(isinstance(gene, str) and gene and " " not in gene for gene in given):
        raise fault("", repr(given), f"{', '.join(get_args(GeneChoice))}, or a list of gene symbols")
    return given


Slides = Annotated[
    Any,
    AfterValidator(_slides),
    Form("a path, or a list whose items are paths or keys with values"),
    WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": ["string", "object"]}}]}),
]
Genes = Annotated[
    Any,
    AfterValidator(_genes),
    Form(f"one of {', '.join(get_args(GeneChoice))}, or a list of gene symbols"),
    WithJsonSchema({"anyOf": [{"enum": list(get_args(GeneChoice))}, {"type": "array", "items": {"type": "string"}}]}),
]

_Source = create_model(  # `from` is a keyword of Python
    "_Source",
    __base__=Settings,
    **{
        "from": (
            dict[str, Unique[str]],
            optional(
                "cohort -> predictors, by their names in the tables, whose models are trained on the whole cohort and "
                "applied; by default those of ContextRidge in each cohort, or evaluation.reference without one"
            ),
        )
    },
)


class Predict(_Source):
    """Slides without counts, whose expression is predicted by models of the run's cohorts."""

    slides: Slides = Field(
        [],
        description="tab-separated table with a column `path` and optionally `slide`, `um_per_px`, `patient`, `spots` "
        "and `tissue`; or a list of paths or of such keys with values; nothing for the models alone",
    )
    grid: Grid = Field(default_factory=Grid, description="grid of the spots, where a slide brings none of its own")
    genes: Genes = Field(
        "reliable",
        description="genes of the maps, of the summary and of QuPath's measurements: the best of the reliable ones, of "
        "the panel or all markers of the cohort, or those named; the .h5ad holds the whole panel",
    )


class Config(Settings):
    """Configuration of a spotwise run."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [
                {"required": ["samples", "data", "cohorts"], "properties": {"cohorts": {"minProperties": 1}}},
                {"required": ["hest_bench"]},
            ]
        }
    )

    run: Name = Field(description="name of the run; results are written to results/<run>/")
    samples: FilePath = Field("", description="the sample sheet; required unless the run is `hest_bench` alone")
    data: Data = Field(
        default_factory=lambda: Data(source="local", root="data"),
        description="source of slides and counts; required unless the run is `hest_bench` alone",
    )
    cohorts: dict[str, Cohort] = Field(
        {},
        description="cohorts to run, by their names in the sample sheet; required unless the run is `hest_bench` alone",
    )
    protocols: Unique[Protocol] = Field(
        [PAPER, PATIENT], min_length=1, description="how folds, panels and evaluation genes are made"
    )
    expression: Expression = Field(default_factory=Expression, description="cleaning, normalisation and gene panels")
    validation_fraction: Annotated[float, Field(gt=0, lt=1)] = Field(
        0.2, description="share of the spots that select the checkpoint if validation is not a whole slide"
    )
    seeds: Unique[Seed] = Field([0], min_length=1, description="one training each; tables give the spread over them")
    training: TrainingOptions = Field(default_factory=TrainingOptions, description="how methods are trained")
    encoders: dict[Name, Encoder] = Field({}, description="frozen image encoders by name")
    methods: dict[Name, Method] = Field(
        {}, description="methods by the name that they have in the tables; may be empty if only structure is wanted"
    )
    external: dict[Name, External] = Field(
        {}, description="predictions of other tools, by the name that they have in the tables"
    )
    controls: Unique[str] = Field(
        ["TrainMean", "RandomRetrieval", "LibrarySize", "Coordinates", "NeighbourSlide", "NoiseCeiling", "Oracle"],
        description="predictors without an image, bounds on what can be predicted, and ShuffledTraining and "
        "ShuffledAcross, which train the reference once more a fold; in every table",
    )
    evaluation: Evaluation = Field(default_factory=Evaluation, description="scores and figures")
    structure: Structure = optional(
        "domains, variable genes and organisation of slides; nothing of it without this key"
    )
    predict: Predict = optional("slides without counts to predict; nothing of it without this key")
    hest_bench: HestBench = optional(
        "tasks of the HEST benchmark under its own protocol; nothing of it without this key"
    )

    @model_validator(mode="after")
    def _require_cohorts(self) -> Config:
        if self.hest_bench is not UNSET and not self.samples and not self.cohorts:
            for name in ("methods", "external", "structure", "predict"):
                if getattr(self, name) not in (UNSET, {}):
                    raise fault(name, "settings without cohorts", "samples, data and cohorts beside them")
            return self
        for name, expected in REQUIRED_OF_COHORTS.items():
            if name not in self.model_fields_set:
                raise fault(name, "nothing", expected)
        if not self.cohorts:
            raise fault("cohorts", "{}", REQUIRED_OF_COHORTS["cohorts"])
        return self
