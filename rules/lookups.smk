# Inputs and parameters of the rules, looked up by their wildcards.


# --- Data ----------------------------------------------------------------------------------------------------------


def has_patches(sample):
    """Whether a sample comes with HEST's own patches; else they are cut from its slide."""
    images = config["data"]["images"]
    if images == "auto" and DATA_SOURCE == "local":
        return hest.sample_files(config["data"]["root"], sample).patches.exists()
    return images == "patches" or (images == "auto" and DATA_SOURCE == "huggingface")


def repository_files(sample):
    """Paths of a sample's files inside the dataset repository."""
    files = hest.sample_files("", sample)
    return [
        files.counts,
        files.metadata,
        files.patches if has_patches(sample) else files.slide,
    ]


def require_token():
    """Stop before the first job when something has to be downloaded and there is no token."""
    root = Path(config["data"]["root"])
    files = [path for sample in SAMPLES for path in (*repository_files(sample), f"downloads/{sample}.json")]
    if DATA_SOURCE == "huggingface" and not all((root / path).exists() for path in files):
        try:
            hest.token_from_environment()
        except SetupError as error:
            raise WorkflowError(str(error)) from None


def place_in_cohort(sample):
    """Whether a sample is the `first`, the `last` or an `inner` one of its cohort."""
    members = [other for other in SAMPLES if COHORT_OF[other] == COHORT_OF[sample]]
    return {members[0]: "first", members[-1]: "last"}.get(sample, "inner")


# --- Patches and embeddings ----------------------------------------------------------------------------------------


def patches_of(sample):
    return f"<data>/patches/{sample}.h5" if has_patches(sample) else f"<results>/samples/{sample}/patches.h5"


def slide_without_patches(wildcards):
    """The slide where patches are cut from it; its own pixel size stands in where the metadata has none."""
    return [] if has_patches(wildcards.sample) else slide_of_sample(wildcards)


def download_record(wildcards):
    """What was downloaded, with its hashes: files found in the data folder without it are fetched anew."""
    return f"<data>/downloads/{wildcards.sample}.json" if DATA_SOURCE == "huggingface" else []


def slide_of_sample(wildcards):
    return str(hest.sample_files(config["data"]["root"], wildcards.sample).slide)


def test_patches(wildcards):
    return [patches_of(sample) for sample in test_samples(wildcards)]


def training_patches(wildcards):
    return [patches_of(sample) for sample in training_samples(wildcards)]


def fold_patches(wildcards):
    return [patches_of(sample) for sample in fold_samples(wildcards)]


def sample_patches(wildcards):
    return patches_of(wildcards.sample)


def image_of_sample(wildcards):
    """What the sample's images come from: HEST's patches or its slide."""
    return sample_patches(wildcards) if has_patches(wildcards.sample) else slide_of_sample(wildcards)


def encoder_setting(key):
    def setting(wildcards):
        return config["encoders"][wildcards.encoder][key]

    return setting


def encoder_checkpoint(wildcards):
    return config["encoders"][wildcards.encoder]["checkpoint"] or []


# --- Folds ---------------------------------------------------------------------------------------------------------


def fold_patients(wildcards):
    return {sample: PATIENT_OF[sample] for sample in fold_samples(wildcards)}


def markers_of(wildcards):
    return config["cohorts"][wildcards.cohort]["markers"]


def training_fold_name(wildcards):
    """The fold that a method is trained on and retrieves from: corrected by Harmony where its entry asks for that."""
    return "fold_harmony.h5" if entry(wildcards)["harmony"] else "fold.h5"


def training_fold(wildcards):
    folder = f"<results>/folds/{wildcards.cohort}/{wildcards.protocol}/fold{wildcards.fold}"
    return f"{folder}/{training_fold_name(wildcards)}"


# --- Training ------------------------------------------------------------------------------------------------------


def training_options(wildcards):
    """What decides a training's result; the rest is read by the job, as changing it must not train again."""
    options = config["training"] | entry(wildcards)["training"]
    return {key: value for key, value in options.items() if key not in ("memory", "save_every_minutes")}


def method_checkpoint(wildcards):
    """The local file that a method's encoder starts from, where its options name one."""
    return model_options(wildcards).get("checkpoint") or []


def embeddings_of(wildcards, samples):
    return [f"<results>/embeddings/{entry(wildcards)['encoder']}/{sample}.h5" for sample in samples]


def training_embeddings(wildcards):
    return embeddings_of(wildcards, training_samples(wildcards))


def exemplar_samples(wildcards):
    """Slides whose frozen features a trained method uses: those it learns from, and the one to predict."""
    if not REGISTRY[model_name(wildcards)].features:
        return []
    return training_samples(wildcards) + ([wildcards.sample] if "sample" in wildcards.keys() else [])


def exemplar_embeddings(wildcards):
    samples = exemplar_samples(wildcards)
    return embeddings_of(wildcards, samples) if samples else []


# --- Predictions ---------------------------------------------------------------------------------------------------


def model_file(name):
    """A file of the trained model behind a predictor."""

    def path(wildcards):
        folder = MODEL.format(method=method_of(wildcards), **wildcards)
        return f"{folder}/{name}"

    return path


