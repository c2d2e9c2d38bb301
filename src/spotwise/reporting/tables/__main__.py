"""Print a table: ``python -m spotwise.reporting.tables results/demo/tables/table1.csv``."""

import sys

from spotwise.errors import InputError
from spotwise.reporting.tables import read_page
from spotwise.reporting.tables.layout import console

if __name__ == "__main__":
    try:
        print(console(read_page(sys.argv[1])), end="")
    except InputError as error:
        sys.exit(str(error))
