"""Measure everything, or the modules named as arguments, and write ``RESULTS.md``."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

from benchmarks.machine import Machine
from benchmarks.table import markdown
from spotwise.runtime.files import write_text

MODULES = (
    "retrieval", "large_bank", "patches", "correlation", "expression", "training", "planning", "startup", "demo",
)  # fmt: skip
RESULTS = Path(__file__).with_name("RESULTS.md")

if __name__ == "__main__":
    began = time.perf_counter()
    machine = Machine.measure()
    rows = []
    for name in sys.argv[1:] or MODULES:
        started = time.perf_counter()
        rows += import_module(f"benchmarks.{name}").rows(machine)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)
    text = markdown(machine, rows, time.perf_counter() - began)
    if sys.argv[1:]:
        print(text)
    else:
        write_text(RESULTS, text)
