# Inputs and parameters of the rules, looked up by their wildcards.


# --- Data ----------------------------------------------------------------------------------------------------------

# What was downloaded, with hashes. By the revision, as the folder may be shared by runs that pin others
MANIFEST = manifest.manifest_path("<data>", str(config["data"].get("revision")), "{sample}").as_posix()


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


def require_downloads():
    """Stop before the first job when a downloaded file has changed, or one is missing and there is no token."""
    if DATA_SOURCE == "huggingface":
        files = {sample: [path.as_posix() for path in repository_files(sample)] for sample in SAMPLES}
        try:
            manifest.require(config["data"]["root"], config["data"]["revision"], files)
        except (InputError, SetupError) as error:
            raise WorkflowError(str(error)) from None


def place_in_cohort(sample):
    """Whether a sample is the `first`, the `last` or an `inner` one of its cohort."""
    members = SAMPLES_OF[COHORT_OF[sample]]
    return {members[0]: "first", members[-1]: "last"}.get(sample, "inner")


# --- Patches and embeddings ----------------------------------------------------------------------------------------


def patches_of(sample):
    return f"<data>/patches/{sample}.h5" if has_patches(sample) else f"<results>/samples/{sample}/patches.h5"


def slide_without_patches(wildcards):
    """The slide where patches are cut from it; its own pixel size stands in where the metadata has none."""
    return [] if not HAS_IMAGES or has_patches(wildcards.sample) else slide_of_sample(wildcards)


def metadata_of(wildcards):
    """HEST's metadata of a sample; a run on counts alone reads none."""
    return str(hest.sample_files(config["data"]["root"], wildcards.sample).metadata) if HAS_IMAGES else []


def download_record(wildcards):
    """What was downloaded, with its hashes: files found in the data folder without it are fetched anew."""
    return MANIFEST if DATA_SOURCE == "huggingface" else []


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
        (plan.fold, seed)
        for plan in FOLDS_OF.get((wildcards.cohort, wildcards.protocol), [])
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


# --- Tissue structure ----------------------------------------------------------------------------------------------


def structure_slides(cohort=None):
    """Slides whose structure is sought, of one cohort or of all."""
    slides = set(STRUCTURE_SETTINGS.get("slides", []))
    return [sample for sample in (SAMPLES if cohort is None else SAMPLES_OF[cohort]) if sample in slides]


def structure_spaces(*kinds):
    """Spaces of the run in the order of the configuration, all or those by methods of some kinds."""
    spaces = STRUCTURE_SETTINGS.get("spaces", [])
    return [space for space in spaces if not kinds or space_kind(space) in kinds]


def space_kind(space):
    """`baseline`, or the kind of the method that makes the space."""
    return REGISTRY[config["methods"][space]["model"]].kind if space in config["methods"] else "baseline"


def space_seeds(space):
    """Seeds of a space's method; the baselines know no chance and are made for the first one."""
    return configuration.seeds(config, space) if space in config["methods"] else config["seeds"][:1]


def space_file(space, sample, seed):
    """Spots of a slide in a space; a space made for one seed only stands in for its others."""
    made = seed if seed in space_seeds(space) else space_seeds(space)[0]
    return f"{STRUCTURE}/spaces/{space}/seed{made}/{sample}.h5".format(cohort=COHORT_OF[sample])


def space_runs():
    """Space and seed of each file that `space_files` lists; a baseline's clusterings are seeded, too."""
    return [
        [space, seed]
        for space in structure_spaces()
        for seed in (space_seeds(space) if space in config["methods"] else config["seeds"])
    ]


def space_files(wildcards):
    """A slide in every space, once for each seed."""
    return [space_file(space, wildcards.sample, seed) for space, seed in space_runs()]


def reference_space_file(wildcards):
    """A slide in the first space that the configuration names, first seed."""
    return space_file(structure_spaces()[0], wildcards.sample, config["seeds"][0])


def reference_space_files(wildcards):
    """All slides of a cohort in that space."""
    reference = structure_spaces()[0]
    return [space_file(reference, sample, config["seeds"][0]) for sample in structure_slides(wildcards.cohort)]


def own_sample(wildcards):
    return [wildcards.sample]


def cohort_slides(wildcards):
    return structure_slides(wildcards.cohort)


def structure_patches(wildcards):
    """Patches of a slide, by which its spots are chosen; none where there are no images."""
    return patches_of(wildcards.sample) if HAS_IMAGES else []


def structure_embedding(wildcards):
    """A slide's patches embedded by the frozen encoder of the spaces made of images."""
    imaged = wildcards.space not in EXPRESSION_SPACES
    return f"<results>/embeddings/{STRUCTURE_SETTINGS['encoder']}/{wildcards.sample}.h5" if imaged else []


