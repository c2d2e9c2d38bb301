# Structure of a tissue: joint embeddings of its spots, domains in them, variable genes, organisation.

STRUCTURE = "<results>/structure/{cohort}"
SPACE = f"{STRUCTURE}/spaces/{{space}}/seed{{seed}}/{{sample}}.h5"


# --- Embeddings by trained methods ---------------------------------------------------------------------------------


rule assemble_structure:
    input:
        counts=collect("<results>/samples/{sample}/counts.h5ad", sample=structure.scope_samples),
        patches=structure.scope_patches,
    output:
        fold=f"{STRUCTURE}/inputs/{{scope}}.h5",
    log:
        "<results>/logs/assemble_structure/{cohort}/{scope}.log",
    benchmark:
        "<results>/benchmarks/assemble_structure/{cohort}/{scope}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(6000),
    params:
        samples=structure.scope_samples,
        patients=lambda wildcards: {sample: plan.patients[sample] for sample in structure.scope_samples(wildcards)},
        validation_fraction=config["validation_fraction"],
        code=plan.code("assemble_structure"),
    message:
        "Scale the expression of {wildcards.scope} ({wildcards.cohort}) for clustering methods"
    script:
        "../workflow_scripts/assemble_structure.py"


use rule train as train_structure with:
    input:
        fold=f"{STRUCTURE}/inputs/{{scope}}.h5",
        patches=structure.scope_patches,
        embeddings=[],
        encoder_weights=plan.encoder_weights,
    output:
        weights=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/weights.safetensors",
        model=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/model.json",
        history=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/history.tsv",
        summary=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/summary.json",
    log:
        "<results>/logs/train_structure/{cohort}/{method}/{scope}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_structure/{cohort}/{method}/{scope}/seed{seed}.tsv"
    wildcard_constraints:
        method=one_of(plan.methods_of_kind("clustering")),
    params:
        samples=structure.scope_samples,
        embedded=[],
        model=lookup("methods/{method}/model", within=config),
        options=lookup("methods/{method}/options", within=config),
        preparation={},
        training=plan.training,
        state=f"{plan.results}/state/structure/{{cohort}}/{{method}}/{{scope}}/seed{{seed}}",
        code=plan.code("train"),
    message:
        "Train {wildcards.method} on {wildcards.scope} ({wildcards.cohort}), seed {wildcards.seed}"


# A retrieval method's model and fold lie in <results>/models and <results>/folds, where the slide is tested; a clustering
# method's in <results>/structure
rule embed_joint:
    input:
        fold=structure.fold,
        patches=plan.sample_patches,
        model=structure.model_files,
    output:
        space=SPACE,
    log:
        "<results>/logs/embed_joint/{cohort}/{space}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/embed_joint/{cohort}/{space}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        space=one_of(structure.spaces_of_kind("clustering", "retrieval")),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        gpu=plan.gpus,
    params:
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=plan.code("embed_joint"),
    message:
        "Embed image and expression of {wildcards.sample} with {wildcards.space}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/embed_joint.py"


# --- Baselines -----------------------------------------------------------------------------------------------------


# All baselines of a slide: they involve no chance, so the first seed alone
rule derive_spaces:
    input:
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        patches=plan.sample_patches if plan.has_images else [],
        features=(
            f"<results>/embeddings/{structure.settings.get('encoder')}/{{sample}}.h5"
            if structure.needs_embedding
            else []
        ),
    output:
        [
            SPACE.format(space=space, seed=config["seeds"][0], cohort="{cohort}", sample="{sample}")
            for space in structure.spaces_of_kind("baseline")
        ],
    log:
        "<results>/logs/derive_spaces/{cohort}/{sample}.log",
    benchmark:
        "<results>/benchmarks/derive_spaces/{cohort}/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        spaces=structure.spaces_of_kind("baseline"),
        seed=config["seeds"][0],
        code=plan.code("derive_spaces"),
    message:
        "Embed the spots of {wildcards.sample} by the baselines"
    script:
        "../workflow_scripts/derive_spaces.py"


# --- Domains -------------------------------------------------------------------------------------------------------


