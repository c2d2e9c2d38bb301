"""Scores per gene and per slide, averages, intervals, noise ceiling and leak audit."""
