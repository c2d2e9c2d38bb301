"""Clean and normalise the counts of one sample; keep a small picture of its slide."""

from pathlib import Path

from PIL import Image

from spotwise import hest
from spotwise.expression import clean_counts, normalise
from spotwise.files import atomic, write_json
from spotwise.jobs import job
from spotwise.slides import um_per_px, write_thumbnail

with job(snakemake.log[0]) as logger:
    metadata = hest.read_metadata(snakemake.input.metadata)
    counts, qc = clean_counts(
        hest.read_counts(snakemake.input.counts),
        snakemake.wildcards.sample,
        hest.slide_size(metadata, snakemake.input.metadata),
        snakemake.params.min_counts,
        snakemake.input.counts,
    )
    slide = Path(snakemake.input.slide) if snakemake.input.get("slide") else None
    qc["um_per_px"] = um_per_px(metadata, slide)
    for warning in qc["warnings"]:
        logger.warning("%s", warning)
    picture = hest.thumbnail(counts)
    if picture is None and slide is not None:
        write_thumbnail(slide, Path(snakemake.output.thumbnail))
    else:
        with atomic(snakemake.output.thumbnail) as temporary:
            (picture or Image.new("RGB", (8, 8), "white")).save(temporary)
    for path, content in (
        (snakemake.output.counts, counts),
        (snakemake.output.lognorm, normalise(counts, snakemake.params.target_sum)),
    ):
        with atomic(path) as temporary:
            content.write_h5ad(temporary, compression="gzip")
    write_json(snakemake.output.qc, qc)
