"""Claims about the README and the documentation: commands work, files exist, numbers are those of the runs."""

import importlib.util
import os
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import dataclass
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
    *("results/demo", "results/arena", "results/her2st", "two idle cores", "minutes", "the predictions"),
    "HEST-Benchmark",
}
RUN_BY_CI = {"demo", "lint", "docs", "test", "test-squidpy", "test-slurm"}


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


# The address of the repository is the reader's
NOT_CHECKED = [["git", "clone"], ["cd", "spotwise"]]


def runnable(program: str) -> list[tuple[str, ...]]:
    """List the commands of a program that pages print without needs, each once."""
    commands = [tuple(words) for block in SHELL if not block.needs for words in block.commands if words[0] == program]
    return list(dict.fromkeys(commands))


PLANS = [words[1:] for words in runnable(".venv/bin/snakemake")]
WHOLE_PAPER = ("--dry-run", "--quiet", "rules")
PYTHON = [words[1:] for words in runnable(".venv/bin/python")]
PYTEST = [words[2:] for words in PYTHON if words[:2] == ("-m", "pytest")]


def expect_success(*command: str) -> str:
    """Run a command in the repository with its own code, and return what it prints."""
    code = os.pathsep.join(filter(None, [str(ROOT / "src"), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": code})
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


def plan(*options: str) -> str:
    """Plan a run and return the number of jobs of each rule."""
    kept = [option for option in options if option != "--dry-run"]
    quiet = [] if "--quiet" in kept else ["--quiet", "rules"]
    return expect_success(sys.executable, "-m", "snakemake", *kept, "--dry-run", *quiet)


def test_every_block_says_its_language():
    assert not [str(block) for block in BLOCKS if block.language not in LANGUAGES]
    assert len(SHELL) > 15


def test_only_shell_blocks_have_needs_and_all_are_known():
    for block in BLOCKS:
        assert block.title is None or (block.language == "sh" and block.needs), str(block)
        unknown = [need for need in block.needs if re.sub(r"^\w+ (?=minutes)", "", need) not in NEEDS]
        assert not unknown, f"{block}: {unknown}"


def test_every_command_without_needs_is_checked():
    checked = {".venv/bin/snakemake", ".venv/bin/python", "make"}
    for block in SHELL:
        for words in block.commands if not block.needs else []:
            assert words[0] in checked or words[:2] in NOT_CHECKED, f"{block}: {shlex.join(words)}"


def test_targets_of_make_exist_and_ci_makes_those_that_run_everything():
    targets = sorted({words[1] for block in SHELL for words in block.commands if words[0] == "make"})
    # whatever the state of the environment, nothing is installed
    expect_success("make", "--dry-run", "--old-file", ".venv/installed", *targets)
    made = re.findall(r"^make (\S+)$", (ROOT / ".ci/run").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert not RUN_BY_CI.intersection(targets).difference(made)


@pytest.mark.parametrize("options", [options for options in PLANS if options != WHOLE_PAPER], ids=shlex.join)
def test_runs_of_the_pages_can_be_planned(options):
    plan(*options)


def test_every_cohort_of_the_paper_can_be_planned():
    assert WHOLE_PAPER in PLANS
    plan(*WHOLE_PAPER, "--config", "seeds=[0]", "protocols=[patient]")


@pytest.mark.long
def test_the_whole_paper_has_the_number_of_jobs_that_the_page_says():
    (jobs,) = re.findall(r"the paper has ([\d,]+) jobs", (ROOT / "docs/performance.md").read_text(encoding="utf-8"))
    assert re.search(r"^total +(\d+)$", plan(*WHOLE_PAPER), flags=re.MULTILINE)[1] == jobs.replace(",", "")


@pytest.mark.parametrize("words", [words for words in PYTHON if words[2:] not in PYTEST], ids=shlex.join)
def test_modules_of_the_pages_run(words):
    expect_success(sys.executable, *words)


def test_tests_of_the_pages_can_be_collected():
    files = {word for words in PYTEST for word in words if word.startswith("tests/")}
    collected = expect_success(sys.executable, "-m", "pytest", "--collect-only", "--quiet", *sorted(files))
    assert files == {line.partition("::")[0] for line in collected.splitlines() if "::" in line}
    long = [words for words in PYTEST if words[-2:] == ("-m", "long")]
    assert long
    assert all("pytest.mark.long" in (ROOT / words[0]).read_text(encoding="utf-8") for words in long)


@pytest.mark.parametrize("block", [block for block in SHELL if block.needs], ids=str)
def test_commands_that_cannot_run_here_name_what_exists(block):
    for words in block.commands:
        for before, word in pairwise(words):
            if before == "-m":
                assert importlib.util.find_spec(word), f"{block}: no module {word}"
            if before in ("--configfile", "--workflow-profile") and word not in ("my-config.yaml", "profiles/mine"):
                assert (ROOT / word).exists(), f"{block}: {word}"


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


def test_the_layout_lists_the_packages_in_the_order_in_which_they_may_import():
    page = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (layers,) = (one["layers"] for one in project["tool"]["importlinter"]["contracts"] if one["type"] == "layers")
    lowest, *packages = reversed(layers)
    assert lowest == "constants | errors"
    assert re.findall(r"^  (\w+)/ ", page, flags=re.MULTILINE) == packages


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
