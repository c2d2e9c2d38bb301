"""Errors of Snakemake itself that a user can repair, in one line instead of a traceback."""

from __future__ import annotations

import argparse
import re

OF_CONFIGURATION = ("load_configfile", "Config file ")
SYSTEM = re.compile(r": \[Errno \d+\] (?P<reason>.+?): '(?P<path>.+)'$", re.MULTILINE)
RECORDS = re.compile(r"^(?P<folder>.*?/?\.snakemake)(/|$)")
LOG = "Failed to setup log file: "


def refusal(text: str, arguments: list[str]) -> str | None:
    """Return the line for an error message of Snakemake, or ``None`` where the message is clear or not a user's fault.

    Parameters
    ----------
    text
        Snakemake's message, often a traceback.
    arguments
        Of the command line.
    """
    if any(mark in text for mark in OF_CONFIGURATION) and (line := configuration_fault(arguments)):
        return f"Error: {line}"
    if text.startswith(LOG) and (found := SYSTEM.search(text)):
        return f"Warning: {found['path']}: {found['reason']}: this run has no full log"
    if text.startswith("Traceback ") and (found := SYSTEM.search(text)):
        place, remedy = found["path"], None
        if records := RECORDS.match(place):
            place, remedy = (
                records["folder"],
                "Snakemake keeps its records there; start in a folder of yours",
            )
        elif "/.cache" in place:
            remedy = "set XDG_CACHE_HOME to a folder of yours, for the caches of Snakemake and the libraries"
        return "Error: " + ": ".join(filter(None, (place, found["reason"], remedy)))
    return None


def configuration_fault(arguments: list[str]) -> str | None:
    """Return what is wrong with a file named by ``--configfile``, which Snakemake reads before the workflow."""
    from spotwise.config.reading import read_config  # the run ends here
    from spotwise.errors import InputError

    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--configfile", "--configfiles", nargs="+", action="extend", default=[], dest="files")
    files = parser.parse_known_args(arguments)[0].files
    for number, path in enumerate(files):
        try:
            read_config(path)
        except InputError as error:
            return f"{error}; targets stand before --configfile" if number else str(error)
    return None
