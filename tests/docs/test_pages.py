"""Claims about the README and the documentation: commands work, files exist, numbers are those of the runs."""

import importlib.util
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / name for name in ("README.md", "profiles/README.md", "resources/paper/README.md")]
PAGES += sorted((ROOT / "docs").rglob("*.md"))
LANGUAGES = {"sh", "text", "yaml", "python", "snakemake"}
# What a command may need that a test does not have, as the title of its block says
NEEDS = {
    *("HEST-1k", "a GPU", "a SLURM cluster", "the Hugging Face hub", "the her2st sections", "your data", "root"),
    *("results/demo", "results/arena", "results/her2st", "two idle cores", "minutes"),
}
RUN_BY_CI = {"demo", "lint", "docs", "test", "test-slurm"}


@dataclass(frozen=True)
class Block:
    """Fenced block of a page."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def needs(self) -> list[str]:
        """Return what the commands need according to the title of the block."""
        return self.title.removeprefix("Needs ").split(", ") if self.title and self.title.startswith("Needs ") else []

    @property
    def commands(self) -> list[list[str]]:
        """Split the block into the words of each command, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        parts = [part for line in lines for part in line.split(" && ")]
        return [words for part in parts if (words := shlex.split(part, comments=True))]


def blocks() -> list[Block]:
    """Read all fenced blocks of all pages."""
    found = []
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for match in re.finditer(r"^( *)```(.*)\n((?:.*\n)*?)\1```\n", text, flags=re.MULTILINE):
            language, _, rest = match[2].partition(" ")
            title = re.fullmatch(r'title="([^"]+)"', rest)
            line = text.count("\n", 0, match.start()) + 1
            found.append(Block(page, line, language, title[1] if title else None, match[3]))
    return found


BLOCKS = blocks()
SHELL = [block for block in BLOCKS if block.language == "sh"]


@cache
def run(*command: str) -> subprocess.CompletedProcess:
    """Run a command in the repository, once for all pages that print it."""
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


def expect_success(*command: str) -> None:
    done = run(*command)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"


def check_make(words: list[str]) -> None:
    """Check that a target exists, and that CI runs those that run everything."""
    target = words[1]
    expect_success("make", "--dry-run", target)
    if target in RUN_BY_CI:
        assert re.search(rf"^make {target}$", (ROOT / ".ci/run").read_text(), flags=re.MULTILINE)


def check_snakemake(words: list[str]) -> None:
    """Check that the run can be planned."""
    options = [word for word in words[1:] if word != "--dry-run"]
    expect_success(sys.executable, "-m", "snakemake", *options, "--dry-run", "--quiet", "all")


def check_python(words: list[str]) -> None:
    """Run the command of a module, or collect tests."""
    if words[1:3] == ["-m", "pytest"]:
        expect_success(sys.executable, "-m", "pytest", "--collect-only", "-q", *words[3:])
    else:
        expect_success(sys.executable, *words[1:])


CHECKS = {"make": check_make, ".venv/bin/snakemake": check_snakemake, ".venv/bin/python": check_python}
# Not checked: the address of the repository is the reader's
TAKEN_AS_READ = [["git", "clone"], ["cd", "spotwise"]]


def test_every_block_says_its_language():
    assert not [str(block) for block in BLOCKS if block.language not in LANGUAGES]
    assert len(SHELL) > 15


def test_only_shell_blocks_have_needs_and_all_are_known():
    for block in BLOCKS:
        assert block.title is None or (block.language == "sh" and block.needs), str(block)
        unknown = [need for need in block.needs if re.sub(r"^\w+ (?=minutes)", "", need) not in NEEDS]
        assert not unknown, f"{block}: {unknown}"


@pytest.mark.parametrize("block", [block for block in SHELL if not block.needs], ids=str)
def test_commands_of_a_page_run(block):
    for words in block.commands:
        if words[:2] not in TAKEN_AS_READ:
            assert words[0] in CHECKS, f"{block}: no test knows how to check {shlex.join(words)!r}"
            CHECKS[words[0]](words)


@pytest.mark.parametrize("block", [block for block in SHELL if block.needs], ids=str)
def test_commands_that_cannot_run_here_name_what_exists(block):
    for words in block.commands:
        for before, word in pairwise(words):
            if before == "-m":
                assert importlib.util.find_spec(word), f"{block}: no module {word}"
            if before in ("--configfile", "--workflow-profile") and word not in ("my-config.yaml", "profiles/mine"):
                assert (ROOT / word).exists(), f"{block}: {word}"
        if words[0] == "make":
            expect_success("make", "--dry-run", words[1])


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language == "yaml"], ids=str)
def test_yaml_of_a_page_can_be_read(block):
    assert yaml.safe_load(block.text)


def test_another_workflow_can_use_spotwise_as_the_page_says(tmp_path):
    (block,) = (block for block in BLOCKS if block.language == "snakemake")
    assert "path/to/spotwise/" in block.text
    (tmp_path / "Snakefile").write_text(block.text.replace("path/to/spotwise", str(ROOT)), encoding="utf-8")
    (tmp_path / "my-config.yaml").write_bytes((ROOT / "configs/demo.yaml").read_bytes())
    expect_success(
        *(sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--directory", str(tmp_path)),
        *("--snakefile", str(tmp_path / "Snakefile")),
    )


def named_paths(text: str) -> set[str]:
    """Find the files and folders that a text names in backticks, without those that have placeholders."""
    folders = "configs|docs|src|rules|tests|workflow_scripts|benchmarks|profiles|resources|envs|schemas|report"
    words = {word for code in re.findall(r"`([^`\n]+)`", text) for word in code.split()}
    paths = {word.partition("::")[0] for word in words if re.match(rf"(?:{folders})/", word)}
    return {path for path in paths if not re.search(r"[{}<>*…]|\.\.\.", path)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_page_names_exists(page):
    made_by_the_reader = {"profiles/mine", "profiles/slurm/partitions.yaml", "src/spotwise/models/colour.py"}
    made_by_the_reader |= {"src/spotwise/models/colour_options.py", "tests/models/test_colour.py"}
    text = page.read_text(encoding="utf-8")
    assert not [path for path in sorted(named_paths(text) - made_by_the_reader) if not (ROOT / path).exists()]


def test_the_readme_is_short_and_its_rows_are_those_of_the_demo():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(readme.splitlines()) <= 150
    patient = (ROOT / "docs/results/demo.txt").read_text(encoding="utf-8").split("patient protocol")[1].splitlines()
    (rows,) = re.findall(r"```text\n(.*?)```", readme, flags=re.DOTALL)
    assert len(rows.splitlines()) == 7
    assert not [row for row in rows.splitlines() if row not in patient]


def test_the_site_is_built_without_a_warning_and_needs_no_other_host(tmp_path):
    expect_success(sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site"))
    pages = sorted((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        loaded = re.findall(r"<(?:script|img|link|iframe)[^>]+(?:src|href)=\"(https?:)?//", page.read_text("utf-8"))
        assert not loaded, page
