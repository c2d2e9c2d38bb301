"""Write the JSON schemas or print the reference: ``python -m spotwise.config schema`` and ``... reference``."""

from __future__ import annotations

import argparse

from spotwise.config import json_schemas, reference
from spotwise.errors import InputError


def main() -> None:
    """Run the command that the arguments name."""
    parser = argparse.ArgumentParser(prog="python -m spotwise.config", description="Settings as schemas and as a page.")
    subparsers = parser.add_subparsers(dest="command", required=True)
    schema = subparsers.add_parser("schema", help="write the JSON schemas")
    schema.add_argument("folder", nargs="?", default="schemas", help="where to write them (schemas)")
    subparsers.add_parser("reference", help="print the configuration reference as Markdown")
    given = parser.parse_args()
    if given.command == "schema":
        try:
            json_schemas.write(given.folder)
        except (FileExistsError, NotADirectoryError):
            parser.exit(1, f"{InputError(given.folder, 'folder', 'a file', 'a folder')}\n")
    else:
        print(reference.render(), end="")


if __name__ == "__main__":
    main()
