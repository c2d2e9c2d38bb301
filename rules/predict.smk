# Slides without counts: models trained on whole cohorts with the reliability of each gene, and expression predicted from
# the slide alone. A slide's files are below <results>/predict/{slide}, a model's below <results>/final/{cohort}/{predictor}.

SLIDE_FOLDER = "<results>/predict/{slide}"


# --- Models -----------------------------------------------------------------------------------------------------------


rule rate_genes:
    input:
        scores=predict.scores,
        chance=predict.chance_scores,
        ceilings=collect("<results>/samples/{sample}/ceiling.tsv", sample=plan.cohort_samples),
    output:
        genes="<results>/reliability/{cohort}/{predictor}.tsv",
        facts="<results>/reliability/{cohort}/{predictor}.json",
    log:
        "<results>/logs/rate_genes/{cohort}/{predictor}.log",
    benchmark:
        "<results>/benchmarks/rate_genes/{cohort}/{predictor}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        samples=plan.cohort_samples,
        patients=plan.patients,
        code=plan.code("rate_genes"),
    message:
        "Tell the genes of {wildcards.cohort} that {wildcards.predictor} predicts reliably"
    script:
        "../workflow_scripts/rate_genes.py"


# What patches of the training slides look like, and how far apart they are
rule describe_cohort:
    input:
        patches=plan.cohort_patches,
    output:
        reference="<results>/likeness/{cohort}.safetensors",
    log:
        "<results>/logs/describe_cohort/{cohort}.log",
    benchmark:
        "<results>/benchmarks/describe_cohort/{cohort}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        samples=plan.cohort_samples,
        patients=plan.patients,
        code=plan.code("describe_cohort"),
    message:
        "Describe the patches of {wildcards.cohort}, to compare other slides with"
    script:
        "../workflow_scripts/describe_cohort.py"


# A folder that needs nothing else; training, on all slides of the cohort, is that of rules/training.smk
rule assemble_model:
    input:
        weights=lambda wildcards: f"{predict.trained(wildcards)}/weights.safetensors",
        model=lambda wildcards: f"{predict.trained(wildcards)}/model.json",
        fold=predict.training_fold,
        features=predict.training_features,
        qc=collect("<results>/samples/{sample}/qc.json", sample=plan.cohort_samples),
        reliability="<results>/reliability/{cohort}/{predictor}.tsv",
        facts="<results>/reliability/{cohort}/{predictor}.json",
        reference="<results>/likeness/{cohort}.safetensors",
    output:
        folder=directory("<results>/final/{cohort}/{predictor}"),
    log:
        "<results>/logs/assemble_model/{cohort}/{predictor}.log",
    benchmark:
        "<results>/benchmarks/assemble_model/{cohort}/{predictor}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        samples=plan.cohort_samples,
        patients=plan.patients,
        technologies=plan.technologies,
        method=predict.method,
        retrieval=predict.retrieval,
        encoder=predict.encoder,
        target_sum=config["expression"]["target_sum"],
        code=plan.code("assemble_model"),
    message:
        "Assemble the model of {wildcards.predictor}, trained on {wildcards.cohort}, for other slides"
    script:
        "../workflow_scripts/assemble_model.py"


# --- Slides -----------------------------------------------------------------------------------------------------------


if config["data"]["source"] == "generated":

    rule generate_slide:
        output:
            slide="<data>/unsequenced/{slide}.tif",
        log:
            "<results>/logs/generate_slide/{slide}.log",
        benchmark:
            "<results>/benchmarks/generate_slide/{slide}.tsv"
        wildcard_constraints:
            slide=one_of(predict.generated),
        localrule: True
        conda:
            "../envs/data.yaml"
        params:
            patient=predict.patient,
            seed=config["data"]["generated"]["seed"],
            spots_across=config["data"]["generated"]["spots_across"],
            code=plan.code("generate_slide"),
        message:
            "Draw {wildcards.slide}, which has no counts"
        script:
            "../workflow_scripts/generate_slide.py"


rule convert_slide:
    input:
        slide=predict.given,
    output:
        slide=f"{SLIDE_FOLDER}/slide.tif",
    log:
        "<results>/logs/convert_slide/{slide}.log",
    benchmark:
        "<results>/benchmarks/convert_slide/{slide}.tsv"
    wildcard_constraints:
        slide=one_of(predict.converted),
    priority: TRAINING + 1  # a slide that cannot be read is told of at once
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        um_per_px=predict.um_per_px,
        code=plan.code("convert_slide"),
    message:
        "Turn {input.slide} into a tiled pyramid"
    script:
        "../workflow_scripts/convert_slide.py"


