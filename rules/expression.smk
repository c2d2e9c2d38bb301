# Counts to log-normalised expression, slide by slide.


rule prepare_expression:
    input:
        counts="<data>/st/{sample}.h5ad",
        metadata=metadata_of,
        slide=slide_without_patches,
        record=download_record,
    output:
        counts="<results>/samples/{sample}/counts.h5ad",
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        thumbnail="<results>/samples/{sample}/thumbnail.png",
        qc="<results>/samples/{sample}/qc.json",
    log:
        "<results>/logs/prepare_expression/{sample}.log",
    benchmark:
        "<results>/benchmarks/prepare_expression/{sample}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        min_counts=config["expression"]["min_counts"],
        target_sum=config["expression"]["target_sum"],
        outside=config["expression"]["outside"],
        code=code_version("prepare_expression"),
    message:
        "Clean and normalise the counts of {wildcards.sample}"
    script:
        "../workflow_scripts/prepare_expression.py"


rule noise_ceiling:
    input:
        counts="<results>/samples/{sample}/counts.h5ad",
        patches=sample_patches,
    output:
        ceiling="<results>/samples/{sample}/ceiling.tsv",
    log:
        "<results>/logs/noise_ceiling/{sample}.log",
    benchmark:
        "<results>/benchmarks/noise_ceiling/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        target_sum=config["expression"]["target_sum"],
        code=code_version("noise_ceiling"),
    message:
        "Split the counts of {wildcards.sample} to find what noise lets anyone predict"
    script:
        "../workflow_scripts/noise_ceiling.py"
