# Structure of a tissue: joint embeddings of its spots, domains in them, variable genes, organisation.

SPACE = f"{STRUCTURE}/spaces/{{space}}/seed{{seed}}/{{sample}}.h5"


# --- Embeddings by trained methods ---------------------------------------------------------------------------------


rule assemble_structure:
    input:
        counts=scope_counts,
        patches=scope_patches,
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
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
    params:
        samples=scope_samples,
        patients=scope_patients,
        validation_fraction=config["validation_fraction"],
        code=code_version("assemble_structure"),
    message:
        "Scale the expression of {wildcards.scope} ({wildcards.cohort}) for clustering methods"
    script:
        "../workflow_scripts/assemble_structure.py"


rule train_structure:
    input:
        fold=f"{STRUCTURE}/inputs/{{scope}}.h5",
        patches=scope_patches,
        embeddings=[],
        checkpoint=method_checkpoint,
    output:
        weights=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/weights.safetensors",
        history=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/history.tsv",
        summary=f"{STRUCTURE}/models/{{method}}/{{scope}}/seed{{seed}}/summary.json",
    log:
        "<results>/logs/train_structure/{cohort}/{method}/{scope}/seed{seed}.log",
    benchmark:
        "<results>/benchmarks/train_structure/{cohort}/{method}/{scope}/seed{seed}.tsv"
    wildcard_constraints:
        method=methods_of_kind("clustering"),
    priority: TRAINING
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 32000 * attempt,
        runtime=lambda wildcards, attempt: 480 * attempt,
        gpu=GPU,
    params:
        samples=scope_samples,
        embedded=[],
        model=model_name,
        options=model_options,
        training=training_options,
        state=f"{RESULTS}/state/structure/{{cohort}}/{{method}}/{{scope}}/seed{{seed}}",
        code=method_code("train"),
    message:
        "Train {wildcards.method} on {wildcards.scope} ({wildcards.cohort}), seed {wildcards.seed}"
    script:
        "../workflow_scripts/train.py"


rule embed_joint:
    input:
        fold=space_fold,
        patches=sample_patches,
        weights=space_weights,
        summary=space_summary,
    output:
        space=SPACE,
    log:
        "<results>/logs/embed_joint/{cohort}/{space}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/embed_joint/{cohort}/{space}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        space=one_of(structure_spaces("clustering", "retrieval")),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        gpu=GPU,
    params:
        model=model_name,
        options=model_options,
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=method_code("embed_joint"),
    message:
        "Embed image and expression of {wildcards.sample} with {wildcards.space}, seed {wildcards.seed}"
    script:
        "../workflow_scripts/embed_joint.py"


# --- Baselines -----------------------------------------------------------------------------------------------------


rule derive_space:
    input:
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        patches=structure_patches,
        features=structure_embedding,
    output:
        space=SPACE,
    log:
        "<results>/logs/derive_space/{cohort}/{space}/seed{seed}/{sample}.log",
    benchmark:
        "<results>/benchmarks/derive_space/{cohort}/{space}/seed{seed}/{sample}.tsv"
    wildcard_constraints:
        space=one_of(structure_spaces("baseline")),
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        code=code_version("derive_space"),
    message:
        "Embed the spots of {wildcards.sample} by the baseline {wildcards.space}"
    script:
        "../workflow_scripts/derive_space.py"


# --- Domains -------------------------------------------------------------------------------------------------------


rule find_domains:
    input:
        lognorm="<results>/samples/{sample}/lognorm.h5ad",
        spaces=space_files,
        labels=labels_of_sample,
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
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        runs=space_runs(),
        column=label_column(),
        unknown=unknown_labels(),
        n_domains=STRUCTURE_SETTINGS["domains"],
        code=code_version("find_domains"),
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
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        space=structure_spaces()[0],
        seed=config["seeds"][0],
        code=code_version("find_variable_genes"),
    message:
        "Find the genes that vary over {wildcards.sample} and those that separate its domains"
    script:
        "../workflow_scripts/find_variable_genes.py"


# --- Organisation --------------------------------------------------------------------------------------------------


rule organise:
    input:
        spaces=reference_space_file,
    output:
        umap=f"{STRUCTURE}/{{sample}}/umap.tsv",
    log:
        "<results>/logs/organise/{cohort}/{sample}.log",
    benchmark:
        "<results>/benchmarks/organise/{cohort}/{sample}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        samples=own_sample,
        code=code_version("organise"),
    message:
        "Lay out the spots of {wildcards.sample} in the plane"
    script:
        "../workflow_scripts/organise.py"


