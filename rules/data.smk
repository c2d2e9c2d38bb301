# Slides, counts and metadata in HEST's layout: fetched, generated, or already there (source `local`).


if config["data"]["source"] == "huggingface":
    # Everywhere, `--cores 8` and clusters included; `--resources downloads=N` says otherwise
    if "downloads" not in workflow.global_resources:
        workflow.register_resource("downloads", 4)

    # `update`: Snakemake would delete what is already there, which may be right and hours of download
    rule fetch_sample:
        output:
            counts=update("<data>/st/{sample}.h5ad"),
            metadata=update("<data>/metadata/{sample}.json"),
            image=update(
                "<data>/patches/{sample}.h5" if plan.has_patches(plan.samples[0]) else "<data>/wsis/{sample}.tif"
            ),
            manifest=update(plan.manifest),
        log:
            "<results>/logs/fetch_sample/{sample}.log",
        benchmark:
            "<results>/benchmarks/fetch_sample/{sample}.tsv"
        priority: BEFORE_TRAINING
        retries: 0  # the job itself asks again where that may help
        localrule: True  # a cluster's compute nodes often have no way out
        conda:
            "../envs/data.yaml"
        resources:
            mem_mb=2000,
            downloads=1,
        params:
            repository=config["data"]["repo"],
            revision=config["data"]["revision"],
            files=lambda wildcards: plan.repository_files(wildcards.sample),
        message:
            "Download {wildcards.sample} from the Hugging Face hub"
        script:
            "../workflow_scripts/fetch_sample.py"

    # `snakemake verify_downloads`: every byte, where other runs look at size and time only
    rule verify_downloads:
        input:
            manifests=plan.downloaded(plan.samples),
        log:
            "<results>/logs/verify_downloads.log",
        localrule: True
        conda:
            "../envs/data.yaml"
        resources:
            mem_mb=2000,
        message:
            "Compare all downloaded files with their hashes"
        script:
            "../workflow_scripts/verify_downloads.py"


if config["data"]["source"] == "generated":

    rule generate_sample:
        output:
            counts="<data>/st/{sample}.h5ad",
            slide="<data>/wsis/{sample}.tif",
            metadata="<data>/metadata/{sample}.json",
        log:
            "<results>/logs/generate_sample/{sample}.log",
        benchmark:
            "<results>/benchmarks/generate_sample/{sample}.tsv"
        priority: BEFORE_TRAINING
        localrule: True
        conda:
            "../envs/data.yaml"
        params:
            patient=lambda wildcards: plan.patients[wildcards.sample],
            seed=config["data"]["generated"]["seed"],
            spots_across=config["data"]["generated"]["spots_across"],
            linked=lambda wildcards: plan.cohort_of[wildcards.sample] not in config["data"]["generated"]["unlinked"],
            place=plan.place_in_cohort,
            code=plan.code("generate_sample"),
        message:
            "Generate slide and counts of {wildcards.sample}"
        script:
            "../workflow_scripts/generate_sample.py"