rule find_domains:
    input:
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        spaces=structure.slide_spaces,
        labels=structure.labels_of,
    output:
        domains=f"{STRUCTURE}/{{sample}}/domains.parquet",
        scores=f"{STRUCTURE}/{{sample}}/domain_scores.tsv",
    log:
        "<results>/logs/find_domains/{cohort}/{sample}.log",
    benchmark:
        "<results>/benchmarks/find_domains/{cohort}/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        runs=structure.runs,
        column=structure.labels.get("column"),
        unknown=structure.labels.get("unknown", []),
        n_domains=structure.settings["domains"],
        code=plan.code("find_domains"),
    message:
        "Find the domains of {wildcards.sample} in every space"
    script:
        "../workflow_scripts/find_domains.py"


# --- Variable genes ------------------------------------------------------------------------------------------------


rule find_variable_genes:
    input:
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        domains=f"{STRUCTURE}/{{sample}}/domains.parquet",
    output:
        spatial=f"{STRUCTURE}/{{sample}}/variable_genes.tsv",
        of_domains=f"{STRUCTURE}/{{sample}}/domain_genes.tsv",
        agreement=f"{STRUCTURE}/{{sample}}/agreement.json",
    log:
        "<results>/logs/find_variable_genes/{cohort}/{sample}.log",
    benchmark:
        "<results>/benchmarks/find_variable_genes/{cohort}/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        space=structure.spaces[0],
        seed=config["seeds"][0],
        code=plan.code("find_variable_genes"),
    message:
        "Find the genes that vary over {wildcards.sample} and those that separate its domains"
    script:
        "../workflow_scripts/find_variable_genes.py"


# --- Organisation --------------------------------------------------------------------------------------------------


rule organise:
    input:
        spaces=structure.reference_spaces,
    output:
        umap=f"{STRUCTURE}/{{sample}}/umap.tsv",
    log:
        "<results>/logs/organise/{cohort}/{sample}.log",
    benchmark:
        "<results>/benchmarks/organise/{cohort}/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        samples=structure.laid_out,
        code=plan.code("organise"),
    message:
        "Lay out the spots of {wildcards.sample} in the plane"
    script:
        "../workflow_scripts/organise.py"


use rule organise as organise_cohort with:
    output:
        umap=f"{STRUCTURE}/umap.tsv",
    log:
        "<results>/logs/organise_cohort/{cohort}.log",
    benchmark:
        "<results>/benchmarks/organise_cohort/{cohort}.tsv"
    resources:
        mem_mb=times_attempt(16000),
    message:
        "Lay out the spots of all slides of {wildcards.cohort} in one plane"


# --- Tables, figures and pages -------------------------------------------------------------------------------------

FIGURES_OF_STRUCTURE = "<results>/figures/structure/{cohort}"


rule tables_of_structure:
    input:
        scores=collect("<results>/structure/{slide}/domain_scores.tsv", slide=structure.slide_names),
        spaces=structure.first_spaces,
        agreements=collect("<results>/structure/{slide}/agreement.json", slide=structure.slide_names),
        genes=collect("<results>/structure/{slide}/variable_genes.tsv", slide=structure.slide_names),
    output:
        domains=report(
            "<results>/tables/domains.csv",
            caption="../report/domains.rst",
            category="Tissue structure",
            labels={"shown": "scores of the domains", "cohort": "all", "slide": "all"},
        ),
        domains_md="<results>/tables/domains.md",
        domains_tex="<results>/tables/domains.tex",
        variable_genes=report(
            "<results>/tables/variable_genes.csv",
            caption="../report/variable_genes.rst",
            category="Tissue structure",
            labels={"shown": "variable genes, table", "cohort": "all", "slide": "all"},
        ),
        variable_genes_md="<results>/tables/variable_genes.md",
    log:
        "<results>/logs/tables_of_structure.log",
    benchmark:
        "<results>/benchmarks/tables_of_structure.tsv"
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(2000),
    params:
        cohorts=structure.cohorts,
        kinds=structure.kinds,
        n_domains=structure.settings["domains"],
        note=structure.labels.get("note", ""),
        slides=[name.split("/") for name in structure.slide_names],
        code=plan.code("tables_of_structure"),
    message:
        "Average the scores of domains, sum up the variable genes"
    script:
        "../workflow_scripts/tables_of_structure.py"


