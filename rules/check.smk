# `snakemake check`: access, GPU, disk, memory and hours before a long run. It writes its log alone.


rule check:
    log:
        "<results>/logs/check.log",
    localrule: True
    conda:
        "../envs/torch.yaml"
    resources:
        mem_mb=2000,
    message:
        "Check what the run needs"
    script:
        "../workflow_scripts/check.py"
