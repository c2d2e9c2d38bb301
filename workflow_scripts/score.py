"""Score the predictions of one predictor, gene by gene and slide by slide."""

import pandas as pd

from spotwise.evaluation.score_files import write_scores
from spotwise.evaluation.scores import score_prediction
from spotwise.evaluation.slide_metrics import slide_scores
from spotwise.inference.prediction_files import read_prediction
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    scores, slides = [], []
    for path in snakemake.input.predictions:
        prediction = read_prediction(path)
        scores.append(score_prediction(prediction))
        slides.append(slide_scores(prediction, scores[-1], snakemake.params.top))
    write_scores(pd.concat(scores, ignore_index=True), snakemake.output.scores)
    write_scores(pd.DataFrame(slides), snakemake.output.slide_scores)