rule draw_structure:
    input:
        domains=f"{STRUCTURE}/{{sample}}/domains.parquet",
        scores=f"{STRUCTURE}/{{sample}}/domain_scores.tsv",
        genes=f"{STRUCTURE}/{{sample}}/variable_genes.tsv",
        umap=f"{STRUCTURE}/{{sample}}/umap.tsv",
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        qc="<results>/samples/{sample}/qc.json",
        thumbnail="<results>/samples/{sample}/thumbnail.png" if plan.has_images else [],
        metadata=plan.metadata,
        labels=structure.labels_of_cohort,
        lognorms=collect("<results>/samples/{sample}/lognorm.h5ad", sample=structure.cohort_slides),
    output:
        **figure(
            "domains",
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_domains",
            "domain_map",
            "Tissue structure",
            shown="domains",
            cohort="{cohort}",
            slide="{sample}",
        ),
        **figure(
            "umap",
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_umap",
            "umap",
            "Tissue structure",
            shown="UMAP",
            cohort="{cohort}",
            slide="{sample}",
        ),
        **figure(
            "genes",
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_variable_genes",
            "variable_gene_maps",
            "Tissue structure",
            shown="variable genes",
            cohort="{cohort}",
            slide="{sample}",
        ),
    log:
        "<results>/logs/draw_structure/{cohort}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        spaces=structure.spaces,
        seed=config["seeds"][0],
        column=structure.labels.get("column"),
        unknown=structure.labels.get("unknown", []),
        slides=structure.cohort_slides,
        genes=structure.drawn_genes,
        code=plan.code("draw_structure"),
    message:
        "Draw domains, UMAP and variable genes of {wildcards.sample}"
    script:
        "../workflow_scripts/draw_structure.py"


rule draw_cohort_umap:
    input:
        umap=f"{STRUCTURE}/umap.tsv",
        domains=collect(f"{STRUCTURE}/{{sample}}/domains.parquet", sample=structure.cohort_slides, allow_missing=True),
        labels=structure.labels_of_cohort,
        lognorms=collect("<results>/samples/{sample}/lognorm.h5ad", sample=structure.cohort_slides),
    output:
        **figure(
            "umap",
            f"{FIGURES_OF_STRUCTURE}/umap",
            "umap",
            "Tissue structure",
            shown="UMAP",
            cohort="{cohort}",
            slide="all",
        ),
    log:
        "<results>/logs/draw_cohort_umap/{cohort}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(8000),
    params:
        space=structure.spaces[0],
        seed=config["seeds"][0],
        column=structure.labels.get("column"),
        unknown=structure.labels.get("unknown", []),
        slides=structure.cohort_slides,
        code=plan.code("draw_cohort_umap"),
    message:
        "Draw the slides of {wildcards.cohort} in one plane"
    script:
        "../workflow_scripts/draw_cohort_umap.py"


rule structure_page:
    input:
        domains=f"{STRUCTURE}/{{sample}}/domains.parquet",
        scores=f"{STRUCTURE}/{{sample}}/domain_scores.tsv",
        genes=f"{STRUCTURE}/{{sample}}/variable_genes.tsv",
        domain_genes=f"{STRUCTURE}/{{sample}}/domain_genes.tsv",
        agreement=f"{STRUCTURE}/{{sample}}/agreement.json",
        spaces=structure.slide_spaces,
        figures=[f"{FIGURES_OF_STRUCTURE}/{{sample}}_{name}.png" for name in ("domains", "umap", "variable_genes")],
        labels=structure.labels_of_cohort,
        lognorms=collect("<results>/samples/{sample}/lognorm.h5ad", sample=structure.cohort_slides),
    output:
        page=report(
            f"{STRUCTURE}/{{sample}}/page.html",
            caption="../report/structure_page.rst",
            category="Tissue structure",
            labels={"shown": "the slide on one page", "cohort": "{cohort}", "slide": "{sample}"},
        ),
    log:
        "<results>/logs/structure_page/{cohort}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        kinds=structure.kinds,
        seed=config["seeds"][0],
        column=structure.labels.get("column"),
        unknown=structure.labels.get("unknown", []),
        slides=structure.cohort_slides,
        n_domains=structure.settings["domains"],
        note=structure.labels.get("note", ""),
        code=plan.code("structure_page"),
    message:
        "Write the page of {wildcards.sample}"
    script:
        "../workflow_scripts/structure_page.py"
