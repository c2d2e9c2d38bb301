# Noise ceilings, scores per gene and per slide, and the search for leaks.


rule noise_ceiling:
    input:
        counts="<results>/samples/{sample}/counts.h5ad",
        patches=plan.sample_patches,
    output:
        ceiling="<results>/samples/{sample}/ceiling.tsv",
    log:
        "<results>/logs/noise_ceiling/{sample}.log",
    benchmark:
        "<results>/benchmarks/noise_ceiling/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        target_sum=config["expression"]["target_sum"],
        code=plan.code("noise_ceiling"),
    message:
        "Split the counts of {wildcards.sample} to find the correlation that noise allows"
    script:
        "../workflow_scripts/noise_ceiling.py"


rule score:
    input:
        predictions=f"{PREDICTIONS}/{{method}}",
        observed=OBSERVED,
    output:
        scores="<results>/scores/{cohort}/{protocol}/{method}.parquet",
        slide_scores="<results>/slide_scores/{cohort}/{protocol}/{method}.parquet",
    log:
        "<results>/logs/score/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/score/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=one_of([*plan.methods_of_kind("regression", "frozen"), *external.settings, CONTROLS]),
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        files=plan.predictions,  # inside that folder
        top=config["evaluation"]["top"],
        code=plan.code("score"),
    message:
        "Score {wildcards.method} on {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/score.py"


# A method that retrieves is scored for every K, too, from one spot to the whole bank
use rule score as score_retrieval with:
    input:
        predictions=f"{PREDICTIONS}/{{method}}",
        observed=OBSERVED,
        folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5", fold=plan.fold_numbers, allow_missing=True
        ),
        training_folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/{file}",
            fold=plan.fold_numbers,
            file=plan.training_fold,
            allow_missing=True,
        ),
    output:
        scores="<results>/scores/{cohort}/{protocol}/{method}.parquet",
        slide_scores="<results>/slide_scores/{cohort}/{protocol}/{method}.parquet",
        sweep="<results>/sweeps/{cohort}/{protocol}/{method}.parquet",
    log:
        "<results>/logs/score_retrieval/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/score_retrieval/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("retrieval")),
    resources:
        mem_mb=times_attempt(4000),
    params:
        files=plan.predictions,  # inside that folder
        seeds=plan.seeds,
        top=config["evaluation"]["top"],
        code=plan.code("score"),


rule fingerprint_sample:
    input:
        raw_counts="<data>/st/{sample}.h5ad",
        metadata="<data>/metadata/{sample}.json",
        image=lambda wildcards: plan.slide_to_cut(wildcards) or plan.sample_patches(wildcards),
        manifest=lambda wildcards: plan.downloaded([wildcards.sample]),
        counts="<results>/samples/{sample}/counts.h5ad",
        patches=plan.sample_patches,
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
        mem_mb=times_attempt(2000),
    params:
        code=plan.code("fingerprint_sample"),
    message:
        "Take the fingerprint of {wildcards.sample}: hashes of its files, picture and counts"
    script:
        "../workflow_scripts/fingerprint_sample.py"


rule audit:
    input:
        folds=collect("<results>/folds/{fold}/fold.h5", fold=plan.fold_names),
        scores=collect("<results>/scores/{name}.parquet", name=plan.scored),
        fingerprints=collect("<results>/samples/{sample}/fingerprint.json", sample=plan.samples),
        counts=collect("<results>/samples/{sample}/counts.h5ad", sample=plan.samples),
        qc=collect("<results>/samples/{sample}/qc.json", sample=plan.samples),
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
        mem_mb=times_attempt(16000),
    params:
        samples=plan.samples,
        sections=[section.split("/") for section in plan.sections],
        markers=plan.markers,
        hvg_per_slide=config["expression"]["hvg_per_slide"],
        target_sum=config["expression"]["target_sum"],
        top=config["evaluation"]["top"],
        external=external.trained_on,
        code=plan.code("audit"),
    message:
        "Look for leaks from test to training slides"
    script:
        "../workflow_scripts/audit.py"
