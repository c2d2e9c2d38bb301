"""Score a retrieval method for every number of retrieved spots."""

import pandas as pd

from spotwise.data.folds import read_fold
from spotwise.evaluation.score_files import write_scores
from spotwise.evaluation.top_k_sweep import sweep_fold
from spotwise.inference.retrieval import read_embeddings
from spotwise.runtime.job import job

with job(snakemake.log[0]) as logger:
    files, parts = snakemake.input, []
    trainings = zip(files.folds, files.bank_folds, files.banks, files.queries, snakemake.params.seeds, strict=True)
    for fold_path, bank_fold_path, bank, queries, seed in trainings:
        fold = read_fold(fold_path)
        bank_fold = fold if bank_fold_path == fold_path else read_fold(bank_fold_path)
        logger.info("fold %d, seed %d", fold.fold, seed)
        part = sweep_fold(fold, bank_fold, read_embeddings(bank), read_embeddings(queries), snakemake.params.top)
        run = {**snakemake.wildcards, "fold": fold.fold, "seed": seed}
        parts.append(part.assign(**run)[[*run, *part.columns]])
    write_scores(pd.concat(parts, ignore_index=True), snakemake.output.sweep)
