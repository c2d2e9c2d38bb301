"""Configurations of all sizes."""

import pytest

from configurations import ROOT, at, content

SHEET = """sample cohort patient
A1 two a
A2 two a
B1 two b
C1 one c
C2 one c
D1 single d
"""


@pytest.fixture(autouse=True)
def _at_home(monkeypatch):
    """Run in the root of the repository, from which configurations name their sample sheet."""
    monkeypatch.chdir(ROOT)


@pytest.fixture
def paper():
    return content(ROOT / "config.yaml")


@pytest.fixture
def small(tmp_path):
    """Make a minimal configuration."""
    sheet = tmp_path / "samples.tsv"
    sheet.write_text(SHEET.replace(" ", "\t"))
    return {
        "run": "r",
        "samples": str(sheet),
        "data": {"source": "local", "root": "data"},
        "cohorts": {"two": {}},
        "methods": {"CMRCNet": {"neighbours": [50]}},
    }


@pytest.fixture
def tissue(small):
    """Make a configuration with structure in every kind of space."""
    at(small, "encoders.mine.timm", "resnet18")
    at(small, "methods.MicNet", {})
    spaces = ["MicNet", "CMRCNet", "Expression", "SmoothedExpression", "Image", "Concatenation"]
    return at(small, "structure", {"spaces": spaces, "encoder": "mine", "domains": 4})
