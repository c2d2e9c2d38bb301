# Counts to log-normalised expression, slide by slide.


rule prepare_expression:
    input:
        counts="<data>/st/{sample}.h5ad",
        metadata=plan.metadata,
        slide=plan.slide_to_cut,
        patches=plan.patches_to_use,
        manifest=lambda wildcards: plan.downloaded([wildcards.sample]),
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
        mem_mb=times_attempt(4000),
    params:
        min_counts=config["expression"]["min_counts"],
        target_sum=config["expression"]["target_sum"],
        outside=config["expression"]["outside"],
        technology=lambda wildcards: plan.technologies[wildcards.sample],
        code=plan.code("prepare_expression"),
    message:
        "Clean and normalise the counts of {wildcards.sample}"
    script:
        "../workflow_scripts/prepare_expression.py"
