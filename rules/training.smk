# One job per method, fold and seed.


rule train:
    input:
        fold=training_fold,
        patches=training_patches,
        embeddings=exemplar_embeddings,
        checkpoint=method_checkpoint,
    output:
        weights=f"{MODEL}/weights.safetensors",
        history=f"{MODEL}/history.tsv",
        summary=f"{MODEL}/summary.json",
    log:
        "<results>/logs/train/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.tsv"
    wildcard_constraints:
        method=methods_of_kind("retrieval", "regression"),
    priority: TRAINING
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 32000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
        gpu=GPU,
    params:
        samples=training_samples,
        embedded=exemplar_samples,
        model=model_name,
        options=model_options,
        training=training_options,
        state=f"{RESULTS}/state/{{cohort}}/{{protocol}}/{{method}}/fold{{fold}}/seed{{seed}}",
        code=method_code("train"),
    message:
        "Train {wildcards.method}, {wildcards.cohort}, {wildcards.protocol} protocol, fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule fit_frozen:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
        embeddings=training_embeddings,
    output:
        weights=f"{MODEL}/weights.safetensors",
        summary=f"{MODEL}/summary.json",
    log:
        "<results>/logs/fit_frozen/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/fit_frozen/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.tsv"
    wildcard_constraints:
        method=methods_of_kind("frozen"),
    conda:
        "../envs/data.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
    params:
        samples=training_samples,
        model=model_name,
        options=model_options,
        threads=config["training"]["threads"],
        code=method_code("fit_frozen"),
    message:
        "Fit {wildcards.method}, {wildcards.cohort}, {wildcards.protocol} protocol, fold {wildcards.fold}"
    script:
        "../workflow_scripts/fit_frozen.py"
