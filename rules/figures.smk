# Figures, from scores, predictions and training histories alone.

# One predictor stands for its method where a panel each would be too many: the first K of its entry
DRAWN = list(
    {predictor.method: name for name, predictor in reversed(PREDICTORS.items()) if predictor.kind != "control"}.values()
)[::-1]
FIGURE = "<results>/figures/{cohort}/{protocol}"
TRAINED = [name for name, settings in config["methods"].items() if REGISTRY[settings["model"]].kind == "retrieval"]


def cohort_scores(wildcards):
    return [f"<results>/scores/{wildcards.cohort}/{wildcards.protocol}/{name}.parquet" for name in PREDICTORS]


def slide_predictions(wildcards):
    """Predictions of one test slide by each drawn predictor, first seed."""
    return [
        path
        for name in DRAWN
        for path in predictions(wildcards.cohort, wildcards.protocol, name, first_seed_only=True)
        if path.endswith(f"/{wildcards.sample}.h5ad")
    ]


def cohort_histories(wildcards):
    return [
        f"<results>/models/{wildcards.cohort}/{wildcards.protocol}/{label}/history.tsv"
        for label in history_labels(wildcards)
    ]


def history_labels(wildcards):
    """Trainings of one cohort and protocol as `method/fold0/seed0`, which is also where they lie."""
    return [
        f"{method}/fold{fold}/seed{seed}"
        for method in TRAINED
        for cohort, protocol, fold in FOLDS
        if (cohort, protocol) == (wildcards.cohort, wildcards.protocol)
        for seed in configuration.seeds(config, method)
    ]


def drawn_genes(wildcards):
    """Genes to draw over the slides, first those that the configuration names."""
    settings = config["cohorts"][wildcards.cohort]
    return settings["genes"] or settings["markers"][:4]


def figures():
    """Every figure of the run."""
    targets = []
    for cohort, protocol in cohort_protocols():
        names = ["boxplot", *(["curves"] if TRAINED else [])]
        names += [
            f"{kind}_{sample}" for sample in SAMPLES if COHORT_OF[sample] == cohort for kind in ("correlation", "maps")
        ]
        targets += [f"<results>/figures/{cohort}/{protocol}/{name}.png" for name in names]
    return targets


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
    params:
        top=config["evaluation"]["top"],
        predictors=list(PREDICTORS),
        methods=list(config["methods"]),
        code=code_version("figures/boxplot", "figures/style", "tables", "metrics"),
    message:
        "Draw the PCC of {wildcards.cohort} as box plots, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/boxplot.py"


rule draw_slide:
    input:
        predictions=slide_predictions,
        thumbnail="<results>/samples/{sample}/thumbnail.png",
        metadata="<data>/metadata/{sample}.json",
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
    params:
        predictors=DRAWN,
        genes=drawn_genes,
        top=config["evaluation"]["top"],
        code=code_version("figures/correlation", "figures/maps", "figures/style", "metrics"),
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
    params:
        labels=history_labels,
        methods=list(config["methods"]),
        code=code_version("figures/curves", "figures/style", "tables"),
    message:
        "Draw the learning curves of {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/curves.py"
