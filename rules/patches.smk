# Image patches around the spots, and what frozen encoders see in them.


rule extract_patches:
    input:
        slide=slide_of_sample,
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
        mem_mb=lambda wildcards, attempt: 4000 * attempt,
    params:
        code=code_version("extract_patches"),
    message:
        "Cut the patches of {wildcards.sample} from its slide"
    script:
        "../workflow_scripts/extract_patches.py"


rule embed_patches:
    input:
        patches=sample_patches,
        checkpoint=encoder_checkpoint,
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
        mem_mb=lambda wildcards, attempt: 16000 * attempt,
        runtime=lambda wildcards, attempt: 240 * attempt,
        gpu=GPU,
    params:
        encoder=encoder_setting("timm"),
        pretrained=encoder_setting("pretrained"),
        checkpoint=encoder_setting("checkpoint"),
        device=config["training"]["device"],
        threads=config["training"]["threads"],
        code=code_version("embed_patches"),
    message:
        "Embed the patches of {wildcards.sample} with {wildcards.encoder}"
    script:
        "../workflow_scripts/embed_patches.py"
