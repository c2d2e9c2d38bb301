"""Claims about paths in the configuration: the home folder and variables are expanded, other names are left alone."""

import copy

import pytest

from spotwise.config.settings import Config
from spotwise.errors import InputError
from spotwise.models.ctranspath_options import CTransPathOptions
from spotwise.runtime.validation import fill, validated

CONFIG = {
    "run": "r",
    "samples": "samples.tsv",
    "data": {"source": "local", "root": "data"},
    "cohorts": {"c": {}},
    "encoders": {"e": {"timm": "x", "checkpoint": "w.pt"}},
    "structure": {"spaces": ["Expression"], "domains": 2, "labels": {"column": "d", "file": "{sample}.csv"}},
}


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/zoe")
    monkeypatch.setenv("DISK_2", "/disk")
    monkeypatch.delenv("NOWHERE", raising=False)


def as_configured(**paths):
    """Return the configuration that a run holds, with some paths as a user writes them."""
    config = copy.deepcopy(CONFIG)
    for place, path in paths.items():
        *sections, key = place.split("__")
        section = config
        for name in sections:
            section = section[name]
        section[key] = path
    fill(config, validated(Config, config, "my.yaml"))
    return config


def root(path):
    return as_configured(data__root=path)["data"]["root"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("~/data", "/home/zoe/data"),
        ("~", "/home/zoe"),
        ("$HOME/data", "/home/zoe/data"),
        ("${HOME}/data", "/home/zoe/data"),
        ("$DISK_2/her2st", "/disk/her2st"),
        ("/scratch/${DISK_2}2", "/scratch//disk2"),
        ("it's my data (copy)/Zoë", "it's my data (copy)/Zoë"),
        ("a~b/costs 5$", "a~b/costs 5$"),
        ("../plain/data", "../plain/data"),
    ],
)
def test_a_path_is_expanded_as_a_shell_does(written, meant):
    assert root(written) == meant


def test_every_path_of_the_configuration_is_expanded():
    config = as_configured(
        samples="~/s.tsv", encoders__e__checkpoint="$DISK_2/w.pt", structure__labels__file="$HOME/{sample}.csv"
    )
    assert config["samples"] == "/home/zoe/s.tsv"
    assert config["encoders"]["e"]["checkpoint"] == "/disk/w.pt"
    assert config["structure"]["labels"]["file"] == "/home/zoe/{sample}.csv"
    assert CTransPathOptions(checkpoint="~/w.pt").checkpoint == "/home/zoe/w.pt"


@pytest.mark.parametrize(
    ("written", "line"),
    [
        ("$NOWHERE/data", "found '$NOWHERE/data', expected a path; the environment has no variable NOWHERE"),
        ("/a/${NOWHERE}", "found '/a/${NOWHERE}', expected a path; the environment has no variable NOWHERE"),
        ("~nobody0/data", "found '~nobody0/data', expected a path; this machine has no home folder for ~nobody0"),
        ("data/{sample}", "found 'data/{sample}', expected a path without braces"),
    ],
)
def test_a_path_that_means_nothing_here_is_refused_in_one_line(written, line):
    with pytest.raises(InputError) as refused:
        root(written)
    assert str(refused.value).startswith(f"my.yaml: data.root: {line}")


def test_a_dollar_in_the_name_of_an_existing_folder_is_no_variable(tmp_path):
    (tmp_path / "my$NOWHERE").mkdir()
    assert root("my$NOWHERE") == "my$NOWHERE"
