# Slides, counts and metadata in HEST's layout: fetched, generated, or already there (source `local`).

DATA_SOURCE = config["data"]["source"]


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
    files = [Path(config["data"]["root"]) / path for sample in SAMPLES for path in repository_files(sample)]
    if DATA_SOURCE == "huggingface" and not all(path.exists() for path in files):
        try:
            hest.token_from_environment()
        except SetupError as error:
            raise WorkflowError(str(error)) from None


def place_in_cohort(sample):
    """Whether a sample is the `first`, the `last` or an `inner` one of its cohort."""
    members = [other for other in SAMPLES if COHORT_OF[other] == COHORT_OF[sample]]
    return {members[0]: "first", members[-1]: "last"}.get(sample, "inner")


if DATA_SOURCE == "huggingface":

    rule fetch_sample:
        output:
            counts="<data>/st/{sample}.h5ad",
            metadata="<data>/metadata/{sample}.json",
            image=("<data>/patches/{sample}.h5" if has_patches(SAMPLES[0]) else "<data>/wsis/{sample}.tif"),
            record="<data>/downloads/{sample}.json",
        log:
            "<results>/logs/fetch_sample/{sample}.log",
        conda:
            "../envs/data.yaml"
        resources:
            mem_mb=2000,
        params:
            repository=config["data"]["repo"],
            revision=config["data"]["revision"],
            root=config["data"]["root"],
            files=lambda wildcards: [path.as_posix() for path in repository_files(wildcards.sample)],
        message:
            "Download {wildcards.sample} from the Hugging Face hub"
        script:
            "../workflow_scripts/fetch_sample.py"


if DATA_SOURCE == "generated":

    rule generate_sample:
        output:
            counts="<data>/st/{sample}.h5ad",
            slide="<data>/wsis/{sample}.tif",
            metadata="<data>/metadata/{sample}.json",
        log:
            "<results>/logs/generate_sample/{sample}.log",
        conda:
            "../envs/data.yaml"
        params:
            root=config["data"]["root"],
            patient=lambda wildcards: PATIENT_OF[wildcards.sample],
            seed=config["data"]["generated"]["seed"],
            spots_across=config["data"]["generated"]["spots_across"],
            linked=lambda wildcards: COHORT_OF[wildcards.sample] not in config["data"]["generated"]["unlinked"],
            place=lambda wildcards: place_in_cohort(wildcards.sample),
            code=code_version("demo"),
        message:
            "Generate slide and counts of {wildcards.sample}"
        script:
            "../workflow_scripts/generate_sample.py"
