"""The claim of docs/adding-a-method.md: two files, one line, one entry."""

import re

import pandas as pd
import pytest
import yaml
from pipeline import REPOSITORY, Pipeline, copy_workflow, example

pytestmark = pytest.mark.workflow


def blocks(language):
    """Return the page's code blocks in one language."""
    page = (REPOSITORY / "docs/adding-a-method.md").read_text(encoding="utf-8")
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Table 1 of a tiny demo run, by a copy of the workflow to which the page's method was added as the page says."""
    repository, folder = copy_workflow(tmp_path_factory.mktemp("repository")), tmp_path_factory.mktemp("run")
    options, network, line = blocks("python")
    (repository / "src/spotwise/models/colour_options.py").write_text(options, encoding="utf-8")
    (repository / "src/spotwise/models/colour.py").write_text(network, encoding="utf-8")
    registry = repository / "src/spotwise/models/registry.py"
    before, marker, after = registry.read_text(encoding="utf-8").partition('    "TrainMean": Entry(')
    assert marker
    registry.write_text(before + line + marker + after, encoding="utf-8")
    config = example("demo", folder)
    config["data"]["generated"]["spots_across"] = 8
    config["expression"]["hvg_per_slide"] = 60
    config["protocols"] = ["patient"]
    config["controls"] = ["TrainMean", "RandomRetrieval"]
    config["methods"] = yaml.safe_load(blocks("yaml")[0])
    del config["structure"], config["evaluation"], config["predict"]
    pipeline = Pipeline(folder, config, repository)
    pipeline.run("results/demo/tables/table1.csv")
    return pd.read_csv(pipeline.results / "tables/table1.csv").set_index("predictor")


def test_the_pages_method_stands_in_the_table_and_beats_the_controls(table):
    assert table.index.tolist() == ["Colour", "TrainMean", "RandomRetrieval"]
    assert table.loc["Colour", "HVG_top50"] > table.loc["RandomRetrieval", "HVG_top50"] + 0.1


def test_the_pages_method_is_as_short_as_it_says():
    code = [line for block in blocks("python") for line in block.splitlines() if line.strip()]
    assert len(code) <= 45
