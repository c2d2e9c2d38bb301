"""The claim that jobs without torch or scanpy in their work do not pay for importing them."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
HEAVY = {
    "torch": {"train", "build_bank", "embed_patches"},
    "scanpy": {"prepare_expression", "assemble_fold"},
}
SCRIPTS = sorted(path.stem for path in (REPOSITORY / "workflow_scripts").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_job_imports_torch_or_scanpy_only_where_it_works_with_them(script):
    tree = ast.parse((REPOSITORY / f"workflow_scripts/{script}.py").read_text(encoding="utf-8"))
    imports = "\n".join(ast.unparse(node) for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom))
    check = f"import sys\n{imports}\nprint(*({set(HEAVY)} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", check],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {name for name, scripts in HEAVY.items() if script in scripts}


def test_the_configuration_is_checked_without_torch_or_scanpy():
    check = "import sys, spotwise.config, spotwise.hest, spotwise.provenance; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", check],
        env={"PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"torch", "scanpy", "anndata", "pandas"} & set(done.stdout.split())
