"""The plan of the HEST benchmark: its tasks, encoders and files."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from spotwise.data import manifest
from spotwise.data.bench_layout import read_task
from spotwise.workflow.plan import Plan, Wildcards


class BenchPlan:
    """What the section ``hest_bench`` of a configuration asks for; nothing where there is none.

    Parameters
    ----------
    plan
        The plan of the run.

    Attributes
    ----------
    settings
        The section, empty where there is none.
    tasks, encoders
        Tasks, and keys of ``encoders``, in the order of the configuration.
    root
        Folder of the tasks.
    downloads
        Whether the tasks are downloaded.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.settings: Mapping = plan.config.get("hest_bench", {})
        self.tasks = list(self.settings.get("tasks", []))
        self.encoders = list(self.settings.get("encoders", []))
        self.root = str(Path(self.settings.get("root", ".")))
        self.downloads = "revision" in self.settings

    @cached_property
    def manifest(self) -> str:
        """Record of a task's download."""
        return manifest.manifest_path(self.root, str(self.settings.get("revision")), "{task}").as_posix()

    @cached_property
    def _files(self) -> dict[str, list[str]]:
        """Files of each task that is not downloaded."""
        return {task: [str(path) for path in read_task(self.root, task).files] for task in self.tasks}

    def task_files(self, w: Wildcards) -> list[str]:
        """Return what the targets of a task are made of: the record of its download, or its files."""
        return [self.manifest.format(task=w.task)] if self.downloads else self._files[w.task]

    @cached_property
    def manifests(self) -> dict[str, str]:
        """Task -> the record of its download."""
        return {task: self.manifest.format(task=task) for task in self.tasks if self.downloads}

    def require_tasks(self) -> None:
        """Stop when a task that is not downloaded is missing or malformed, or a downloaded file has changed.

        Raises
        ------
        InputError
            Naming the file.
        """
        if not self.downloads:
            _ = self._files
        for path in self.manifests.values():
            if Path(path).exists():
                manifest.check(self.root, path)

    @cached_property
    def runs(self) -> list[str]:
        """Every ``task/encoder``, encoder by encoder."""
        return [f"{task}/{encoder}" for encoder in self.encoders for task in self.tasks]

    @cached_property
    def outputs(self) -> list[str]:
        """Tables of the benchmark."""
        return ["tables/hest_bench.csv", "tables/hest_bench.md"] if self.tasks else []
