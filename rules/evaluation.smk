# Scores per gene and per slide, and the tables made of them.


rule score:
    input:
        predictions=predictor_files,
    output:
        scores="<results>/scores/{cohort}/{protocol}/{predictor}.parquet",
        slide_scores="<results>/slide_scores/{cohort}/{protocol}/{predictor}.parquet",
    log:
        "<results>/logs/score/{cohort}/{protocol}/{predictor}.log",
    benchmark:
        "<results>/benchmarks/score/{cohort}/{protocol}/{predictor}.tsv"
    wildcard_constraints:
        predictor=one_of(PREDICTORS),
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        top=config["evaluation"]["top"],
        code=code_version("score"),
    message:
        "Score {wildcards.predictor} on {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/score.py"


rule tables:
    input:
        scores=all_scores(),
        markers=marker_reports(),
    output:
        **table_files(),
    log:
        "<results>/logs/tables.log",
    benchmark:
        "<results>/benchmarks/tables.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        top=config["evaluation"]["top"],
        extended=config["evaluation"]["extended"],
        markers={name: settings["markers"] for name, settings in config["cohorts"].items()},
        predictors=list(PREDICTORS),
        methods=config["methods"],
        encoders=config["encoders"],
        training=shared_training(),
        code=code_version("tables"),
    message:
        "Average the scores into the tables"
    script:
        "../workflow_scripts/tables.py"


rule measures:
    input:
        scores=all_scores(),
        slide_scores=all_slide_scores(),
    output:
        csv=report(
            "<results>/tables/measures.csv",
            caption="../report/measures.rst",
            category="Tables",
            labels={"table": "Further measures", "format": "CSV"},
        ),
        markdown="<results>/tables/measures.md",
    log:
        "<results>/logs/measures.log",
    benchmark:
        "<results>/benchmarks/measures.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        top=config["evaluation"]["top"],
        cohorts=list(config["cohorts"]),
        predictors=list(PREDICTORS),
        code=code_version("measures"),
    message:
        "Average the further measures"
    script:
        "../workflow_scripts/measures.py"


rule comparisons:
    input:
        scores=all_scores(),
    output:
        comparisons=report(
            "<results>/tables/comparisons.csv",
            caption="../report/comparisons.rst",
            category="Tables",
            labels={"table": "Comparisons of predictors", "format": "CSV"},
        ),
        intervals=report(
            "<results>/tables/intervals.csv",
            caption="../report/intervals.rst",
            category="Tables",
            labels={"table": "Intervals of the means", "format": "CSV"},
        ),
    log:
        "<results>/logs/comparisons.log",
    benchmark:
        "<results>/benchmarks/comparisons.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        top=config["evaluation"]["top"],
        draws=config["evaluation"]["bootstrap"],
        code=code_version("comparisons"),
    message:
        "Compare the predictors pairwise"
    script:
        "../workflow_scripts/comparisons.py"


rule paper_vs_ours:
    input:
        scores=all_scores(),
        published=published_tables(),
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
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        draws=config["evaluation"]["bootstrap"],
        cohorts=list(config["cohorts"]),
        code=code_version("paper_vs_ours"),
    message:
        "Set the published numbers beside ours"
    script:
        "../workflow_scripts/paper_vs_ours.py"
