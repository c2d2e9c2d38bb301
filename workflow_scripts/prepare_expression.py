"""Clean and normalise the counts of one sample, and write a thumbnail of its slide."""

from pathlib import Path

from PIL import Image

from spotwise.constants import SPATIAL, SPECIES, TOTAL_COUNTS
from spotwise.data import hest
from spotwise.data.counts import clean_counts
from spotwise.data.counts_reader import read_counts, thumbnail
from spotwise.data.genes import normalise
from spotwise.data.measured_features import check_species
from spotwise.data.orientation import on_tissue
from spotwise.data.patch_files import join_patches, picture_warnings
from spotwise.data.patches import check_slide
from spotwise.data.pixel_size import check_slide_size, pixel_size
from spotwise.data.slides import write_thumbnail
from spotwise.data.spot_scale import check_scale, stated_spots
from spotwise.runtime.files import atomic, write_json
from spotwise.runtime.hdf5 import write_anndata
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    raw = read_counts(snakemake.input.counts)
    # without images there may be no metadata; the counts may still state the pixel size
    has_metadata = bool(snakemake.input.get("metadata"))
    metadata = (
        hest.read_metadata(snakemake.input.metadata) if has_metadata else {"id": snakemake.wildcards.sample, **raw.uns}
    )
    slide = Path(snakemake.input.slide) if snakemake.input.get("slide") else None
    size = hest.slide_size(metadata, snakemake.input.metadata) if has_metadata else None
    if slide is not None:
        check_slide_size(slide, size, snakemake.input.metadata)
    counts, qc = clean_counts(
        raw,
        snakemake.wildcards.sample,
        size,
        snakemake.params.min_counts,
        snakemake.input.counts,
        snakemake.params.outside,
    )
    if has_metadata:
        counts.uns[SPECIES] = hest.species_of(metadata, snakemake.input.metadata)
        check_species(counts.var_names, counts.uns[SPECIES], snakemake.input.counts)
        other = hest.other_sample_warning(metadata, *raw.shape)
        qc["warnings"] += [other] if other else []
    source = snakemake.input.metadata if has_metadata else snakemake.input.counts
    qc["um_per_px"] = None
    if has_metadata or "pixel_size_um_estimated" in metadata:
        pixel = pixel_size(metadata, slide, source)
        stated = stated_spots(metadata, snakemake.params.get("technology", ""), source)
        facts, warnings = check_scale(counts, pixel, stated, size, snakemake.input.counts)
        qc |= {"um_per_px": pixel.um} | facts
        qc["warnings"] += pixel.warnings + warnings
    if slide is not None:
        facts, warnings = check_slide(slide, counts.obsm[SPATIAL], qc["um_per_px"])
    elif snakemake.input.get("patches"):
        joined = join_patches(snakemake.input.patches, counts, qc["um_per_px"])
        facts = joined.facts
        warnings = joined.warnings + picture_warnings(snakemake.input.patches, joined.rows)
    else:
        facts, warnings = {}, []
    qc |= facts
    qc["warnings"] += warnings
    picture = None if slide else thumbnail(counts)
    if slide is not None:
        write_thumbnail(slide, Path(snakemake.output.thumbnail))
    else:
        with atomic(snakemake.output.thumbnail) as temporary:
            (picture or Image.new("RGB", (8, 8), "white")).save(temporary)
    if size is not None and (picture or slide):
        with Image.open(snakemake.output.thumbnail) as whole:
            shares, warnings = on_tissue(counts.obsm[SPATIAL], counts.obs[TOTAL_COUNTS].to_numpy(), whole, size)
        qc["share_on_tissue"] = shares
        qc["warnings"] += warnings
    for warning in qc["warnings"]:
        logger.warning("%s", warning)
    for path, content in (
        (snakemake.output.counts, counts),
        (snakemake.output.lognorm, normalise(counts, snakemake.params.target_sum)),
    ):
        write_anndata(path, content, "gzip")
    write_json(snakemake.output.qc, qc)
