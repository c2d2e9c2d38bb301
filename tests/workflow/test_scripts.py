"""Scripts and rules agree on the names of inputs, outputs and parameters."""

import ast
from pathlib import Path

import pytest
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

ROOT = Path(__file__).parents[2]
SCRIPTS = {path.stem: path for path in (ROOT / "workflow_scripts").glob("*.py")}
PARTS = ("input", "output", "params")
# asked of any list of files, whatever the names in it
METHODS = {"get", "keys"}


@pytest.fixture(scope="module")
def rules():
    """Names of inputs, outputs and parameters of the rules of five configurations."""
    found = {}
    downloaded = {"configs/hest_bench.yaml": {"hest_bench": {"revision": "a" * 40}}}
    examples = ("config.yaml", "configs/demo.yaml", "configs/structure.yaml", "configs/external.yaml")
    for name in (*examples, *downloaded):
        with SnakemakeApi(OutputSettings()) as api:
            config = ConfigSettings(configfiles=[ROOT / name], config=downloaded.get(name, {}))
            workflow = api.workflow(
                ResourceSettings(), config_settings=config, snakefile=ROOT / "Snakefile", workdir=ROOT
            )
            for rule in workflow._workflow.rules:
                if rule.script:
                    names = {part: {key for key, _ in getattr(rule, part)._allitems() if key} for part in PARTS}
                    found[name, rule.name] = Path(rule.script).stem, names
    return found


def attributes(script):
    """Yield (part, x) for what a script reads as ``snakemake.part.x``, directly or through a variable."""
    tree = ast.parse(SCRIPTS[script].read_text(encoding="utf-8"))
    called = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            targets, values = node.targets[0], node.value
            pairs = (
                zip(targets.elts, values.elts, strict=True)
                if isinstance(targets, ast.Tuple) and isinstance(values, ast.Tuple)
                else [(targets, values)]
            )
            for target, value in pairs:
                if ast.unparse(value).startswith("snakemake.") and ast.unparse(value).count(".") == 1:
                    called[ast.unparse(target)] = ast.unparse(value)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            base = ast.unparse(node.value)
            part = called.get(base, base).removeprefix("snakemake.")
            known = base != part or base in called
            if known and part in PARTS and node.attr not in METHODS:
                yield part, node.attr


def test_every_script_belongs_to_a_rule(rules):
    assert {script for script, _ in rules.values()} == set(SCRIPTS)


def test_every_name_that_a_script_reads_is_given_by_each_of_its_rules(rules):
    optional = {"ceiling_pdf", "ceiling_png", "curves_pdf", "curves_png", "neighbours_pdf", "neighbours_png"}
    optional |= {"protocols_pdf", "protocols_png", "folds", "training_folds", "seeds", "sweep"}  # asked for by `get`
    missing = {
        (rule, part, name)
        for (_, rule), (script, names) in rules.items()
        for part, name in attributes(script)
        if name not in names[part] and name not in optional
    }
    assert missing == set()


def test_a_wrong_name_would_be_found(rules):
    assert ("output", "umap_png") in set(attributes("draw_cohort_umap"))
    assert ("params", "top") in set(attributes("tables"))
    assert ("input", "scores") in set(attributes("comparisons"))


def test_patches_are_cut_again_by_another_version_of_what_reads_slides(rules):
    _, names = rules["configs/demo.yaml", "extract_patches"]
    assert {"readers", "code"} <= names["params"]
