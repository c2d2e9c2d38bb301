# Scores per gene, and the tables made of them.


rule score:
    input:
        predictions=predictor_files,
    output:
        scores="<results>/scores/{cohort}/{protocol}/{predictor}.parquet",
    log:
        "<results>/logs/score/{cohort}/{protocol}/{predictor}.log",
    wildcard_constraints:
        predictor=one_of(PREDICTORS),
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        code=code_version("metrics"),
    message:
        "Score {wildcards.predictor} on {wildcards.cohort}, {wildcards.protocol} protocol"
    script:
        "../workflow_scripts/score.py"


rule table1:
    input:
        scores=all_scores(),
    output:
        csv=report(
            "<results>/tables/table1.csv",
            caption="../report/table1.rst",
            category="Tables",
            labels={"table": "1", "format": "CSV"},
        ),
        markdown="<results>/tables/table1.md",
    log:
        "<results>/logs/table1.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        top=config["evaluation"]["top"],
        cohorts={name: settings["markers"] for name, settings in config["cohorts"].items()},
        predictors=list(PREDICTORS),
        code=code_version("averages", "tables", "metrics"),
    message:
        "Average the scores into Table 1"
    script:
        "../workflow_scripts/table1.py"
