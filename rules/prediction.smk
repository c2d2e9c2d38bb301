# From trained models to the predicted expression of test slides. One job per method, cohort and protocol: it predicts with
# every trained model of the method (folds, seeds), every test slide, and every K and matching.
# Inside its folder: fold{fold}/seed{seed}/{predictor}/{sample}.h5ad, beside them the banks of methods that retrieve.

PREDICTIONS = "<results>/predictions/{cohort}/{protocol}"
OBSERVED = "<results>/observed/{cohort}/{protocol}"


# What was measured, and the pictures of the slides: {sample}.h5ad, once for all predictions of a test slide
rule assemble_observed:
    input:
        folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5", fold=plan.fold_numbers, allow_missing=True
        ),
        thumbnails=collect("<results>/samples/{sample}/thumbnail.png", sample=plan.cohort_samples),
        qc=collect("<results>/samples/{sample}/qc.json", sample=plan.cohort_samples),
        metadata=plan.cohort_metadata,
    output:
        observed=directory(OBSERVED),
    log:
        "<results>/logs/assemble_observed/{cohort}/{protocol}.log",
    benchmark:
        "<results>/benchmarks/assemble_observed/{cohort}/{protocol}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        samples=plan.cohort_samples,
        code=plan.code("assemble_observed"),
    message:
        "Write what was measured on the test slides of {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/assemble_observed.py"


rule predict_test_slides:
    input:
        weights=collect(f"{MODEL}/weights.safetensors", fold=plan.fold_numbers, seed=plan.seeds, allow_missing=True),
        models=collect(f"{MODEL}/model.json", fold=plan.fold_numbers, seed=plan.seeds, allow_missing=True),
        folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/{file}",
            fold=plan.fold_numbers,
            file=plan.training_fold,
            allow_missing=True,
        ),
        patches=plan.cohort_patches,
        embeddings=collect("<results>/{features}/{sample}.h5", features=plan.features, sample=plan.embedded_samples),
    output:
        predictions=directory(f"{PREDICTIONS}/{{method}}"),
    log:
        "<results>/logs/predict_test_slides/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/predict_test_slides/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("retrieval", "regression")),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        runtime=times_attempt(240),
        gpu=plan.gpus,
    params:
        samples=plan.cohort_samples,
        embedded=plan.embedded_samples,
        seeds=plan.seeds,
        predictors=plan.settings,
        kind=plan.predictor_kind,
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=plan.code("predict_test_slides"),
    message:
        "Predict all test slides of {wildcards.cohort} with {wildcards.method}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/predict_test_slides.py"


# Methods on frozen features need no torch; the patches are there for the others
use rule predict_test_slides as predict_frozen with:
    log:
        "<results>/logs/predict_frozen/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/predict_frozen/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("frozen")),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(16000),


rule predict_controls:
    input:
        folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5", fold=plan.fold_numbers, allow_missing=True
        ),
        ceilings=collect("<results>/samples/{sample}/ceiling.tsv", sample=plan.ceiling_samples),
    output:
        predictions=directory(f"{PREDICTIONS}/{CONTROLS}"),
    log:
        "<results>/logs/predict_controls/{cohort}/{protocol}.log",
    benchmark:
        "<results>/benchmarks/predict_controls/{cohort}/{protocol}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(16000),
    params:
        samples=plan.cohort_samples,
        with_ceiling=plan.ceiling_samples,
        seeds={name: plan.seeds_of(name) for name in plan.predictors_of(CONTROLS)},
        code=plan.code("predict_controls", "spotwise.models.controls"),
    message:
        "Predict all test slides of {wildcards.cohort} by the controls, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/predict_controls.py"


# Another tool has predicted: its files are matched by spot and gene, and written as if a method had
rule import_predictions:
    input:
        folds=collect(
            "<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5", fold=plan.fold_numbers, allow_missing=True
        ),
        files=external_files,
    output:
        predictions=directory(f"{PREDICTIONS}/{{method}}"),
        facts="<results>/external/{cohort}/{protocol}/{method}.csv",
    log:
        "<results>/logs/import_predictions/{cohort}/{protocol}/{method}.log",
    benchmark:
        "<results>/benchmarks/import_predictions/{cohort}/{protocol}/{method}.tsv"
    wildcard_constraints:
        method=one_of(external.settings),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        samples=plan.cohort_samples,
        tested=external.tested,
        units=lookup("external/{method}/units", within=config),
        target_sum=lookup("external/{method}/target_sum", within=config, default=None),
        run_target_sum=config["expression"]["target_sum"],
        trained_on=lookup("external/{method}/trained_on", within=config),
        top=config["evaluation"]["top"],
        seed=config["seeds"][0],
        code=plan.code("import_predictions"),
    message:
        "Import the predictions of {wildcards.method} for {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/import_predictions.py"
