"""Predict the expression of a slide that was never sequenced."""

from pathlib import Path

from spotwise.inference.slide_prediction import SlideFiles, predict_slide
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    given, params = snakemake.input, snakemake.params
    names = ("spots", "patches", "likeness", "verdict", "facts", "hires", "lowres")
    files = SlideFiles(
        **{name: Path(given[name]) for name in names}, features=Path(given.features) if given.features else None
    )
    output = Path(snakemake.output.prediction)
    predict_slide(Path(given.model), snakemake.wildcards.slide, files, params.device, params.threads, output)
