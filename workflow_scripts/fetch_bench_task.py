"""Download one task of the HEST benchmark at the pinned revision, or verify what is there, and write its manifest."""

from spotwise.data.bench_layout import TASK_FILES
from spotwise.data.credentials import optional_token
from spotwise.data.hub import fetch_folder
from spotwise.runtime.job import job

with job(snakemake.log[0]):
    params = snakemake.params
    task = snakemake.wildcards.task
    fetch_folder(params.repository, params.revision, task, TASK_FILES, params.root, optional_token())
