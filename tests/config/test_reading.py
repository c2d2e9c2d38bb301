"""Values as files and the command line give them."""

import pytest

from spotwise import config as configuration
from spotwise.errors import InputError


def test_values_of_the_command_line_get_their_types():
    from_files = {"seeds": [0], "data": {"images": "auto", "root": "7"}, "cohorts": {"1": {}}}
    config = {
        "seeds": ["0", "1"],
        "data": {"images": "none", "root": "7", "generated": {"unlinked": ["null"], "seed": "3"}},
        "cohorts": {"1": {}},
        "x": ["1e-4", "true"],
    }
    configuration.type_overrides(config, from_files)
    assert config == {
        "seeds": [0, 1],
        "data": {"images": "none", "root": "7", "generated": {"unlinked": ["null"], "seed": 3}},
        "cohorts": {"1": {}},
        "x": [0.0001, True],
    }


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"run: r\nrun: s\n", "line 2: found the key 'run' twice, expected plain YAML, each key once"),
        (b"run: r\ndata:\n\troot: d\n", "line 3: found character '\\t' that cannot start any token, expected blanks "),
        (b"run: r\nnote: caf\xe9\n", "line 2: found no UTF-8, expected YAML in UTF-8"),
        ("run: r\n".encode("utf-16"), "line 1: found no UTF-8, expected YAML in UTF-8"),
        (b"run: r\ndata:\n  root d\n  source: local\n", "line 4: found mapping values are not allowed here, expected"),
        (
            b'run: "r\nsamples: s\n',
            "line 3: found unexpected end of stream, while scanning a quoted scalar from line 1",
        ),
        (b"run: *r\n", "line 1: found undefined alias 'r', expected plain YAML"),
        (b"run: !!python/name:os.system\n", "line 1: found could not determine a constructor for the tag"),
        (b"run: a\x00b\n", "content: found unacceptable character #x0000"),
        (b"- run\n", "top level: found list, expected keys with values"),
        (b"", "top level: found nothing, expected keys with values"),
        (b"__use_yte__: true\n", "__use_yte__: found a program, expected a configuration that runs no Python"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_with_its_line(tmp_path, content, line):
    path = tmp_path / "my.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        configuration.read_config(path)
    assert str(refused.value).startswith(f"{path}: {line}")
    assert "\n" not in str(refused.value)


def test_a_file_that_cannot_be_opened_is_refused_with_the_reason(tmp_path):
    (tmp_path / "my.yaml").mkdir()
    with pytest.raises(InputError, match=r"my\.yaml: configuration: found a folder, expected"):
        configuration.read_config(tmp_path / "my.yaml")
    with pytest.raises(InputError, match=r"no\.yaml: configuration: found no such file, expected"):
        configuration.read_config(tmp_path / "no.yaml")


def test_an_error_of_another_parser_is_explained_where_there_is_a_fault_and_raised_where_not(tmp_path):
    faulty, good = tmp_path / "faulty.yaml", tmp_path / "good.yaml"
    faulty.write_text("a: 1\na: 2\n")
    good.write_text("a: 1\n")
    with pytest.raises(InputError, match="line 2"), configuration.explained(faulty):
        raise RuntimeError("not valid")
    with pytest.raises(RuntimeError, match="not valid"), configuration.explained(good):
        raise RuntimeError("not valid")
    with configuration.explained(faulty):
        pass
