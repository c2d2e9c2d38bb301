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


def shared_training():
    """What decides the result of any training; the rest is read by the job, as changing it must not train again."""
    return {key: value for key, value in config["training"].items() if key not in ("memory", "save_every_minutes")}


def training_options(wildcards):
    return shared_training() | entry(wildcards)["training"]


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
