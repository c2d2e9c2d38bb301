# Tables and figures, from scores, predictions, training histories and summaries; and the record of the run.

ALL_SCORES = collect("<results>/scores/{name}.parquet", name=plan.scored)
SECTION = {"cohort": "{cohort}", "protocol": "{protocol}"}


# --- Tables -----------------------------------------------------------------------------------------------------------


rule tables:
    input:
        scores=ALL_SCORES,
        slide_scores=collect("<results>/slide_scores/{name}.parquet", name=plan.scored),
        markers=collect("<results>/folds/{fold}/markers.tsv", fold=plan.fold_names),
    output:
        **table("table1", "1: main comparison", "md", "tex"),
        **table("table2", "2: longer gene lists", "md", "tex"),
        **table("table3", "3: best-correlated genes", "md", "tex"),
        **table("table4", "4: pathology foundation models", "md", "tex"),
        **table("table5", "5: variants of CMRCNet", "md", "tex"),
        **table("markers", "Supplement: marker genes", "md", "tex"),
        **table("measures", "Further measures", "md"),
    log:
        "<results>/logs/tables.log",
    benchmark:
        "<results>/benchmarks/tables.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        top=config["evaluation"]["top"],
        extended=config["evaluation"]["extended"],
        markers=plan.markers,
        predictors=list(plan.predictors),
        methods=plan.entries,
        encoders=config["encoders"],
        training=plan.decisive_training,
        code=plan.code("tables"),
    message:
        "Average the scores into the tables"
    script:
        "../workflow_scripts/tables.py"


rule tables_of_samples:
    input:
        qc=collect("<results>/samples/{sample}/qc.json", sample=plan.samples),
    output:
        **table("samples", "Samples and warnings", "md"),
    log:
        "<results>/logs/tables_of_samples.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(1000),
    params:
        sheet=plan.sheet,
        code=plan.code("tables_of_samples"),
    message:
        "Sum up the samples and their warnings"
    script:
        "../workflow_scripts/tables_of_samples.py"


rule tables_of_external:
    input:
        facts=collect("<results>/external/{name}.csv", name=external.imports),
    output:
        **table("external", "Predictions by other tools", "md"),
    log:
        "<results>/logs/tables_of_external.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(1000),
    params:
        code=plan.code("tables_of_external"),
    message:
        "Sum up what of other tools' predictions was imported"
    script:
        "../workflow_scripts/tables_of_external.py"


rule comparisons:
    input:
        scores=ALL_SCORES,
    output:
        **table("comparisons", "Comparisons of predictors"),
        **table("intervals", "Intervals of the means"),
    log:
        "<results>/logs/comparisons.log",
    benchmark:
        "<results>/benchmarks/comparisons.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        top=config["evaluation"]["top"],
        draws=config["evaluation"]["bootstrap"],
        code=plan.code("comparisons"),
    message:
        "Compare the predictors pairwise"
    script:
        "../workflow_scripts/comparisons.py"


rule paper_vs_ours:
    input:
        scores=ALL_SCORES,
        published=collect(f"{BASE / 'resources' / 'paper'}/table{{number}}.csv", number=range(1, 6)),
        readings=str(BASE / "resources" / "paper" / "readings.csv"),
    output:
        csv="<results>/tables/paper_vs_ours.csv",
        markdown="<results>/tables/paper_vs_ours.md",
        html=report(
            "<results>/tables/paper_vs_ours.html",
            caption="../report/paper_vs_ours.rst",
            category="Paper against ours",
            labels={"table": "Paper against ours", "format": "page"},
        ),
    log:
        "<results>/logs/paper_vs_ours.log",
    benchmark:
        "<results>/benchmarks/paper_vs_ours.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        draws=config["evaluation"]["bootstrap"],
        cohorts=list(config["cohorts"]),
        code=plan.code("paper_vs_ours"),
    message:
        "Set the published numbers beside ours"
    script:
        "../workflow_scripts/paper_vs_ours.py"


rule costs:
    input:
        summaries=collect("<results>/models/{model}/summary.json", model=plan.models),
    output:
        **figure("costs", "<results>/figures/costs", "costs", "Training cost", form="figure"),
        csv=report(
            "<results>/tables/costs.csv",
            caption="../report/costs.rst",
            category="Training cost",
            labels={"form": "table"},
        ),
        jobs="<results>/tables/cost_jobs.csv",
    log:
        "<results>/logs/costs.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        models=list(plan.models.values()),
        # Below <results>/benchmarks; no input, as a run of an older workflow may lack them
        benchmarks=plan.timed_models,
        embeddings=plan.timed_embeddings,
        methods=list(plan.entries),
        controls=plan.trained_controls,
        code=plan.code("costs"),
    message:
        "Sum up and draw what training cost"
    script:
        "../workflow_scripts/costs.py"


# --- Figures ----------------------------------------------------------------------------------------------------------

# Figures of a cohort and protocol: caption, category
SECTION_FIGURES = {
    "boxplot": ("boxplot", "Fig. 2: PCC per gene", {"panels": "slides"}),
    "curves": ("curves", "Learning curves", {}),
    "neighbours": ("neighbours", "Number of retrieved spots", {}),
    "ceiling": ("ceiling", "Noise ceiling", {}),
}
FIGURES = "<results>/figures/{cohort}/{protocol}"


