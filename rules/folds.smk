# Gene panels, and everything that a fold's training needs in one file.


rule assemble_fold:
    input:
        counts=collect("<results>/samples/{sample}/counts.h5ad", sample=plan.fold_samples),
        lognorm=collect("<results>/samples/{sample}/lognorm.h5ad", sample=plan.fold_samples),
        patches=plan.fold_patches,
    output:
        markers="<results>/folds/{cohort}/{protocol}/fold{fold}/markers.tsv",
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
    log:
        "<results>/logs/assemble_fold/{cohort}/{protocol}/fold{fold}.log",
    benchmark:
        "<results>/benchmarks/assemble_fold/{cohort}/{protocol}/fold{fold}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(6000),
    params:
        samples=plan.fold_samples,
        patients=plan.fold_patients,
        plan=lambda wildcards: vars(plan.fold(wildcards)),
        markers=lookup("cohorts/{cohort}/markers", within=config),
        hvg_per_slide=config["expression"]["hvg_per_slide"],
        target_sum=config["expression"]["target_sum"],
        validation_fraction=config["validation_fraction"],
        code=plan.code("assemble_fold"),
    message:
        "Choose the genes of fold {wildcards.fold} of {wildcards.cohort} ({wildcards.protocol}) and join its slides"
    script:
        "../workflow_scripts/assemble_fold.py"


rule harmonise_fold:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
    output:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold_harmony.h5",
    log:
        "<results>/logs/harmonise_fold/{cohort}/{protocol}/fold{fold}.log",
    benchmark:
        "<results>/benchmarks/harmonise_fold/{cohort}/{protocol}/fold{fold}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(6000),
    params:
        code=plan.code("harmonise_fold"),
    message:
        "Correct the expression of fold {wildcards.fold} of {wildcards.cohort} ({wildcards.protocol}) for its slides with Harmony"
    script:
        "../workflow_scripts/harmonise_fold.py"


rule centre_fold:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
    output:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold_centred.h5",
    log:
        "<results>/logs/centre_fold/{cohort}/{protocol}/fold{fold}.log",
    benchmark:
        "<results>/benchmarks/centre_fold/{cohort}/{protocol}/fold{fold}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(3000),
    params:
        code=plan.code("centre_fold"),
    message:
        "Centre the expression of fold {wildcards.fold} of {wildcards.cohort} ({wildcards.protocol}) on each training slide"
    script:
        "../workflow_scripts/centre_fold.py"


# For controls that train the reference method where there is nothing to learn from an image
rule shuffle_fold:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/{learnt}.h5",
    output:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/{learnt}_shuffled_{over}.h5",
    log:
        "<results>/logs/shuffle_fold/{cohort}/{protocol}/fold{fold}/{learnt}_{over}.log",
    benchmark:
        "<results>/benchmarks/shuffle_fold/{cohort}/{protocol}/fold{fold}/{learnt}_{over}.tsv"
    wildcard_constraints:
        learnt="fold|fold_harmony|fold_centred",
        over=one_of(SHUFFLED.values()),
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(3000),
    params:
        code=plan.code("shuffle_fold"),
    message:
        "Shuffle the expression of fold {wildcards.fold} of {wildcards.cohort} ({wildcards.protocol}) over the spots of a {wildcards.over}"
    script:
        "../workflow_scripts/shuffle_fold.py"


rule export_task:
    input:
        fold="<results>/folds/{cohort}/{protocol}/fold{fold}/fold.h5",
        patches=plan.fold_patches,
    output:
        task="<results>/tasks/{cohort}/{protocol}/fold{fold}.h5ad",
    log:
        "<results>/logs/export_task/{cohort}/{protocol}/fold{fold}.log",
    benchmark:
        "<results>/benchmarks/export_task/{cohort}/{protocol}/fold{fold}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(3000),
    params:
        samples=plan.fold_samples,
        code=plan.code("export_task"),
    message:
        "Write fold {wildcards.fold} of {wildcards.cohort} ({wildcards.protocol}) for other tools"
    script:
        "../workflow_scripts/export_task.py"