rule find_tissue:
    input:
        slide=predict.slide,
        outline=predict.outline,
    output:
        facts=f"{SLIDE_FOLDER}/slide.json",
        outline=f"{SLIDE_FOLDER}/tissue.geojson",
        picture=f"{SLIDE_FOLDER}/tissue.png",
        hires=f"{SLIDE_FOLDER}/hires.png",
        lowres=f"{SLIDE_FOLDER}/lowres.png",
    log:
        "<results>/logs/find_tissue/{slide}.log",
    benchmark:
        "<results>/benchmarks/find_tissue/{slide}.tsv"
    priority: TRAINING + 1  # a slide that cannot be read is told of at once
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        source=predict.given,
        um_per_px=predict.um_per_px,
        code=plan.code("find_tissue"),
    message:
        "Find the tissue on {wildcards.slide}"
    script:
        "../workflow_scripts/find_tissue.py"


rule place_spots:
    input:
        facts=f"{SLIDE_FOLDER}/slide.json",
        outline=f"{SLIDE_FOLDER}/tissue.geojson",
        centres=predict.centres,
    output:
        spots=f"{SLIDE_FOLDER}/spots.h5ad",
    log:
        "<results>/logs/place_spots/{slide}.log",
    benchmark:
        "<results>/benchmarks/place_spots/{slide}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        **predict.grid,
        code=plan.code("place_spots"),
    message:
        "Place spots on the tissue of {wildcards.slide}"
    script:
        "../workflow_scripts/place_spots.py"


use rule extract_patches as extract_slide_patches with:
    input:
        slide=predict.slide,
        counts=f"{SLIDE_FOLDER}/spots.h5ad",
        qc=f"{SLIDE_FOLDER}/slide.json",
    output:
        patches=f"{SLIDE_FOLDER}/patches.h5",
    log:
        "<results>/logs/extract_slide_patches/{slide}.log",
    benchmark:
        "<results>/benchmarks/extract_slide_patches/{slide}.tsv"
    message:
        "Cut the patches of {wildcards.slide}"


use rule embed_patches as embed_slide_patches with:
    input:
        patches=f"{SLIDE_FOLDER}/patches.h5",
        encoder_weights=plan.encoder_weights,
    output:
        embedding=f"{SLIDE_FOLDER}/embeddings/{{encoder}}.h5",
    log:
        "<results>/logs/embed_slide_patches/{encoder}/{slide}.log",
    benchmark:
        "<results>/benchmarks/embed_slide_patches/{encoder}/{slide}.tsv"
    message:
        "Embed the patches of {wildcards.slide} with {wildcards.encoder}"


use rule embed_context as embed_slide_context with:
    input:
        patches=f"{SLIDE_FOLDER}/patches.h5",
        slide=predict.slide,
        counts=f"{SLIDE_FOLDER}/spots.h5ad",
        qc=f"{SLIDE_FOLDER}/slide.json",
        encoder_weights=plan.encoder_weights,
    output:
        context=f"{SLIDE_FOLDER}/context/{{encoder}}.h5",
    log:
        "<results>/logs/embed_slide_context/{encoder}/{slide}.log",
    benchmark:
        "<results>/benchmarks/embed_slide_context/{encoder}/{slide}.tsv"
    message:
        "Describe the tissue around the spots of {wildcards.slide} with {wildcards.encoder}"


rule compare_slide:
    input:
        patches=f"{SLIDE_FOLDER}/patches.h5",
        slide=predict.slide,
        spots=f"{SLIDE_FOLDER}/spots.h5ad",
        facts=f"{SLIDE_FOLDER}/slide.json",
        reference="<results>/likeness/{cohort}.safetensors",
    output:
        table=f"{SLIDE_FOLDER}/likeness/{{cohort}}.tsv",
        verdict=f"{SLIDE_FOLDER}/likeness/{{cohort}}.json",
    log:
        "<results>/logs/compare_slide/{cohort}/{slide}.log",
    benchmark:
        "<results>/benchmarks/compare_slide/{cohort}/{slide}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        patient=predict.patient,
        code=plan.code("compare_slide"),
    message:
        "Compare {wildcards.slide} with the training slides of {wildcards.cohort}"
    script:
        "../workflow_scripts/compare_slide.py"


