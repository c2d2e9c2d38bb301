# Figures, from scores, sweeps, predictions, training histories and summaries alone.

FIGURE = "<results>/figures/{cohort}/{protocol}"


rule overview:
    input:
        scores=protocol_scores,
        comparisons="<results>/tables/comparisons.csv",
    output:
        pdf="<results>/figures/overview_{protocol}.pdf",
        png=report(
            "<results>/figures/overview_{protocol}.png",
            caption="../report/overview.rst",
            category="Fig. 2: PCC per gene",
            labels={"panels": "cohorts", "cohort": "all", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/overview/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        reference=config["evaluation"].get("reference"),
        cohorts=list(config["cohorts"]),
        drawn=drawn_rivals(),
        predictors=predictor_kinds(),
        code=code_version("overview"),
    message:
        "Draw the PCC of all cohorts as box plots, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/overview.py"


rule boxplot:
    input:
        scores=cohort_scores,
    output:
        pdf=f"{FIGURE}/boxplot.pdf",
        png=report(
            f"{FIGURE}/boxplot.png",
            caption="../report/boxplot.rst",
            category="Fig. 2: PCC per gene",
            labels={"panels": "slides", "cohort": "{cohort}", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/boxplot/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        predictors=predictor_kinds(),
        code=code_version("boxplot"),
    message:
        "Draw the PCC of {wildcards.cohort} as box plots, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/boxplot.py"


rule draw_genes:
    input:
        scores=drawn_scores,
    output:
        profiles_pdf=f"{FIGURE}/profiles_{{sample}}.pdf",
        profiles_png=report(
            f"{FIGURE}/profiles_{{sample}}.png",
            caption="../report/profiles.rst",
            category="Fig. 3: Predicted and true mean and variance",
            labels={
                "cohort": "{cohort}",
                "protocol": "{protocol}",
                "slide": "{sample}",
            },
        ),
        genes_pdf=f"{FIGURE}/genes_{{sample}}.pdf",
        genes_png=report(
            f"{FIGURE}/genes_{{sample}}.png",
            caption="../report/genes.rst",
            category="Supplementary Figs. 4-6: PCC of each gene",
            labels={
                "cohort": "{cohort}",
                "protocol": "{protocol}",
                "slide": "{sample}",
            },
        ),
    log:
        "<results>/logs/draw_genes/{cohort}/{protocol}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        drawn=drawn_predictors(),
        predictors=predictor_kinds(),
        code=code_version("draw_genes"),
    message:
        "Draw mean, variance and PCC of the genes of {wildcards.sample}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/draw_genes.py"


rule draw_slide:
    input:
        predictions=slide_predictions,
        thumbnail="<results>/samples/{sample}/thumbnail.png",
        metadata="<data>/metadata/{sample}.json",
        qc="<results>/samples/{sample}/qc.json",
    output:
        correlation_pdf=f"{FIGURE}/correlation_{{sample}}.pdf",
        correlation_png=report(
            f"{FIGURE}/correlation_{{sample}}.png",
            caption="../report/correlation.rst",
            category="Fig. 4: Gene-gene correlation",
            labels={
                "cohort": "{cohort}",
                "protocol": "{protocol}",
                "slide": "{sample}",
            },
        ),
        maps_pdf=f"{FIGURE}/maps_{{sample}}.pdf",
        maps_png=report(
            f"{FIGURE}/maps_{{sample}}.png",
            caption="../report/map.rst",
            category="Figs. 5-7: Expression maps",
            labels={
                "cohort": "{cohort}",
                "protocol": "{protocol}",
                "slide": "{sample}",
            },
        ),
    log:
        "<results>/logs/draw_slide/{cohort}/{protocol}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        predictors=drawn_predictors(),
        genes=drawn_genes,
        top=config["evaluation"]["top"],
        code=code_version("draw_slide"),
    message:
        "Draw gene correlations and expression maps of {wildcards.sample}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/draw_slide.py"


rule neighbours:
    input:
        sweeps=cohort_sweeps,
    output:
        pdf=f"{FIGURE}/neighbours.pdf",
        png=report(
            f"{FIGURE}/neighbours.png",
            caption="../report/neighbours.rst",
            category="Number of retrieved spots",
            labels={"cohort": "{cohort}", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/neighbours/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        top=config["evaluation"]["top"],
        configured=configured_neighbours(),
        methods=list(config["methods"]),
        code=code_version("neighbours"),
    message:
        "Draw the PCC of {wildcards.cohort} against K, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/neighbours.py"


rule protocols:
    input:
        scores=scores_of_both_protocols(),
    output:
        pdf="<results>/figures/protocols.pdf",
        png=report(
            "<results>/figures/protocols.png",
            caption="../report/protocols.rst",
            category="Paper against patient protocol",
            labels={"cohort": "all"},
        ),
    log:
        "<results>/logs/protocols.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        cohorts=list(config["cohorts"]),
        drawn=drawn_rivals(),
        predictors=predictor_kinds(),
        code=code_version("protocols"),
    message:
        "Draw what the protocols differ by"
    script:
        "../workflow_scripts/protocols.py"


rule ceiling:
    input:
        scores=ceiling_scores,
    output:
        pdf=f"{FIGURE}/ceiling.pdf",
        png=report(
            f"{FIGURE}/ceiling.png",
            caption="../report/ceiling.rst",
            category="Noise ceiling",
            labels={"cohort": "{cohort}", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/ceiling/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        drawn=drawn_rivals(),
        predictors=predictor_kinds(),
        code=code_version("ceiling"),
    message:
        "Draw the PCC of {wildcards.cohort} against the noise ceiling, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/ceiling.py"


rule curves:
    input:
        histories=cohort_histories,
    output:
        pdf=f"{FIGURE}/curves.pdf",
        png=report(
            f"{FIGURE}/curves.png",
            caption="../report/curves.rst",
            category="Learning curves",
            labels={"cohort": "{cohort}", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/curves/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        labels=history_labels,
        methods=list(config["methods"]),
        code=code_version("curves"),
    message:
        "Draw the learning curves of {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/curves.py"


rule costs:
    input:
        summaries=model_summaries(),
    output:
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
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
    params:
        methods=model_methods(),
        benchmarks=model_benchmarks(),
        embeddings=embedding_benchmarks(),
        code=code_version("costs"),
    message:
        "Sum up what training cost"
    script:
        "../workflow_scripts/costs.py"


rule draw_costs:
    input:
        jobs="<results>/tables/cost_jobs.csv",
    output:
        pdf="<results>/figures/costs.pdf",
        png=report(
            "<results>/figures/costs.png",
            caption="../report/costs.rst",
            category="Training cost",
            labels={"form": "figure"},
        ),
    log:
        "<results>/logs/draw_costs.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
    params:
        methods=list(config["methods"]),
        code=code_version("draw_costs"),
    message:
        "Draw what training cost"
    script:
        "../workflow_scripts/draw_costs.py"
