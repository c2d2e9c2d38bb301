"""Claims about the chart of training costs."""

import numpy as np
import pandas as pd
import pytest

from drawing import misplaced
from spotwise.reporting.figures import style
from spotwise.reporting.figures.cost_chart import draw_training_costs


@pytest.fixture
def jobs():
    """List four trainings, one without a time, two fits, one without a time, and two embedded slides."""
    return pd.DataFrame(
        [
            ("CMRCNet", "training", 100, "GPU X", 3),
            ("CMRCNet", "training", 300, "GPU Y", 5),
            ("CMRCNet", "training", np.nan, "GPU X", 1),
            ("CMRCNet", "training", 800, "GPU X", 1),
            ("Ridge", "fit", 2.5, "cpu", np.nan),
            ("Ridge", "fit", np.nan, "cpu", np.nan),
            ("resnet18", "embedding", 20, "", np.nan),
            ("resnet18", "embedding", 40, "", np.nan),
        ],
        columns=["name", "step", "seconds", "device", "peak_gpu_gib"],
    )


def test_every_timed_job_is_a_point_and_the_median_a_bar(jobs):
    fig = draw_training_costs(jobs, style.method_looks(["CMRCNet", "Ridge"]))
    (ax,) = fig.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [
        "CMRCNet",
        "Ridge, fit",
        "resnet18, a slide embedded",
    ]
    points = [line for line in ax.lines if line.get_marker() == "o"]
    assert [sorted(line.get_xdata()) for line in points] == [[100, 300, 800], [2.5], [20, 40]]
    assert points[0].get_color() == style.METHOD_COLOURS["CMRCNet"]
    bars = [line.get_xdata()[0] for line in ax.lines if line.get_linewidth() == 1]
    assert bars == [300, 2.5, 30]
    assert [text.get_text() for text in ax.texts] == [
        "4 jobs (3 timed), 0.33 h, GPU X; GPU Y",
        "2 jobs (1 timed), 0.00069 h, cpu",
        "2 jobs, 0.017 h",
    ]
    assert misplaced(fig) == []


def test_costs_without_any_time_are_drawn(jobs):
    fig = draw_training_costs(jobs.assign(seconds=np.nan), style.method_looks(["CMRCNet", "Ridge"]))
    assert fig.axes[0].texts[0].get_text() == "4 jobs (0 timed), –, GPU X; GPU Y"
