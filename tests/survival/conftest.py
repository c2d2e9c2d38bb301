"""Cleanup of pipelines that a test has started."""

import pytest


@pytest.fixture(autouse=True)
def nothing_left_running():
    """End all processes that the test has launched, orphans included."""
    from running import LAUNCHED

    yield
    while LAUNCHED:
        LAUNCHED.pop().end()
