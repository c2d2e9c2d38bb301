# Figures, from scores, predictions and training histories alone.

FIGURE = "<results>/figures/{cohort}/{protocol}"


rule boxplot:
    input:
        scores=cohort_scores,
    output:
        pdf=f"{FIGURE}/boxplot.pdf",
        png=report(
            f"{FIGURE}/boxplot.png",
            caption="../report/boxplot.rst",
            category="PCC per gene",
            labels={"cohort": "{cohort}", "protocol": "{protocol}"},
        ),
    log:
        "<results>/logs/boxplot/{cohort}/{protocol}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        predictors=list(PREDICTORS),
        methods=list(config["methods"]),
        code=code_version("averages", "figures/boxplot", "figures/style", "tables", "metrics"),
    message:
        "Draw the PCC of {wildcards.cohort} as box plots, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/boxplot.py"


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
            category="Gene-gene correlation",
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
            category="Expression maps",
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
        code=code_version("figures/correlation", "figures/maps", "figures/style", "metrics", "hest"),
    message:
        "Draw gene correlations and expression maps of {wildcards.sample}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/draw_slide.py"


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
        code=code_version("figures/curves", "figures/style", "tables"),
    message:
        "Draw the learning curves of {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/curves.py"