def label_column():
    return STRUCTURE_SETTINGS.get("labels", {}).get("column")


def unknown_labels():
    """Values of that column that name no class."""
    return STRUCTURE_SETTINGS.get("labels", {}).get("unknown", [])


def labels_of(sample):
    """Where the known domains of a slide are: a CSV, its own counts, or nowhere."""
    if not label_column():
        return []
    return str(configuration.label_file(config, sample) or f"<data>/st/{sample}.h5ad")


def labels_of_sample(wildcards):
    return labels_of(wildcards.sample)


def label_note():
    """What the configuration says of the labels."""
    return STRUCTURE_SETTINGS.get("labels", {}).get("note", "")


def labels_of_cohort(wildcards):
    """Known domains of all slides of a cohort: a class has one colour on all of them."""
    return [labels_of(sample) for sample in structure_slides(wildcards.cohort)] if label_column() else []


def lognorm_of_cohort(wildcards):
    return [f"<results>/samples/{sample}/lognorm.h5ad" for sample in structure_slides(wildcards.cohort)]


def domains_of_cohort(wildcards):
    return [f"{STRUCTURE}/{sample}/domains.parquet" for sample in structure_slides(wildcards.cohort)]


def picture_of_slide(wildcards):
    return "<results>/samples/{sample}/thumbnail.png" if HAS_IMAGES else []


def space_kinds():
    """Space -> kind of the method that makes it, and what a clustering method is trained on."""
    return {space: [space_kind(space), config["methods"].get(space, {}).get("scope")] for space in structure_spaces()}


def first_space_files():
    """All slides in all spaces, first seed."""
    seed, slides = config["seeds"][0], structure_slides()
    return [space_file(space, sample, seed) for space in structure_spaces() for sample in slides]


def of_structure(name):
    """A file of every slide whose structure is sought."""
    return [f"<results>/structure/{COHORT_OF[sample]}/{sample}/{name}" for sample in structure_slides()]


def structure_genes(wildcards):
    """Genes to draw in the UMAP."""
    return STRUCTURE_SETTINGS["genes"] or config["cohorts"][wildcards.cohort]["markers"]


def scope_samples(wildcards):
    """Slides that a clustering method is trained on."""
    return structure_slides(wildcards.cohort) if wildcards.scope == COHORT else [wildcards.scope]


def scope_counts(wildcards):
    return [f"<results>/samples/{sample}/counts.h5ad" for sample in scope_samples(wildcards)]


def scope_patches(wildcards):
    return [patches_of(sample) for sample in scope_samples(wildcards)]


def scope_patients(wildcards):
    return {sample: PATIENT_OF[sample] for sample in scope_samples(wildcards)}


def test_fold(sample):
    """The fold that tests a slide, of the first protocol of its cohort."""
    cohort = COHORT_OF[sample]
    protocol = config["cohorts"][cohort]["protocols"][0]
    return protocol, TESTED_IN[cohort, protocol, sample]


def space_fold(wildcards):
    """Where the spots of a slide stand as the space's method reads them."""
    if space_kind(wildcards.space) == "clustering":
        return f"{STRUCTURE}/inputs/{space_scope(wildcards)}.h5"
    protocol, fold = test_fold(wildcards.sample)
    return f"<results>/folds/{{cohort}}/{protocol}/fold{fold}/fold.h5"


def space_weights(wildcards):
    """The trained model that embeds a slide: by a retrieval method the one that has never seen it."""
    if space_kind(wildcards.space) == "clustering":
        return f"{STRUCTURE}/models/{{space}}/{space_scope(wildcards)}/seed{{seed}}/weights.safetensors"
    protocol, fold = test_fold(wildcards.sample)
    return f"<results>/models/{{cohort}}/{protocol}/{{space}}/fold{fold}/seed{{seed}}/weights.safetensors"


def space_summary(wildcards):
    return space_weights(wildcards).replace("weights.safetensors", "summary.json")


def space_scope(wildcards):
    """What the model behind a slide in a clustering method's space is trained on."""
    return COHORT if config["methods"][wildcards.space]["scope"] == COHORT else wildcards.sample


def scopes_of(space, cohort):
    """What the models of a clustering method are trained on in one cohort."""
    return [COHORT] if config["methods"][space]["scope"] == COHORT else structure_slides(cohort)


def shares_reference(cohort):
    """Whether one model embeds all slides of a cohort in the reference space, so that they can be set side by side."""
    reference, slides = structure_spaces()[0], structure_slides(cohort)
    if len(slides) < 2 or space_kind(reference) == "baseline":
        return False
    return len({space_weights(SimpleNamespace(space=reference, sample=sample)) for sample in slides}) == 1