# --- Predictions ------------------------------------------------------------------------------------------------------


rule predict_slide:
    input:
        model=predict.model_folder,
        spots=f"{SLIDE_FOLDER}/spots.h5ad",
        patches=f"{SLIDE_FOLDER}/patches.h5",
        features=predict.features,
        likeness=lambda wildcards: f"{predict.likeness(wildcards)}.tsv",
        verdict=lambda wildcards: f"{predict.likeness(wildcards)}.json",
        facts=f"{SLIDE_FOLDER}/slide.json",
        hires=f"{SLIDE_FOLDER}/hires.png",
        lowres=f"{SLIDE_FOLDER}/lowres.png",
    output:
        prediction=f"{SLIDE_FOLDER}/{{model}}.h5ad",
    log:
        "<results>/logs/predict_slide/{slide}/{model}.log",
    benchmark:
        "<results>/benchmarks/predict_slide/{slide}/{model}.tsv"
    wildcard_constraints:
        model=one_of(predict.models),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        runtime=times_attempt(240),
        gpu=plan.gpus,
    params:
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=plan.code("predict_slide"),
    message:
        "Predict {wildcards.slide} with {wildcards.model}"
    script:
        "../workflow_scripts/predict_slide.py"


# --- What people look at ----------------------------------------------------------------------------------------------


rule draw_slide_maps:
    input:
        prediction=f"{SLIDE_FOLDER}/{{model}}.h5ad",
        model=predict.model_folder,
        facts=f"{SLIDE_FOLDER}/slide.json",
        hires=f"{SLIDE_FOLDER}/hires.png",
    output:
        pdf=f"{SLIDE_FOLDER}/maps/{{model}}.pdf",
        png=report(
            f"{SLIDE_FOLDER}/maps/{{model}}.png",
            caption="../report/slide_maps.rst",
            category="Slides without counts",
            labels={"slide": "{slide}", "predictor": "{model}", "form": "maps"},
        ),
    log:
        "<results>/logs/draw_slide_maps/{slide}/{model}.log",
    benchmark:
        "<results>/benchmarks/draw_slide_maps/{slide}/{model}.tsv"
    wildcard_constraints:
        model=one_of(predict.models),
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        genes=predict.genes,
        code=plan.code("draw_slide_maps"),
    message:
        "Draw maps of {wildcards.slide} by {wildcards.model}"
    script:
        "../workflow_scripts/draw_slide_maps.py"


rule export_spots:
    input:
        predictions=collect(f"{SLIDE_FOLDER}/{{model}}.h5ad", model=predict.models, allow_missing=True),
    output:
        spots=f"{SLIDE_FOLDER}/spots.geojson",
    log:
        "<results>/logs/export_spots/{slide}.log",
    benchmark:
        "<results>/benchmarks/export_spots/{slide}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        models=list(predict.models),
        genes=predict.genes,
        code=plan.code("export_spots"),
    message:
        "Export the spots of {wildcards.slide} for QuPath"
    script:
        "../workflow_scripts/export_spots.py"


rule summarise_slide:
    input:
        facts=f"{SLIDE_FOLDER}/slide.json",
        outline=f"{SLIDE_FOLDER}/tissue.png",
        predictions=collect(f"{SLIDE_FOLDER}/{{model}}.h5ad", model=predict.models, allow_missing=True),
        folders=predict.folders,
        verdicts=predict.verdicts,
        maps=collect(f"{SLIDE_FOLDER}/maps/{{model}}.png", model=predict.models, allow_missing=True),
    output:
        page=report(
            f"{SLIDE_FOLDER}/summary.html",
            caption="../report/slide_summary.rst",
            category="Slides without counts",
            labels={"slide": "{slide}", "predictor": "all", "form": "summary"},
        ),
    log:
        "<results>/logs/summarise_slide/{slide}.log",
    benchmark:
        "<results>/benchmarks/summarise_slide/{slide}.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        models=list(predict.models),
        genes=predict.genes,
        code=plan.code("summarise_slide"),
    message:
        "Sum up {wildcards.slide} on a page"
    script:
        "../workflow_scripts/summarise_slide.py"
