"""Claims about the prediction of a slide that need no model."""

from types import SimpleNamespace

import pytest

from spotwise.inference.slide_prediction import FEW_SPOTS, few_spots


@pytest.mark.parametrize(
    ("method", "features", "n", "warned"),
    [
        ("ContextRidge", "raw", 1, True),
        ("ContextRidge", "raw", FEW_SPOTS, False),
        ("Ridge", "slide_centred", 5, True),
        ("Ridge", "raw", 1, False),
        ("CMRCNet", "raw", 1, False),
    ],
)
def test_few_spots_are_warned_about_where_a_spot_is_seen_relative_to_its_slide(method, features, n, warned):
    said = few_spots(SimpleNamespace(method=method, features=features), n)
    assert bool(said) == warned
    if warned:
        assert said.startswith(f"{n} spot{'s are' if n > 1 else ' is'} few for {method}")