def test_embedding(wildcards):
    return f"<results>/embeddings/{entry(wildcards)['encoder']}/{wildcards.sample}.h5"


def neighbours(wildcards):
    return PREDICTORS[wildcards.predictor].k


def matching(wildcards):
    return PREDICTORS[wildcards.predictor].matching


def trainings(wildcards):
    """Fold and seed of each training of a method in one cohort and protocol."""
    return [
        (fold, seed)
        for cohort, protocol, fold in FOLDS
        if (cohort, protocol) == (wildcards.cohort, wildcards.protocol)
        for seed in configuration.seeds(config, wildcards.method)
    ]


def training_seeds(wildcards):
    return [seed for _, seed in trainings(wildcards)]


def model_files(name):
    """A file of each training of a method."""

    def paths(wildcards):
        return [f"{MODEL}/{name}".format(**wildcards, fold=fold, seed=seed) for fold, seed in trainings(wildcards)]

    return paths


def fold_files(wildcards, name="fold.h5"):
    """A file of the fold of each training of a method."""
    folder = f"<results>/folds/{wildcards.cohort}/{wildcards.protocol}"
    return [f"{folder}/fold{fold}/{name}" for fold, _ in trainings(wildcards)]


def training_fold_files(wildcards):
    return fold_files(wildcards, training_fold_name(wildcards))


def ceiling_of_sample(wildcards):
    """The noise ceiling of a test slide, for the control that shows it."""
    return f"<results>/samples/{wildcards.sample}/ceiling.tsv" if "NoiseCeiling" in config["controls"] else []


# --- Scores and tables ---------------------------------------------------------------------------------------------


def predictor_files(wildcards):
    return predictions(wildcards.cohort, wildcards.protocol, wildcards.predictor)


def cohort_protocols():
    """Every (cohort, protocol) of the run, in the order of the configuration."""
    return list(dict.fromkeys((cohort, protocol) for cohort, protocol, _ in FOLDS))


def scores_of(cohort, protocol, predictors=PREDICTORS):
    return [f"<results>/scores/{cohort}/{protocol}/{predictor}.parquet" for predictor in predictors]


def all_scores():
    return [path for cohort, protocol in cohort_protocols() for path in scores_of(cohort, protocol)]


def all_slide_scores():
    return [
        f"<results>/slide_scores/{cohort}/{protocol}/{predictor}.parquet"
        for cohort, protocol in cohort_protocols()
        for predictor in PREDICTORS
    ]


def marker_reports():
    """Which markers the panel of each fold of the run holds, and which slides lack the others."""
    return [f"<results>/folds/{cohort}/{protocol}/fold{fold}/markers.tsv" for cohort, protocol, fold in FOLDS]


TABLES = {
    "table1": "1: main comparison",
    "table2": "2: longer gene lists",
    "table3": "3: best-correlated genes",
    "table4": "4: pathology foundation models",
    "table5": "5: variants of CMRCNet",
    "markers": "Supplement: marker genes",
}


def table_files():
    """Each table as CSV, which the report shows, by its name; as Markdown and LaTeX beside it."""
    files = {}
    for name, label in TABLES.items():
        path = f"<results>/tables/{name}"
        shown = {"caption": f"../report/{name}.rst", "category": "Tables", "labels": {"table": label, "format": "CSV"}}
        files |= {name: report(f"{path}.csv", **shown), f"{name}_md": f"{path}.md", f"{name}_tex": f"{path}.tex"}
    return files


def published_tables():
    """The paper's own Tables 1 to 5."""
    folder = os.path.relpath(SOURCE.parent / "resources" / "paper")
    return [f"{folder}/table{number}.csv" for number in range(1, 6)]


def tables():
    names = ["comparisons.csv", "intervals.csv", "measures.csv", "measures.md"]
    names += [f"paper_vs_ours.{kind}" for kind in ("csv", "md", "html")]
    names += ["leaks.csv", "leaks.md"]
    return [*table_files().values(), *(f"<results>/tables/{name}" for name in names)]


# --- Figures -------------------------------------------------------------------------------------------------------


def predictor_kinds():
    """Every predictor of the run with its method and kind: what its look follows from, whatever a figure draws."""
    return {predictor.name: [predictor.method, predictor.kind] for predictor in PREDICTORS.values()}


def drawn_predictors():
    """One predictor for each method, where a panel for each would be too many: the first K of its entry."""
    first = {}
    for predictor in PREDICTORS.values():
        if predictor.kind != "control":
            first.setdefault(predictor.method, predictor.name)
    return list(first.values())


def drawn_rivals():
    """What is drawn beside each other: the drawn predictors, the reference, and the controls that are no bound."""
    controls = [name for name in config["controls"] if name not in BOUNDS]
    drawn = {*drawn_predictors(), config["evaluation"]["reference"], *controls}
    return [name for name in PREDICTORS if name in drawn]


def trained_methods():
    return [name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].trained]


def retrieval_methods():
    return [name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].kind == "retrieval"]


def cohort_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol)


def drawn_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol, drawn_predictors())


