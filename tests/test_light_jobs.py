"""The claim that jobs without torch or scanpy in their work do not pay for importing them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = {
    "torch": {"train", "build_bank", "embed_patches", "predict_spots", "embed_joint"},
    "scanpy": {"prepare_expression", "assemble_fold"},
}
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py"))


def imported_by(code):
    """Names in ``sys.modules`` after ``code``, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{code}\nprint(*sys.modules)"],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_imports_torch_or_scanpy_only_where_it_works_with_them(script):
    tree = ast.parse((REPOSITORY / f"workflow_scripts/{script}.py").read_text(encoding="utf-8"))
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    allowed = {name for name, scripts in HEAVY.items() if script in scripts}
    assert imported_by(imports) & set(HEAVY) <= allowed


def test_the_configuration_is_checked_without_torch_or_scanpy():
    modules = imported_by("import spotwise.config, spotwise.hest, spotwise.provenance")
    assert not {"torch", "scanpy", "anndata", "pandas"} & modules
