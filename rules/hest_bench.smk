# The HEST benchmark under its own protocol: download, targets, embedded patches, scores, table.

BENCH = "<results>/hest_bench/{task}"


if bench.downloads:
    if "downloads" not in workflow.global_resources:
        workflow.register_resource("downloads", 4)

    # `update`: Snakemake would delete what is already there
    rule fetch_bench_task:
        output:
            manifest=update(bench.manifest),
        log:
            "<results>/logs/fetch_bench_task/{task}.log",
        benchmark:
            "<results>/benchmarks/fetch_bench_task/{task}.tsv"
        wildcard_constraints:
            task=one_of(bench.tasks),
        retries: 0  # the job itself asks again where that may help
        localrule: True  # a cluster's compute nodes often have no way out
        conda:
            "../envs/data.yaml"
        resources:
            mem_mb=2000,
            downloads=1,
        params:
            repository=bench.settings["repo"],
            revision=bench.settings["revision"],
            root=bench.root,
        message:
            "Download {wildcards.task} of the HEST benchmark"
        script:
            "../workflow_scripts/fetch_bench_task.py"


rule assemble_bench_task:
    input:
        files=bench.task_files,
    output:
        targets=f"{BENCH}/targets.h5",
        facts=f"{BENCH}/facts.json",
    log:
        "<results>/logs/assemble_bench_task/{task}.log",
    benchmark:
        "<results>/benchmarks/assemble_bench_task/{task}.tsv"
    wildcard_constraints:
        task=one_of(bench.tasks),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        root=bench.root,
        code=plan.code("assemble_bench_task"),
    message:
        "Join counts and patches of {wildcards.task}"
    script:
        "../workflow_scripts/assemble_bench_task.py"


rule embed_bench_patches:
    input:
        files=bench.task_files,
        targets=f"{BENCH}/targets.h5",  # so that a malformed task ends before the long part
        encoder_weights=plan.encoder_weights,
    output:
        embeddings=directory(f"{BENCH}/{{encoder}}/embeddings"),
    log:
        "<results>/logs/embed_bench_patches/{task}/{encoder}.log",
    benchmark:
        "<results>/benchmarks/embed_bench_patches/{task}/{encoder}.tsv"
    wildcard_constraints:
        task=one_of(bench.tasks),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        runtime=times_attempt(480),
        gpu=plan.gpus,
    params:
        root=bench.root,
        encoder=lookup("encoders/{encoder}/timm", within=config),
        pretrained=lookup("encoders/{encoder}/pretrained", within=config),
        checkpoint=lookup("encoders/{encoder}/checkpoint", within=config),
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=plan.code("embed_bench_patches"),
    message:
        "Embed the patches of {wildcards.task} with {wildcards.encoder}"
    script:
        "../workflow_scripts/embed_bench_patches.py"


rule score_bench:
    input:
        targets=f"{BENCH}/targets.h5",
        embeddings=f"{BENCH}/{{encoder}}/embeddings",
    output:
        scores=f"{BENCH}/{{encoder}}/scores.parquet",
    log:
        "<results>/logs/score_bench/{task}/{encoder}.log",
    benchmark:
        "<results>/benchmarks/score_bench/{task}/{encoder}.tsv"
    wildcard_constraints:
        task=one_of(bench.tasks),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(16000),
    params:
        code=plan.code("score_bench"),
    message:
        "Score {wildcards.encoder} on {wildcards.task}"
    script:
        "../workflow_scripts/score_bench.py"


rule tabulate_hest_bench:
    input:
        scores=collect("<results>/hest_bench/{run}/scores.parquet", run=bench.runs),
        facts=collect(f"{BENCH}/facts.json", task=bench.tasks),
        published=str(BASE / "resources" / "hest_bench" / "published.csv"),
        readings=str(BASE / "resources" / "hest_bench" / "readings.csv"),
    output:
        **table("hest_bench", "HEST benchmark", "md"),
    log:
        "<results>/logs/tabulate_hest_bench.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        tasks=bench.tasks,
        runs=bench.runs,
        code=plan.code("tabulate_hest_bench"),
    message:
        "Set our scores beside the published ones of the HEST benchmark"
    script:
        "../workflow_scripts/tabulate_hest_bench.py"