def ceiling_scores(wildcards):
    return scores_of(wildcards.cohort, wildcards.protocol, [*drawn_rivals(), "NoiseCeiling"])


def protocol_scores(wildcards):
    """Scores of the drawn rivals in every cohort of a protocol."""
    cohorts = [cohort for cohort, protocol in cohort_protocols() if protocol == wildcards.protocol]
    return [path for cohort in cohorts for path in scores_of(cohort, wildcards.protocol, drawn_rivals())]


def cohorts_of_both_protocols():
    return [
        cohort
        for cohort in config["cohorts"]
        if all((cohort, protocol) in cohort_protocols() for protocol in PROTOCOLS)
    ]


def scores_of_both_protocols():
    return [
        path
        for cohort in cohorts_of_both_protocols()
        for protocol in PROTOCOLS
        for path in scores_of(cohort, protocol, drawn_rivals())
    ]


def cohort_sweeps(wildcards):
    folder = f"<results>/sweeps/{wildcards.cohort}/{wildcards.protocol}"
    return [f"{folder}/{method}.parquet" for method in retrieval_methods()]


def configured_neighbours():
    """Every K that a predictor of the run uses."""
    return sorted({predictor.k for predictor in PREDICTORS.values() if predictor.kind == "retrieval"})


def slide_predictions(wildcards):
    """Predictions of one test slide by each drawn predictor, first seed."""
    return [
        path
        for name in drawn_predictors()
        for path in predictions(wildcards.cohort, wildcards.protocol, name, first_seed_only=True)
        if Path(path).stem == wildcards.sample
    ]


def cohort_histories(wildcards):
    return [
        f"<results>/models/{wildcards.cohort}/{wildcards.protocol}/{label}/history.tsv"
        for label in history_labels(wildcards)
    ]


def history_labels(wildcards):
    """Trainings of one cohort and protocol as `method/fold0/seed0`, which is also where they lie."""
    return [
        f"{method}/fold{fold}/seed{seed}"
        for method in trained_methods()
        for cohort, protocol, fold in FOLDS
        if (cohort, protocol) == (wildcards.cohort, wildcards.protocol)
        for seed in configuration.seeds(config, method)
    ]


def models():
    """Every model of the run as its method and `cohort/protocol/method/fold0/seed0`, which is also where it lies."""
    return [
        (method, f"{cohort}/{protocol}/{method}/fold{fold}/seed{seed}")
        for method in config["methods"]
        for cohort, protocol, fold in FOLDS
        for seed in configuration.seeds(config, method)
    ]


def model_methods():
    return [method for method, _ in models()]


def model_summaries():
    return [f"<results>/models/{model}/summary.json" for _, model in models()]


def model_benchmarks():
    """Where Snakemake noted the time of each model; no input, as a run of an older workflow may lack them."""
    rule_of = {method: "train" if method in trained_methods() else "fit_frozen" for method in config["methods"]}
    return [f"{RESULTS}/benchmarks/{rule_of[method]}/{model}.tsv" for method, model in models()]


def embedding_benchmarks():
    """Encoder -> where Snakemake noted the time of embedding each sample."""
    used = dict.fromkeys(settings["encoder"] for settings in config["methods"].values() if "encoder" in settings)
    return {
        encoder: [f"{RESULTS}/benchmarks/embed_patches/{encoder}/{sample}.tsv" for sample in SAMPLES]
        for encoder in used
    }


def drawn_genes(wildcards):
    """Genes to draw over the slides, first those that the configuration names."""
    settings = config["cohorts"][wildcards.cohort]
    return settings["genes"] or settings["markers"][:4]


def figures():
    """Every figure of the run."""
    targets = ["<results>/tables/costs.csv", "<results>/figures/costs.png"]
    targets += ["<results>/figures/protocols.png"] if cohorts_of_both_protocols() else []
    targets += [
        f"<results>/figures/overview_{protocol}.png"
        for protocol in dict.fromkeys(protocol for _, protocol in cohort_protocols())
    ]
    for cohort, protocol in cohort_protocols():
        names = ["boxplot"]
        names += ["curves"] if trained_methods() else []
        names += ["neighbours"] if retrieval_methods() else []
        names += ["ceiling"] if "NoiseCeiling" in config["controls"] else []
        names += [
            f"{kind}_{sample}"
            for sample in SAMPLES
            if COHORT_OF[sample] == cohort
            for kind in ("correlation", "maps", "profiles", "genes")
        ]
        targets += [f"<results>/figures/{cohort}/{protocol}/{name}.png" for name in names]
    return targets


# --- Audit and provenance ------------------------------------------------------------------------------------------


def of_samples(name):
    """A file of every sample of the run."""
    return [f"<results>/samples/{sample}/{name}" for sample in SAMPLES]


def all_folds():
    return [f"<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5" for cohort, protocol, fold in FOLDS]


def score_runs():
    """Cohort and protocol of each file that `all_scores` lists."""
    return [[cohort, protocol] for cohort, protocol in cohort_protocols() for _ in scores_of(cohort, protocol)]


def download_records():
    return [f"<data>/downloads/{sample}.json" for sample in SAMPLES] if DATA_SOURCE == "huggingface" else []
