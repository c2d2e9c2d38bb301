"""Layout of the HEST benchmark: the slides, folds and genes of a task.

A task is a folder with ``splits/train_{k}.csv`` and ``splits/test_{k}.csv`` for each fold k, which name the files of
patches and counts of every slide, and with ``var_50genes.json``, which lists the genes to predict (Jaume et al.,
HEST-1k, NeurIPS 2024; MahmoodLab/hest-bench on the Hugging Face hub).
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from spotwise.errors import InputError
from spotwise.runtime.input_files import known_content, unreadable

PARTS = ("train", "test")
GENES_FILE = "var_50genes.json"
COLUMNS = ("sample_id", "patches_path", "expr_path")
SPLIT = re.compile(r"(train|test)_(0|[1-9]\d*)\.csv")
# Files of a task that the protocol reads; a task's folder in the repository also has pictures and former versions
TASK_FILES = re.compile(rf"adata/[^/]+\.h5ad|patches/[^/]+\.h5|splits/{SPLIT.pattern}|{re.escape(GENES_FILE)}")
SAMPLE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


@dataclass(frozen=True)
class BenchFold:
    """Ids of a fold's training and test slides, in the order of the split files."""

    train: tuple[str, ...]
    test: tuple[str, ...]


@dataclass(frozen=True)
class BenchTask:
    """A task of the benchmark.

    Attributes
    ----------
    folder
        Folder of the task.
    genes
        Genes to predict, in the order of `GENES_FILE`.
    folds
        Folds by their number.
    counts, patches
        Files of each slide by its id.
    """

    folder: Path
    genes: tuple[str, ...]
    folds: tuple[BenchFold, ...]
    counts: dict[str, Path]
    patches: dict[str, Path]

    @property
    def files(self) -> list[Path]:
        """All files of the task."""
        splits = [self.folder / "splits" / f"{part}_{k}.csv" for k in range(len(self.folds)) for part in PARTS]
        return [self.folder / GENES_FILE, *splits, *self.counts.values(), *self.patches.values()]


def read_task(root: str | Path, name: str) -> BenchTask:
    """Read the folds, genes and file names of a task.

    Raises
    ------
    InputError
        The folder, a split, a file of a slide or the list of genes is missing or malformed, a slide stands on both
        sides of a fold, or an id has other files in another fold.
    """
    folder = Path(root) / name
    if not folder.is_dir():
        expected = f"the folder of the task {name}, as in MahmoodLab/hest-bench; hest_bench.revision downloads it"
        raise InputError(folder, "task", "no folder", expected)
    genes = _read_genes(folder / GENES_FILE)
    counts: dict[str, Path] = {}
    patches: dict[str, Path] = {}
    folds = []
    for train_csv, test_csv in _split_files(folder / "splits"):
        ids = []
        for path in (train_csv, test_csv):
            rows = list(_read_split(path, folder))
            for sample, patch_file, count_file in rows:
                for files, file, column in ((patches, patch_file, "patches_path"), (counts, count_file, "expr_path")):
                    if files.setdefault(sample, file) != file:
                        expected = f"{files[sample].relative_to(folder)}, as in another split"
                        raise InputError(path, f"{column} of {sample}", file.relative_to(folder), expected)
            ids.append(tuple(sample for sample, _, _ in rows))
        fold = BenchFold(*ids)
        _refuse_shared(fold, counts, patches, test_csv)
        folds.append(fold)
    return BenchTask(folder, genes, tuple(folds), counts, patches)


def _refuse_shared(fold: BenchFold, counts: dict[str, Path], patches: dict[str, Path], test_csv: Path) -> None:
    """Refuse a slide on both sides of a fold, by its id or by its files."""
    expected = f"other slides than those of {test_csv.name.replace('test', 'train')}"
    if shared := [sample for sample in fold.test if sample in fold.train]:
        raise InputError(test_csv, "sample_id", f"{shared[0]}, which is trained on", expected)
    for files in (counts, patches):
        trained = {files[sample]: sample for sample in fold.train}
        for sample in fold.test:
            if other := trained.get(files[sample]):
                raise InputError(test_csv, sample, f"the file of {other}, which is trained on", expected)


# --- Parts ------------------------------------------------------------------------------------------------------------


def _split_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the files of training and test slides of each fold."""
    names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    numbers = {int(match[2]) for match in map(SPLIT.fullmatch, names) if match}
    if not numbers:
        raise InputError(folder, "splits", "none", "train_0.csv and test_0.csv, and so on for each fold")
    for number in range(max(numbers) + 1):
        pair = (folder / f"train_{number}.csv", folder / f"test_{number}.csv")
        for path in pair:
            if path.name not in names:
                expected = f"train_{{k}}.csv and test_{{k}}.csv for every k from 0 to {max(numbers)}"
                raise InputError(folder, "splits", f"no {path.name}", expected)
        yield pair


def _read_split(path: Path, folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield id, patch file and file of counts of every slide in a split."""
    lines = csv.DictReader(_text(path, "a split in CSV").splitlines())
    if missing := [column for column in COLUMNS if column not in (lines.fieldnames or ())]:
        found = ", ".join(lines.fieldnames or ()) or "nothing"
        raise InputError(path, "columns", found, f"{', '.join(COLUMNS)} (no {missing[0]})")
    seen = set()
    for row in lines:
        sample = (row["sample_id"] or "").strip()
        place = f"line {lines.line_num}"
        if not SAMPLE_ID.fullmatch(sample):
            expected = "the id of a slide, of letters, digits, '.', '-' and '_'"
            raise InputError(path, place, repr(sample), expected)
        if sample in seen:
            raise InputError(path, place, f"{sample} again", "each slide once")
        seen.add(sample)
        yield sample, _file(path, place, row, folder, "patches_path"), _file(path, place, row, folder, "expr_path")
    if not seen:
        raise InputError(path, "rows", "none", "a slide in each row")


def _file(path: Path, place: str, row: dict[str, str | None], folder: Path, column: str) -> Path:
    relative = PurePosixPath((row[column] or "").strip())
    if relative.is_absolute() or ".." in relative.parts or not relative.parts:
        raise InputError(path, f"{place}, {column}", repr(row[column]), "a path below the folder of the task")
    file = folder / relative
    if not file.is_file():
        raise InputError(path, f"{place}, {column}", f"{relative}, which does not exist", f"a file below {folder}")
    return file


def _read_genes(path: Path) -> tuple[str, ...]:
    """Read the list of genes."""
    expected = '{"genes": [...]} with the symbol of each gene, once'
    text = _text(path, "the genes to predict as JSON")
    try:
        content = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        found, remedy = known_content(text.encode()) or ("no JSON", "")
        raise InputError(path, "genes", found, "; ".join(filter(None, (expected, remedy)))) from None
    genes = content.get("genes") if isinstance(content, dict) else None
    if not isinstance(genes, list) or not genes:
        keys = ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        raise InputError(path, "genes", f"no list of genes ({keys or 'an empty object'})", expected)
    for place, gene in enumerate(genes):
        if not isinstance(gene, str) or not gene.strip() or gene in genes[:place]:
            repeated = isinstance(gene, str) and gene in genes[:place]
            raise InputError(path, f"gene {place}", f"{gene!r} again" if repeated else repr(gene), expected)
    return tuple(genes)


def _text(path: Path, expected: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, "file", error, expected) from None
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "a byte that is not UTF-8", expected) from None