rule draw_section:
    input:
        scores=collect(
            "<results>/scores/{cohort}/{protocol}/{method}.parquet", method=plan.section_methods, allow_missing=True
        ),
        histories=collect(
            "<results>/models/{cohort}/{protocol}/{training}/history.tsv", training=plan.trainings, allow_missing=True
        ),
        sweeps=collect(
            "<results>/sweeps/{cohort}/{protocol}/{method}.parquet",
            method=[name for name in plan.methods_of_kind("retrieval") if name in plan.entries],
            allow_missing=True,
        ),
    output:
        **{
            key: file
            for name in plan.section_figures
            for caption, category, labels in [SECTION_FIGURES[name]]
            for key, file in figure(name, f"{FIGURES}/{name}", caption, category, **labels, **SECTION).items()
        },
    log:
        "<results>/logs/draw_section/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        top=config["evaluation"]["top"],
        drawn=plan.drawn_rivals,
        predictors=plan.predictor_kinds,
        trainings=plan.trainings,
        methods=list(plan.entries),
        top_k=sorted({one.k for one in plan.predictors.values() if one.kind == "retrieval"}),
        code=plan.code("draw_section"),
    message:
        "Draw scores and learning curves of {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/draw_section.py"


SLIDE = {**SECTION, "slide": "{sample}"}


rule draw_slide:
    input:
        scores=collect(
            "<results>/scores/{cohort}/{protocol}/{method}.parquet", method=plan.drawn_methods, allow_missing=True
        ),
        predictions=collect(f"{PREDICTIONS}/{{method}}", method=plan.drawn_methods, allow_missing=True),
        observed=OBSERVED,
        thumbnail="<results>/samples/{sample}/thumbnail.png",
        metadata="<data>/metadata/{sample}.json",
        qc="<results>/samples/{sample}/qc.json",
    output:
        **figure(
            "profiles",
            f"{FIGURES}/profiles_{{sample}}",
            "profiles",
            "Fig. 3: Predicted and true mean and variance",
            **SLIDE,
        ),
        **figure("genes", f"{FIGURES}/genes_{{sample}}", "genes", "Supplementary Figs. 4-6: PCC of each gene", **SLIDE),
        **figure(
            "correlation", f"{FIGURES}/correlation_{{sample}}", "correlation", "Fig. 4: Gene-gene correlation", **SLIDE
        ),
        **figure("maps", f"{FIGURES}/maps_{{sample}}", "map", "Figs. 5-7: Expression maps", **SLIDE),
    log:
        "<results>/logs/draw_slide/{cohort}/{protocol}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        files=plan.drawn_predictions,  # in these folders, one each
        drawn=plan.drawn_in_section,
        predictors=plan.predictor_kinds,
        genes=plan.drawn_genes,
        top=config["evaluation"]["top"],
        code=plan.code("draw_slide"),
    message:
        "Draw genes, correlations and expression maps of {wildcards.sample}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/draw_slide.py"


# All cohorts of each protocol, and the gap between the protocols where a cohort runs under both
rule draw_overview:
    input:
        scores=ALL_SCORES,
        comparisons="<results>/tables/comparisons.csv",
    output:
        **{
            key: file
            for protocol in plan.protocols
            for key, file in figure(
                f"overview_{protocol}",
                f"<results>/figures/overview_{protocol}",
                "overview",
                "Fig. 2: PCC per gene",
                panels="cohorts",
                cohort="all",
                protocol=protocol,
            ).items()
        },
        **(
            figure(
                "protocols", "<results>/figures/protocols", "protocols", "Paper against patient protocol", cohort="all"
            )
            if plan.compares_protocols
            else {}
        ),
    log:
        "<results>/logs/draw_overview.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        top=config["evaluation"]["top"],
        reference=config["evaluation"].get("reference"),
        cohorts=list(config["cohorts"]),
        drawn=plan.drawn_rivals,
        predictors=plan.predictor_kinds,
        protocols=plan.protocols,
        code=plan.code("draw_overview"),
    message:
        "Draw the PCC of all cohorts, and the gap between the protocols"
    script:
        "../workflow_scripts/draw_overview.py"


# --- Record -----------------------------------------------------------------------------------------------------------


rule provenance:
    input:
        tables=collect("<results>/tables/{name}", name=plan.tables),
        figures=collect("<results>/{name}", name=[*plan.figures, *structure.outputs, *predict.outputs, *bench.outputs]),
        fingerprints=collect("<results>/samples/{sample}/fingerprint.json", sample=plan.samples),
        downloads=plan.downloaded(plan.samples),
        summaries=collect("<results>/models/{model}/summary.json", model=plan.models)
        + collect("<results>/structure/{training}/summary.json", training=structure.trainings)
        + collect("<results>/models/{training}/summary.json", training=predict.trainings),
        slides=list(predict.files.values()),
        labels=list(structure.label_files.values()),
        external=list(external.imported.values()),
        bench_downloads=list(bench.manifests.values()),
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
        mem_mb=times_attempt(1000),
    params:
        samples=plan.samples,
        labelled=list(structure.label_files),
        imported=list(external.imported),
        slides=list(predict.files),
        bench_tasks=[f"hest_bench/{task}" for task in bench.manifests],
        snakemake=versions("snakemake")["snakemake"],
        code=plan.code("provenance"),
    message:
        "Record versions, inputs, hardware and time of the run"
    script:
        "../workflow_scripts/provenance.py"
