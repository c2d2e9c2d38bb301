# One job per method, fold and seed. A trained model is a folder that describes itself.

MODEL = "<results>/models/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}"


rule train:
    input:
        fold=plan.training_fold_path,
        patches=plan.training_patches,
        embeddings=collect("<results>/{features}/{sample}.h5", features=plan.features, sample=plan.embedded_samples),
        encoder_weights=plan.encoder_weights,
    output:
        weights=f"{MODEL}/weights.safetensors",
        model=f"{MODEL}/model.json",
        history=f"{MODEL}/history.tsv",
        summary=f"{MODEL}/summary.json",
    log:
        "<results>/logs/train/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("retrieval", "regression")),
    priority: TRAINING
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(32000),
        runtime=times_attempt(480),
        gpu=plan.gpus,
    params:
        samples=plan.training_samples,
        embedded=plan.embedded_samples,
        model=lookup("methods/{method}/model", within=config),
        options=lookup("methods/{method}/options", within=config),
        preparation=plan.preparation,
        training=plan.training,
        state=f"{plan.results}/state/{{cohort}}/{{protocol}}/{{method}}/fold{{fold}}/seed{{seed}}",
        code=plan.code("train"),
    message:
        "Train {wildcards.method}, {wildcards.cohort}, {wildcards.protocol} protocol, fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule fit_frozen:
    input:
        fold=plan.training_fold_path,
        embeddings=collect("<results>/{features}/{sample}.h5", features=plan.features, sample=plan.embedded_samples),
    output:
        weights=f"{MODEL}/weights.safetensors",
        model=f"{MODEL}/model.json",
        summary=f"{MODEL}/summary.json",
    log:
        "<results>/logs/fit_frozen/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/fit_frozen/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("frozen")),
    conda:
        "../envs/data.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(6000),
    params:
        samples=plan.embedded_samples,
        model=lookup("methods/{method}/model", within=config),
        options=lookup("methods/{method}/options", within=config),
        preparation=plan.preparation,
        threads=config["training"]["threads"],
        code=plan.code("fit_frozen"),
    message:
        "Fit {wildcards.method}, {wildcards.cohort}, {wildcards.protocol} protocol, fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/fit_frozen.py"
