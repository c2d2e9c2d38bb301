"""Parameter counts of the configured methods: ``python -m spotwise.reporting.parameters [config.yaml] [--genes 1000]``.

Networks are built without memory for their weights, so that the published sizes count in seconds on any machine.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch import nn

from spotwise.config import prepare
from spotwise.errors import InputError, SetupError
from spotwise.models.description import Sizes
from spotwise.models.encoders import frozen_encoder
from spotwise.models.registry import REGISTRY, build, load, without_pretraining

GENES = 1000
POSITIONS = 128  # rows or columns of a Visium array


@dataclass(frozen=True)
class Count:
    """Parameters of one configured method.

    Attributes
    ----------
    name, kind
        Its entry in the configuration, and the kind of its class.
    trained
        Parameters that are fitted; 0 for a method that fits none.
    inference
        Those of them that a prediction needs; 0 for a method that predicts nothing.
    frozen
        Parameters of the frozen image encoder, 0 where there is none.
    """

    name: str
    kind: str
    trained: int
    inference: int
    frozen: int


def count(config: Mapping, genes: int = GENES) -> list[Count]:
    """Count the parameters of every method of a checked configuration, for a panel of ``genes``."""
    found = []
    for name, settings in config["methods"].items():
        entry = REGISTRY[settings["model"]]
        with torch.device("meta"):
            encoder = _encoder(config, settings)
            features = 0 if encoder is None else encoder.num_features
            frozen = 0 if encoder is None else _parameters(encoder)
            if entry.trained:
                given = without_pretraining(settings["model"], settings["options"])
                model = build(settings["model"], Sizes(genes, POSITIONS, features), given)
                trained = _parameters(model)
                unused = sum(_parameters(part) for part in model.training_only())
                inference = trained - unused if entry.predicts else 0
            else:
                trained = inference = load(settings["model"]).n_parameters(features, genes)
        found.append(Count(name, entry.kind, trained, inference, frozen))
    return found


def _encoder(config: Mapping, settings: Mapping) -> nn.Module | None:
    if "encoder" not in settings:
        return None
    return frozen_encoder(config["encoders"][settings["encoder"]]["timm"], "no")[0]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def table(counts: list[Count]) -> str:
    """Lay counts out as Markdown."""
    lines = ["| method | kind | trained | of these used to predict | frozen encoder |", "|---|---|---:|---:|---:|"]
    for one in counts:
        numbers = " | ".join(f"{number:,}" if number else "–" for number in (one.trained, one.inference, one.frozen))
        lines.append(f"| `{one.name}` | {one.kind} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table for a configuration file."""
    parser = argparse.ArgumentParser(
        prog="python -m spotwise.reporting.parameters", description=__doc__.splitlines()[0]
    )
    parser.add_argument("config", nargs="?", default="config.yaml", type=Path, help="configuration (config.yaml)")
    parser.add_argument("--genes", default=GENES, type=int, help="genes of the panel (1000)")
    given = parser.parse_args()
    try:
        config = yaml.safe_load(given.config.read_text(encoding="utf-8"))
        prepare(config, str(given.config))
        counts = count(config, given.genes)
    except (InputError, SetupError, OSError, yaml.YAMLError) as error:
        parser.exit(1, f"{error}\n")
    print(table(counts), end="")


if __name__ == "__main__":
    main()
