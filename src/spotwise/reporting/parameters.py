"""Parameter counts of the configured methods.

Run ``python -m spotwise.reporting.parameters [config.yaml] [--genes 1000]``. Networks are built on the meta device,
without memory for their weights, so that published sizes are counted in seconds.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from spotwise.config import prepare, read_config
from spotwise.errors import InputError, SetupError
from spotwise.models.encoders import frozen_encoder
from spotwise.models.registry import REGISTRY, build, load, options, without_pretraining
from spotwise.models.sizes import Sizes

GENES = 1000
POSITIONS = 128  # rows or columns of a Visium array
REPOSITORY = Path(__file__).resolve().parents[3]


@dataclass(frozen=True)
class Count:
    """Parameters of one configured method.

    ``inference`` is the number of ``trained`` ones that a prediction needs, 0 for a method that predicts nothing.
    ``frozen`` is the number in the frozen image encoder, 0 without one.
    """

    name: str
    kind: str
    trained: int
    inference: int
    frozen: int


def count(config: Mapping, genes: int = GENES) -> list[Count]:
    """Count the parameters of every configured method for a panel of ``genes``."""
    found = []
    for name, settings in config["methods"].items():
        if "shuffled" in settings:  # a control, which is as large as the reference
            continue
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
                method = load(settings["model"])(options(settings["model"], settings["options"]))
                trained = inference = method.n_parameters(features, genes)
        found.append(Count(name, entry.kind, trained, inference, frozen))
    return found


def _encoder(config: Mapping, settings: Mapping) -> nn.Module | None:
    if "encoder" not in settings:
        return None
    return frozen_encoder(config["encoders"][settings["encoder"]]["timm"], "no")[0]


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def table(counts: list[Count]) -> str:
    """Format counts as a Markdown table."""
    lines = ["| method | kind | trained | of these used to predict | frozen encoder |", "|---|---|---:|---:|---:|"]
    for one in counts:
        numbers = " | ".join(f"{number:,}" if number else "–" for number in (one.trained, one.inference, one.frozen))
        lines.append(f"| `{one.name}` | {one.kind} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Print the table of a configuration, or one line that says what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m spotwise.reporting.parameters", description="Count the parameters of the configured methods."
    )
    parser.add_argument("config", nargs="?", default=REPOSITORY / "config.yaml", type=Path, help="default: %(default)s")
    parser.add_argument("--genes", default=GENES, type=int, help="genes of the panel (default: %(default)s)")
    given = parser.parse_args()
    try:
        if given.genes < 1:
            raise InputError("command line", "--genes", given.genes, "an integer of at least 1")
        config = read_config(given.config)
        _find_samples(config)
        prepare(config, str(given.config))
        counts = count(config, given.genes)
    except (InputError, SetupError) as error:
        parser.exit(1, f"{error}\n")
    print(table(counts), end="")


def _find_samples(config: dict) -> None:
    """Look for a relative sample sheet in the repository too, whatever the working directory."""
    samples = config.get("samples")
    if isinstance(samples, str) and not Path(samples).exists():
        config["samples"] = str(REPOSITORY / samples)


if __name__ == "__main__":
    main()
