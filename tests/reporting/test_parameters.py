"""Claims about parameter counts: those that the sources state or imply, and those that the documentation prints."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spotwise.config import prepare
from spotwise.reporting.parameters import count

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def paper():
    config = yaml.safe_load((ROOT / "config.yaml").read_text(encoding="utf-8"))
    config["samples"] = str(ROOT / config["samples"])
    prepare(config)
    config["methods"]["MicNet"] = {"model": "MicNet", "options": {}}  # as published; the paper does not run it
    return config


@pytest.fixture(scope="module")
def counts(paper):
    return {one.name: one for one in count(paper, genes=1000)}


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("CMRCNet", 63_252_480),  # measured on the released model, without its unused head
        ("CMRCNet-contrastive", 59_103_744 + 263_168 + 322_560),  # encoder of 8 blocks and both projection heads
        ("CMRCNet-expression", 63_252_480),
        ("BLEEP", 24_421_440),  # measured on the released model
        ("STNet", 6_953_856 + 1025 * 1000),  # DenseNet-121 without its classifier, and a linear layer
        ("CTransPath", 27_520_038 + 769 * 1000),  # measured, and a linear layer
        ("HisToGene", 106_648_337 + 215 * 1025 + 2 * 64 * 1024),  # at 785 genes and 64 positions; here 1,000 and 128
        ("MicNet", 42_705_060 + 500 * 1000 + 61_900),  # measured on the released model
        ("Ridge", 2049 * 1000),
        ("KNNImage", 0),
    ],
)
def test_counts_are_those_that_the_sources_state_or_imply(counts, method, parameters):
    assert counts[method].trained == parameters


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        ("NH2ST", 53_452_346),  # measured on the released model, without four heads that it never calls
        ("EGN", 133_356_794 - 4 * 525_312 - 1_024 - 265_216),  # measured, without what gets no gradient
    ],
)
def test_counts_at_the_panels_of_250_genes_are_those_measured_on_released_code(paper, method, parameters):
    only = paper | {"methods": {method: paper["methods"][method]}}
    assert count(only, genes=250)[0].trained == parameters


def test_predictions_need_only_part_of_what_nh2st_and_cmrcnet_train(counts, paper):
    assert counts["CMRCNet"].inference == counts["CMRCNet-contrastive"].trained
    only = paper | {"methods": {"NH2ST": paper["methods"]["NH2ST"]}}
    assert count(only, genes=250)[0].inference == 24_217_658
    assert counts["MicNet"].inference == 0  # it predicts nothing


def test_the_documentation_prints_the_counts_that_the_command_gives(counts):
    page = (ROOT / "docs/methods.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| `([\w-]+)` \|.*\| ([\d,]+|–) \|$", page, flags=re.MULTILINE))
    assert len(rows) >= 12
    for name, printed in rows.items():
        assert int(printed.replace(",", "").replace("–", "0")) == counts[name].trained, name


def run(*arguments, folder):
    """Call the command of the installed package in a folder that is not the repository."""
    command = [sys.executable, "-m", "spotwise.reporting.parameters", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.mark.parametrize(
    ("arguments", "row"),
    [
        ([], "| `BLEEP` | retrieval | 24,421,440 | 24,421,440 | – |"),
        (
            [str(ROOT / "configs" / "arena.yaml")],
            f"| `KNNImage` | frozen | – | – | {4_652_008 - 1_281_000:,} |",
        ),  # EfficientNet-Lite0
    ],
)
def test_the_command_works_from_any_folder(tmp_path, arguments, row):
    done = run(*arguments, "--genes", "1000", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert row in done.stdout.splitlines()


def test_the_command_says_in_one_line_what_is_wrong(tmp_path):
    (tmp_path / "broken.yaml").write_text("methods: [\n")
    for arguments, expected in (
        (["missing.yaml"], "no such file"),
        (["broken.yaml"], "broken.yaml: line"),
        (["--genes", "-5"], "command line: --genes: found -5, expected an integer of at least 1"),
    ):
        done = run(*arguments, folder=tmp_path)
        assert done.returncode == 1
        assert not done.stdout
        (message,) = done.stderr.splitlines()
        assert expected in message


def test_the_command_explains_itself(tmp_path):
    done = run("--help", folder=tmp_path)
    assert done.returncode == 0
    assert "Count the parameters of the configured methods." in done.stdout
