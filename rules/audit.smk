# What the test slides could have told the training, and the record of what a run was made of.


rule fingerprint_sample:
    input:
        data="<data>/st/{sample}.h5ad",
        metadata="<data>/metadata/{sample}.json",
        image=image_of_sample,
        record=download_record,
        counts="<results>/samples/{sample}/counts.h5ad",
        patches=sample_patches,
        thumbnail="<results>/samples/{sample}/thumbnail.png",
    output:
        fingerprint="<results>/samples/{sample}/fingerprint.json",
    log:
        "<results>/logs/fingerprint_sample/{sample}.log",
    benchmark:
        "<results>/benchmarks/fingerprint_sample/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        code=code_version("fingerprint_sample"),
    message:
        "Take the fingerprint of {wildcards.sample}: hashes of its files, picture and counts"
    script:
        "../workflow_scripts/fingerprint_sample.py"


rule audit:
    input:
        folds=all_folds(),
        scores=all_scores(),
        fingerprints=of_samples("fingerprint.json"),
        counts=of_samples("counts.h5ad"),
        qc=of_samples("qc.json"),
    output:
        csv=report(
            "<results>/tables/leaks.csv",
            caption="../report/leaks.rst",
            category="Leak audit",
            labels={"table": "Leaks", "format": "CSV"},
        ),
        markdown="<results>/tables/leaks.md",
    log:
        "<results>/logs/audit.log",
    benchmark:
        "<results>/benchmarks/audit.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
    params:
        samples=SAMPLES,
        runs=score_runs(),
        markers={name: settings["markers"] for name, settings in config["cohorts"].items()},
        hvg_per_slide=config["expression"]["hvg_per_slide"],
        target_sum=config["expression"]["target_sum"],
        top=config["evaluation"]["top"],
        code=code_version("audit"),
    message:
        "Look for leaks from test to training slides"
    script:
        "../workflow_scripts/audit.py"


rule provenance:
    input:
        tables=tables(),
        figures=figures() + structure_outputs(),
        fingerprints=of_samples("fingerprint.json"),
        downloads=download_records(),
        summaries=model_summaries() + structure_summaries(),
        labels=list(label_files().values()),
    output:
        record=report(
            "<results>/provenance.json",
            caption="../report/provenance.rst",
            category="Provenance",
            labels={"file": "Provenance of the run", "format": "JSON"},
        ),
    log:
        "<results>/logs/provenance.log",
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 1000 * attempt,
    params:
        samples=SAMPLES,
        labelled=list(label_files()),
        snakemake=versions("snakemake")["snakemake"],
        code=code_version("provenance"),
    message:
        "Record versions, inputs, hardware and time of the run"
    script:
        "../workflow_scripts/provenance.py"
