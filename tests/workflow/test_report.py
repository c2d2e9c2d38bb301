"""Claims about the report: everything in it is captioned and labelled, and no text of a user becomes HTML."""

import re
from pathlib import Path

import pytest
import yaml
from docutils.core import publish_parts
from jinja2 import Environment, StrictUndefined, nodes
from snakemake.api import SnakemakeApi
from snakemake.io import get_flag_value, is_flagged
from snakemake.settings.types import ConfigSettings, OutputSettings, ResourceSettings

from spotwise.config import prepare
from spotwise.data.sample_sheet import read_samples
from spotwise.errors import InputError

ROOT = Path(__file__).parents[2]
CAPTIONS = sorted(path.name for path in (ROOT / "report").glob("*.rst"))
GLOBAL = "workflow.rst"
# as Snakemake builds it, but that a variable that does not exist is an error instead of nothing
JINJA = Environment(trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)


@pytest.fixture(scope="module")
def shown():
    """Every output that the rules mark for the report: rule, path, and the report's settings."""
    found = []
    with SnakemakeApi(OutputSettings()) as api:
        config = ConfigSettings(configfiles=[ROOT / "configs/demo.yaml"])
        workflow = api.workflow(ResourceSettings(), config_settings=config, snakefile=ROOT / "Snakefile", workdir=ROOT)
        for rule in workflow._workflow.rules:
            found += [
                (rule, str(path), get_flag_value(path, "report")) for path in rule.output if is_flagged(path, "report")
            ]
    return found


def caption_of(settings):
    return Path(settings.caption.get_path_or_uri(secret_free=True)).resolve()


def wildcards_in(text):
    return set(re.findall(r"{(\w+)(?:,[^}]*)?}", text))


# --- every file -------------------------------------------------------------------------------------------------------


def test_everything_in_the_report_has_a_caption_a_category_and_labels(shown):
    assert len(shown) > 15
    for _, path, settings in shown:
        assert caption_of(settings).is_file(), path
        assert settings.category, path
        assert settings.labels, path
        assert all(isinstance(text, str) and text for text in (*settings.labels, *settings.labels.values())), path


def test_every_caption_is_shown(shown):
    assert {caption_of(settings).name for _, _, settings in shown} == {*CAPTIONS} - {
        GLOBAL,
        "hest_bench.rst",
    }  # of a run of that benchmark


def test_labels_name_only_wildcards_of_their_file_and_tell_files_apart(shown):
    seen = set()
    for _, path, settings in shown:
        texts = [settings.category, *settings.labels.values()]
        used = set().union(*map(wildcards_in, texts))
        assert used == wildcards_in(path), path
        key = (settings.category, *sorted(settings.labels.items()))
        assert key not in seen, path
        seen.add(key)


# --- captions ---------------------------------------------------------------------------------------------------------


class Snakemake:
    """What a caption may ask for: the wildcards of its file, and the configuration."""

    def __init__(self, wildcards):
        self.wildcards = Wildcards({name: f"some{name}" for name in wildcards})
        self.config = {"run": "somerun"}


class Wildcards(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.fixture(scope="module")
def links(shown):
    """Link targets that Snakemake adds to every caption: its categories and the names of the files."""
    names = {settings.category for _, _, settings in shown} | {Path(path).name for _, path, _ in shown}
    return "\n\n" + "".join(f".. _{name}: javascript:app.show('{name}')\n" for name in sorted(names))


def html(caption, snakemake, links):
    text = (ROOT / "report" / caption).read_text(encoding="utf-8") + links
    # 2: warnings, as of an unclosed mark, a link to nowhere or a target given twice, are errors
    settings = {"halt_level": 2, "report_level": 5}
    rendered = JINJA.from_string(text).render(snakemake=snakemake)
    return publish_parts(rendered, writer="html", settings_overrides=settings)["html_body"]


def test_captions_render_with_the_wildcards_of_their_file_and_name_them(shown, links):
    for _, path, settings in shown:
        page = html(caption_of(settings).name, Snakemake(wildcards_in(path)), links)
        assert len(re.sub(r"<[^>]+>", "", page)) > 150, settings.caption
        for name in wildcards_in(path):
            assert f"some{name}" in page, (path, name)


def test_the_title_page_renders_names_the_run_and_links_to_what_every_run_has(links):
    page = html(GLOBAL, Snakemake([]), links)
    assert "somerun" in page
    assert len(re.findall(r'href="javascript:app.show', page)) == 6


def test_a_variable_that_does_not_exist_is_found():
    with pytest.raises(Exception, match="cohrt"):
        JINJA.from_string("{{ snakemake.wildcards.cohrt }}").render(snakemake=Snakemake(["cohort"]))


# --- text of users ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("caption", CAPTIONS)
def test_captions_print_wildcards_and_the_name_of_the_run_alone(caption):
    tree = JINJA.parse((ROOT / "report" / caption).read_text(encoding="utf-8"))
    for output in tree.find_all(nodes.Output):
        for node in output.nodes:
            if isinstance(node, nodes.TemplateData):
                continue
            owner = node.node
            assert isinstance(owner, nodes.Getattr), caption
            assert isinstance(owner.node, nodes.Name)
            assert owner.node.name == "snakemake"
            assert owner.attr == "wildcards" or (owner.attr == "config" and node.arg.value == "run"), caption


MARKUP = ["<b>x</b>", "</script>", "`x <javascript:x>`_", "a|b", ".. raw::"]


@pytest.mark.parametrize("text", MARKUP)
@pytest.mark.parametrize("column", ["sample", "cohort"])
def test_names_that_become_wildcards_hold_no_markup(tmp_path, column, text):
    row = {"sample": "S1", "cohort": "c", "patient": "p"} | {column: text}
    path = tmp_path / "samples.tsv"
    path.write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    with pytest.raises(InputError, match=column):
        read_samples(path)


def demo(**changes):
    config = yaml.safe_load((ROOT / "configs/demo.yaml").read_text(encoding="utf-8"))
    config["samples"] = str(ROOT / config["samples"])
    return config | changes


@pytest.mark.parametrize(
    ("place", "change"),
    [
        ("run", {"run": "</script>"}),
        ("methods", {"methods": {"</script>": {"model": "STNet"}}}),
        ("cohorts.demo.markers", {"cohorts": {"demo": {"markers": ["</script>"]}}}),
        ("cohorts.demo.genes", {"cohorts": {"demo": {"genes": ["</script>"]}}}),
        ("encoders", {"encoders": {"resnet18": {"timm": "resnet18"}, "</script>": {"timm": "resnet18"}}}),
        ("encoders.x.timm", {"encoders": {"x": {"timm": "</script>"}}}),
        ("methods.STNet.options.pretrained", {"methods": {"STNet": {"options": {"pretrained": "</script>"}}}}),
    ],
)
def test_what_the_report_prints_of_the_configuration_holds_no_markup(place, change):
    """Snakemake writes parameters of the jobs into a script of its page as they are."""
    with pytest.raises(InputError, match=f"{place}: found '</script>'|{place}.</script>: found"):
        prepare(demo(**change))
