# Image patches around the spots, and what frozen encoders see in them.


rule extract_patches:
    input:
        slide=plan.slide,
        counts="<results>/samples/{sample}/counts.h5ad",
        qc="<results>/samples/{sample}/qc.json",
    output:
        patches="<results>/samples/{sample}/patches.h5",
    log:
        "<results>/logs/extract_patches/{sample}.log",
    benchmark:
        "<results>/benchmarks/extract_patches/{sample}.tsv"
    priority: BEFORE_TRAINING
    conda:
        "../envs/data.yaml"
    resources:
        mem_mb=times_attempt(4000),
    params:
        readers=versions(*SLIDE_READERS),  # another version may decode or resize differently
        code=plan.code("extract_patches"),
    message:
        "Cut the patches of {wildcards.sample} from its slide"
    script:
        "../workflow_scripts/extract_patches.py"


rule embed_patches:
    input:
        patches=plan.sample_patches,
        encoder_weights=plan.encoder_weights,
    output:
        embedding="<results>/embeddings/{encoder}/{sample}.h5",
    log:
        "<results>/logs/embed_patches/{encoder}/{sample}.log",
    benchmark:
        "<results>/benchmarks/embed_patches/{encoder}/{sample}.tsv"
    wildcard_constraints:
        encoder=one_of(config["encoders"]),
    priority: BEFORE_TRAINING
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        runtime=times_attempt(240),
        gpu=plan.gpus,
    params:
        encoder=lookup("encoders/{encoder}/timm", within=config),
        pretrained=lookup("encoders/{encoder}/pretrained", within=config),
        checkpoint=lookup("encoders/{encoder}/checkpoint", within=config),
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=plan.code("embed_patches"),
    message:
        "Embed the patches of {wildcards.sample} with {wildcards.encoder}"
    script:
        "../workflow_scripts/embed_patches.py"


rule embed_context:
    input:
        patches=plan.sample_patches,
        slide=context.slide,
        counts="<results>/samples/{sample}/counts.h5ad",
        qc="<results>/samples/{sample}/qc.json",
        encoder_weights=plan.encoder_weights,
    output:
        context="<results>/context/{encoder}/{sample}.h5",
    log:
        "<results>/logs/embed_context/{encoder}/{sample}.log",
    benchmark:
        "<results>/benchmarks/embed_context/{encoder}/{sample}.tsv"
    wildcard_constraints:
        encoder=one_of(config["encoders"]),
    conda:
        "../envs/torch.yaml"
    threads: config["training"]["threads"]
    resources:
        mem_mb=times_attempt(16000),
        runtime=times_attempt(480),
        gpu=plan.gpus,
    params:
        encoder=lookup("encoders/{encoder}/timm", within=config),
        pretrained=lookup("encoders/{encoder}/pretrained", within=config),
        checkpoint=lookup("encoders/{encoder}/checkpoint", within=config),
        fields=context.fields_of_encoder,
        views=lookup("encoders/{encoder}/views", within=config),
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        readers=versions(*SLIDE_READERS),  # another version may decode or resize differently
        code=plan.code("embed_context"),
    message:
        "Describe the tissue around the spots of {wildcards.sample} with {wildcards.encoder}"
    script:
        "../workflow_scripts/embed_context.py"
