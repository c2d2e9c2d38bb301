"""The access token of the Hugging Face hub."""

from __future__ import annotations

import os
import re

from spotwise.errors import SetupError

TOKEN_VARIABLE = "HF_TOKEN"


def token_from_environment() -> str:
    """Return the token in ``HF_TOKEN``, the only place that is read.

    Raises a `SetupError` that never contains it if it is missing or malformed.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise SetupError(
            f"{TOKEN_VARIABLE} is not set: HEST-1k is gated. Accept its terms on the dataset's page, create an access "
            f"token with read permission in your account's settings, and run: export {TOKEN_VARIABLE}=<token>"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise SetupError(f"{TOKEN_VARIABLE} holds blanks or characters that no token has: copy the token again")
    return token


def optional_token() -> str:
    """Return the token in ``HF_TOKEN``, ``""`` where it is not set, for datasets that may be open to all."""
    return token_from_environment() if os.environ.get(TOKEN_VARIABLE, "").strip() else ""
