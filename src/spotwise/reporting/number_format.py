"""Numbers as figures and pages print them."""

from __future__ import annotations

import numpy as np


def number(value: float) -> str:
    """Format a correlation with two decimals and a minus sign, NaN as a dash."""
    rounded = round(float(value), 2) + 0.0  # no minus at a rounded zero
    return "–" if np.isnan(value) else f"{rounded:.2f}".replace("-", "−")
