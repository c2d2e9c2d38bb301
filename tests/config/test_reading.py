"""Values as files and the command line give them."""

from spotwise import config as configuration


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
