"""Claims about the access token."""

import pytest

from spotwise.data.credentials import token_from_environment
from spotwise.errors import SetupError


def test_token_comes_from_the_environment_without_surrounding_blanks(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " hf_abc\n")
    assert token_from_environment() == "hf_abc"


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_missing_token_stops_with_the_remedy(monkeypatch, value):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(SetupError, match=r"HF_TOKEN is not set.*terms.*export HF_TOKEN="):
        token_from_environment()


@pytest.mark.parametrize("value", ["hf_abc hf_def", "hf_abc\nX-Evil: 1", "hf_ä"])
def test_malformed_token_is_refused_without_showing_it(monkeypatch, value):
    monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(SetupError, match="copy the token again") as raised:
        token_from_environment()
    assert "hf_" not in str(raised.value)
