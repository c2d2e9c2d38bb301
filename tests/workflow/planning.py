"""Plans of small configurations, made without Snakemake's command."""

from pathlib import Path
from types import SimpleNamespace

from spotwise import config as configuration
from spotwise.workflow import Plan

ROOT = Path(__file__).parents[2]
# Two patients in one cohort, the first with two slides; another cohort of one slide
SHEET = "sample cohort patient\nA1 two a\nA2 two a\nB1 two b\nC1 one c\n".replace(" ", "\t")


def planned(folder: Path, **changes: object) -> Plan:
    """Make the plan of a small configuration with changed top-level keys; ``None`` removes a key."""
    sheet = folder / "samples.tsv"
    sheet.write_text(SHEET, encoding="utf-8")
    config = {
        "run": "r",
        "samples": str(sheet),
        "data": {"source": "generated", "root": "data"},
        "cohorts": {"two": {"markers": ["CD3E"]}},
        "seeds": [4, 5],
        "encoders": {"mine": {"timm": "resnet18"}},
        "methods": {"CMRCNet": {"neighbours": [50]}, "MicNet": {}},
        "structure": {"spaces": ["MicNet", "CMRCNet", "Expression", "Image"], "encoder": "mine", "domains": 3},
    }
    config = {key: value for key, value in (config | changes).items() if value is not None}
    return Plan(config, configuration.prepare(config))


class wildcards(SimpleNamespace):  # noqa: N801
    """What of Snakemake's wildcards the plan asks."""

    def get(self, name):
        return vars(self).get(name)
