"""No test leaves a pipeline running, whatever becomes of it."""

import pytest


@pytest.fixture(autouse=True)
def nothing_left_running():
    """End what the test has launched, orphans included."""
    from running import LAUNCHED

    yield
    while LAUNCHED:
        LAUNCHED.pop().end()
