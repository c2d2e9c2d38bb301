"""The claim that a job imports no heavy library that its work does not need."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
EMBEDDING = {"embed_patches", "embed_bench_patches", "embed_context", "embed_joint"}
NETWORKS = {"train"} | EMBEDDING
FIGURES = {"costs"} | {
    f"draw_{what}" for what in ("cohort_umap", "overview", "section", "slide", "slide_maps", "structure")
}
# Scripts that may import a library when they start; what only part of their work needs is imported there
ALLOWED = {
    "torch": NETWORKS | {"check"},
    "timm": EMBEDDING | {"check"},  # elsewhere with the method built from it
    "matplotlib": FIGURES | {"structure_page"},
    "scanpy": set(),
    "umap": set(),
}
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py"))


def printed_by(code):
    """Output of ``code`` in a new process."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


def imported_by(code):
    """Names in ``sys.modules`` after ``code``."""
    return set(printed_by(f"import sys\n{code}\nprint(*sys.modules)").split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_imports_no_library_that_its_work_does_not_need(script):
    tree = ast.parse((REPOSITORY / f"workflow_scripts/{script}.py").read_text(encoding="utf-8"))
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    modules = imported_by(imports)
    assert not [name for name, scripts in ALLOWED.items() if name in modules and script not in scripts]


def test_the_scripts_named_here_exist():
    assert set().union(*ALLOWED.values()) <= set(SCRIPTS)


def test_the_configuration_is_checked_without_torch_or_scanpy():
    modules = imported_by("import spotwise.config, spotwise.data.hest, spotwise.runtime.code_version")
    assert not {"torch", "scanpy", "anndata", "pandas"} & modules
