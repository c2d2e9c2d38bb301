"""Print a table of a run: ``python -m spotwise.reporting.tables results/demo/tables/table1.csv``."""

from __future__ import annotations

import argparse

from spotwise.errors import InputError
from spotwise.reporting.tables import PAGES, read_page
from spotwise.reporting.tables.layout import console

PROGRAM = "python -m spotwise.reporting.tables"


def main() -> None:
    """Print the table of a CSV file, or one line that says what is wrong."""
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Print a table of a run.")
    parser.add_argument("file", nargs="?", metavar="FILE", help=f"CSV file of a table: {', '.join(PAGES)}")
    file = parser.parse_args().file
    if file is None:
        parser.exit(2, f"{PROGRAM}: no file given; name a table such as results/demo/tables/table1.csv\n")
    try:
        page = read_page(file)
    except InputError as error:
        parser.exit(1, f"{error}\n")
    print(console(page), end="")


if __name__ == "__main__":
    main()
