"""Values as files and the command line give them."""

from spotwise import config as configuration


def test_values_of_the_command_line_get_their_types():
    given = {
        "seeds": ["0", "1"],
        "data": {"images": "none", "generated": {"unlinked": ["null"]}},
        "x": ["1e-4", "true"],
    }
    assert configuration.typed(given) == {
        "seeds": [0, 1],
        "data": {"images": "none", "generated": {"unlinked": ["null"]}},
        "x": [0.0001, True],
    }
    assert configuration.typed(3) == 3
