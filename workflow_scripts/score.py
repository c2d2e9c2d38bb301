"""Score all predictions of one method, gene by gene and slide by slide; where it retrieves, for every K, too."""

from itertools import product
from pathlib import Path

import pandas as pd

from spotwise.data.folds import read_fold
from spotwise.evaluation.score_files import write_scores
from spotwise.evaluation.scores import score_prediction
from spotwise.evaluation.slide_metrics import slide_scores
from spotwise.evaluation.top_k_sweep import sweep_fold
from spotwise.inference.observed_files import read_observed
from spotwise.inference.prediction_files import read_prediction
from spotwise.inference.retrieval import read_embeddings
from spotwise.runtime.job import job


def sweep():
    """Return the scores of every trained model for every K."""
    parts = []
    folds = zip(snakemake.input.folds, snakemake.input.training_folds, strict=True)
    for (fold_path, training_fold), seed in product(folds, snakemake.params.seeds):
        fold, bank_fold = read_fold(fold_path), read_fold(training_fold)
        folder = Path(snakemake.input.predictions) / f"fold{fold.fold}" / f"seed{seed}"
        bank, queries = (read_embeddings(folder / f"{name}.safetensors") for name in ("bank", "queries"))
        run = {**snakemake.wildcards, "fold": fold.fold, "seed": seed}
        part = sweep_fold(fold, bank_fold, bank, queries, snakemake.params.top).assign(**run)
        parts.append(part[[*run, *(column for column in part if column not in run)]])
    return pd.concat(parts, ignore_index=True)


with job(snakemake.log[0]):
    scores, slides, observed = [], [], {}
    for name in map(Path, snakemake.params.files):
        if name.name not in observed:
            observed[name.name] = read_observed(Path(snakemake.input.observed) / name.name)
        prediction = read_prediction(snakemake.input.predictions / name, observed[name.name])
        scores.append(score_prediction(prediction))
        slides.append(slide_scores(prediction, scores[-1], snakemake.params.top))
    write_scores(pd.concat(scores, ignore_index=True), snakemake.output.scores)
    write_scores(pd.DataFrame(slides), snakemake.output.slide_scores)
    if snakemake.output.get("sweep"):
        write_scores(sweep(), snakemake.output.sweep)
