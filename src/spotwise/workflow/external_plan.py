"""The plan of predictions by other tools: which files are imported where."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace

from spotwise.errors import InputError
from spotwise.workflow.plan import Plan, Wildcards


class ExternalPlan:
    """What the section ``external`` of a configuration asks for; nothing where there is none.

    Parameters
    ----------
    plan
        The plan of the run.

    Attributes
    ----------
    settings
        Tool -> its entry, in the order of the configuration.
    imports
        Every ``cohort/protocol/tool`` whose predictions are imported.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.settings: Mapping[str, Mapping] = plan.config["external"]
        self.imports = [name for name in plan.scored if name.rpartition("/")[2] in self.settings]

    def files(self, w: Wildcards) -> list[str]:
        """Return the files of a tool for a cohort and protocol, in the order of `Plan.predictions`."""
        pattern = self.settings[w.method]["predictions"]
        return [
            pattern.format(sample=sample, cohort=w.cohort, protocol=w.protocol, fold=fold.fold)
            for fold in self.plan.folds[w.cohort, w.protocol]
            for sample in fold.test
        ]

    def require(self, w: Wildcards) -> None:
        """Check that all files of a tool for a cohort and protocol exist.

        Raises
        ------
        InputError
            Naming the first missing one, and how many are missing.
        """
        files = self.files(w)
        if missing := [path for path in files if not Path(path).is_file()]:
            found = f"no file {missing[0]} ({len(missing)} of {len(files)} missing for {w.cohort} under {w.protocol})"
            expected = "a prediction of every slide; `snakemake tasks` writes what a tool needs to make them"
            raise InputError(f"external.{w.method}", "predictions", found, expected)

    def tested(self, w: Wildcards) -> list[list]:
        """Return number and test slides of each fold of a cohort and protocol."""
        return [[fold.fold, list(fold.test)] for fold in self.plan.folds[w.cohort, w.protocol]]

    @cached_property
    def sections(self) -> list[SimpleNamespace]:
        """Cohort, protocol and method of each of `imports`, as wildcards."""
        names = ("cohort", "protocol", "method")
        return [SimpleNamespace(**dict(zip(names, name.split("/"), strict=True))) for name in self.imports]

    @cached_property
    def imported(self) -> dict[str, str]:
        """Every ``tool/cohort/protocol/sample`` -> the file that the tool has written."""
        found = {}
        for w in self.sections:
            samples = [sample for _, tested in self.tested(w) for sample in tested]
            keys = (f"{w.method}/{w.cohort}/{w.protocol}/{sample}" for sample in samples)
            found |= dict(zip(keys, self.files(w), strict=True))
        return found

    @property
    def trained_on(self) -> dict[str, str]:
        """Tool -> what the configuration says of the slides that it was trained on."""
        return {name: entry["trained_on"] for name, entry in self.settings.items()}
