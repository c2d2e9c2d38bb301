# From trained models to predicted expression of the test slides.

PREDICTION = "<results>/predictions/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.h5ad"


rule build_bank:
    input:
        fold=training_fold,
        patches=test_patches,
        weights=f"{MODEL}/weights.safetensors",
    output:
        bank=f"{MODEL}/bank.safetensors",
        queries=f"{MODEL}/queries.safetensors",
    log:
        "<results>/logs/build_bank/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/build_bank/{cohort}/{protocol}/{method}/fold{fold}/seed{seed}.tsv"
    wildcard_constraints:
        method=methods_of_kind("retrieval"),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        gpu=GPU,
    params:
        samples=test_samples,
        model=model_name,
        options=model_options,
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=method_code("build_bank"),
    message:
        "Embed training expression and test patches with {wildcards.method}, {wildcards.cohort}, {wildcards.protocol} protocol, fold {wildcards.fold}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/build_bank.py"


rule retrieve:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
        bank_fold=training_fold,
        bank=model_file("bank.safetensors"),
        queries=model_file("queries.safetensors"),
        summary=model_file("summary.json"),
    output:
        prediction=PREDICTION,
    log:
        "<results>/logs/retrieve/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/retrieve/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        predictor=of_kind("retrieval"),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        method=method_of,
        k=neighbours,
        matching=matching,
        code=code_version("retrieve"),
    message:
        "Predict {wildcards.sample} by {wildcards.predictor}, {wildcards.protocol} protocol, seed {wildcards.seed}"
    script:
        "../workflow_scripts/retrieve.py"


rule sweep_neighbours:
    input:
        folds=fold_files,
        bank_folds=training_fold_files,
        banks=model_files("bank.safetensors"),
        queries=model_files("queries.safetensors"),
    output:
        sweep="<results>/sweeps/{cohort}/{protocol}/{method}.parquet",
    log:
        "<results>/logs/sweep_neighbours/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/sweep_neighbours/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=methods_of_kind("retrieval"),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        seeds=training_seeds,
        top=config["evaluation"]["top"],
        code=code_version("sweep_neighbours"),
    message:
        "Score {wildcards.method} for every number of retrieved spots, {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/sweep_neighbours.py"


rule predict_spots:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
        bank_fold=training_fold,
        patches=sample_patches,
        weights=model_file("weights.safetensors"),
        summary=model_file("summary.json"),
        embeddings=exemplar_embeddings,
    output:
        prediction=PREDICTION,
    log:
        "<results>/logs/predict_spots/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/predict_spots/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        predictor=of_kind("regression"),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        gpu=GPU,
    params:
        embedded=exemplar_samples,
        method=method_of,
        model=model_name,
        options=model_options,
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=method_code("predict_spots"),
    message:
        "Predict {wildcards.sample} by {wildcards.predictor}, {wildcards.protocol} protocol, seed {wildcards.seed}"
    script:
        "../workflow_scripts/predict_spots.py"


rule predict_frozen:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
        weights=model_file("weights.safetensors"),
        summary=model_file("summary.json"),
        embedding=test_embedding,
    output:
        prediction=PREDICTION,
    log:
        "<results>/logs/predict_frozen/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/predict_frozen/{cohort}/{protocol}/{predictor}/fold{fold}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        predictor=of_kind("frozen"),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        method=method_of,
        model=model_name,
        code=method_code("predict_frozen"),
    message:
        "Predict {wildcards.sample} by {wildcards.predictor}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/predict_frozen.py"


if config["controls"]:

    rule predict_controls:
        input:
            fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
            ceiling=ceiling_of_sample,
        output:
            predictions=[
                f"<results>/predictions/{{cohort}}/{{protocol}}/{name}/fold{{fold}}/seed{{seed}}/{{sample}}.h5ad"
                for name in config["controls"]
            ],
        log:
            "<results>/logs/predict_controls/{cohort}/{protocol}/fold{fold}/seed{seed}/{sample}.log",
        benchmark:
            "<results>/benchmarks/predict_controls/{cohort}/{protocol}/fold{fold}/seed{seed}/{sample}.tsv"
        conda:
            "../envs/data.yaml"
        resources:
            mem_mb=lambda wildcards, attempt: 16000 * attempt,
        params:
            controls=config["controls"],
            code=code_version("predict_controls"),
        message:
            "Predict {wildcards.sample} by the controls, {wildcards.protocol} protocol, fold {wildcards.fold}, seed {wildcards.seed}"
        script:
            "../workflow_scripts/predict_controls.py"
