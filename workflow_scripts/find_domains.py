"""Find the domains of one slide in all spaces, and score them."""

import anndata
import numpy as np

from spotwise.constants import DROPPED, SPATIAL
from spotwise.runtime.files import atomic, write_table
from spotwise.runtime.job import job
from spotwise.structure.domains import domains_of_slide
from spotwise.structure.spaces import read_space
from spotwise.structure.spot_labels import UNLABELLED, n_classes, read_labels

with job(snakemake.log[0]) as logger:
    params, files = snakemake.params, snakemake.input
    slide = anndata.read_h5ad(files.lognorm)
    runs = [(path, read_space(path), seed) for path, (_, seed) in zip(files.spaces, params.runs, strict=True)]
    barcodes = runs[0][1].barcode
    labels = np.full(len(barcodes), UNLABELLED, dtype=object)
    if files.get("labels"):
        known = [*slide.obs_names, *slide.uns[DROPPED]]
        labels = read_labels(files.labels, params.column, barcodes, known, params.unknown)
    n_domains = params.n_domains or n_classes(labels)
    spatial = slide.obsm[SPATIAL][slide.obs_names.get_indexer(barcodes)]
    domains, scores = domains_of_slide(runs, spatial, labels, n_domains)
    for row in scores[(scores["n_domains"] != n_domains) & ~scores["refined"]].itertuples():
        found = f"{row.n_domains} domains instead of {n_domains}"
        logger.warning("%s, seed %d: %s finds %s", row.space, row.seed, row.clustering, found)
    scores.insert(0, "cohort", snakemake.wildcards.cohort)
    scores.insert(1, "sample", snakemake.wildcards.sample)
    with atomic(snakemake.output.domains) as temporary:
        domains.to_parquet(temporary, index=False)
    write_table(scores, snakemake.output.scores, na_rep="nan")
