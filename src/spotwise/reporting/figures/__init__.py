"""Figures of a run, one module per kind, drawn from its result files.

Each ``draw_*`` function returns a `Figure`, which `style.save` writes. Figures of scores share these parameters:

scores
    Rows with `SCORE_COLUMNS`. A figure of one cohort, protocol or slide raises `ValueError` for several.
looks
    Predictors in display order with their looks (`style.predictor_looks`). Those without scores are left out.
top
    Size of the HEG and HVG lists.
cohorts
    Display order of the cohorts.
"""
