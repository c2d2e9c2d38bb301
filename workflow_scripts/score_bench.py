"""Score one encoder on one task of the HEST benchmark."""

from pathlib import Path

from spotwise.data.bench_targets import read_targets
from spotwise.data.features import encoder_name, fell_back, pretrained
from spotwise.evaluation.hest_bench import score_task
from spotwise.evaluation.score_files import write_scores
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    targets = read_targets(snakemake.input.targets)
    embeddings = {sample: Path(snakemake.input.embeddings) / f"{sample}.h5" for sample in targets.slides}
    scores = score_task(targets, embeddings).assign(
        timm=encoder_name(embeddings), pretrained=pretrained(embeddings), fell_back=fell_back(embeddings)
    )
    write_scores(scores, snakemake.output.scores)