rule organise_cohort:
    input:
        spaces=reference_space_files,
    output:
        umap=f"{STRUCTURE}/umap.tsv",
    log:
        "<results>/logs/organise_cohort/{cohort}.log",
    benchmark:
        "<results>/benchmarks/organise_cohort/{cohort}.tsv"
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
    params:
        samples=cohort_slides,
        code=code_version("organise"),
    message:
        "Lay out the spots of all slides of {wildcards.cohort} in one plane"
    script:
        "../workflow_scripts/organise.py"


# --- Tables, figures and pages -------------------------------------------------------------------------------------

FIGURES_OF_STRUCTURE = "<results>/figures/structure/{cohort}"


rule tables_of_structure:
    input:
        scores=of_structure("domain_scores.tsv"),
        spaces=first_space_files(),
        agreements=of_structure("agreement.json"),
        genes=of_structure("variable_genes.tsv"),
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
        mem_mb=lambda wildcards, attempt: 2000 * attempt,
    params:
        cohorts=structure_cohorts(),
        kinds=space_kinds(),
        n_domains=STRUCTURE_SETTINGS["domains"],
        note=label_note(),
        slides=[[COHORT_OF[sample], sample] for sample in structure_slides()],
        code=code_version("tables_of_structure"),
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
        thumbnail=picture_of_slide,
        metadata=metadata_of,
        labels=labels_of_cohort,
        cohort=lognorm_of_cohort,
    output:
        domains_pdf=f"{FIGURES_OF_STRUCTURE}/{{sample}}_domains.pdf",
        domains_png=report(
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_domains.png",
            caption="../report/domain_map.rst",
            category="Tissue structure",
            labels={"shown": "domains", "cohort": "{cohort}", "slide": "{sample}"},
        ),
        umap_pdf=f"{FIGURES_OF_STRUCTURE}/{{sample}}_umap.pdf",
        umap_png=report(
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_umap.png",
            caption="../report/umap.rst",
            category="Tissue structure",
            labels={"shown": "UMAP", "cohort": "{cohort}", "slide": "{sample}"},
        ),
        genes_pdf=f"{FIGURES_OF_STRUCTURE}/{{sample}}_variable_genes.pdf",
        genes_png=report(
            f"{FIGURES_OF_STRUCTURE}/{{sample}}_variable_genes.png",
            caption="../report/variable_gene_maps.rst",
            category="Tissue structure",
            labels={"shown": "variable genes", "cohort": "{cohort}", "slide": "{sample}"},
        ),
    log:
        "<results>/logs/draw_structure/{cohort}/{sample}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        spaces=structure_spaces(),
        seed=config["seeds"][0],
        column=label_column(),
        unknown=unknown_labels(),
        slides=cohort_slides,
        genes=structure_genes,
        code=code_version("draw_structure"),
    message:
        "Draw domains, UMAP and variable genes of {wildcards.sample}"
    script:
        "../workflow_scripts/draw_structure.py"


rule draw_cohort_umap:
    input:
        umap=f"{STRUCTURE}/umap.tsv",
        domains=domains_of_cohort,
        labels=labels_of_cohort,
        cohort=lognorm_of_cohort,
    output:
        pdf=f"{FIGURES_OF_STRUCTURE}/umap.pdf",
        png=report(
            f"{FIGURES_OF_STRUCTURE}/umap.png",
            caption="../report/umap.rst",
            category="Tissue structure",
            labels={"shown": "UMAP", "cohort": "{cohort}", "slide": "all"},
        ),
    log:
        "<results>/logs/draw_cohort_umap/{cohort}.log",
    conda:
        "../envs/figures.yaml"
    resources:
        mem_mb=lambda wildcards, attempt: 8000 * attempt,
    params:
        space=structure_spaces()[0],
        seed=config["seeds"][0],
        column=label_column(),
        unknown=unknown_labels(),
        slides=cohort_slides,
        code=code_version("draw_cohort_umap"),
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
        spaces=space_files,
        figures=[f"{FIGURES_OF_STRUCTURE}/{{sample}}_{name}.png" for name in ("domains", "umap", "variable_genes")],
        labels=labels_of_cohort,
        cohort=lognorm_of_cohort,
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
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        kinds=space_kinds(),
        seed=config["seeds"][0],
        column=label_column(),
        unknown=unknown_labels(),
        slides=cohort_slides,
        n_domains=STRUCTURE_SETTINGS["domains"],
        note=label_note(),
        code=code_version("structure_page"),
    message:
        "Write the page of {wildcards.sample}"
    script:
        "../workflow_scripts/structure_page.py"
