"""Pages of the site that are generated from other files of the repository."""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
COPIES = {"index.md": "README.md", "changelog.md": "CHANGELOG.md", "measurements.md": "benchmarks/RESULTS.md"}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages."""
    pages = {page: _with_site_links((ROOT / source).read_text(encoding="utf-8")) for page, source in COPIES.items()}
    pages["measurements.md"] = "---\nhide: [toc]\n---\n" + pages["measurements.md"]  # room for a wide table
    for page, text in {**pages, "configuration.md": configuration_reference()}.items():
        files.append(File.generated(config, page, content=text))
    return files


def configuration_reference() -> str:
    """Return the reference of all settings as Markdown."""
    command = [sys.executable, "-m", "spotwise.config", "reference"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        raise PluginError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    return done.stdout


def _with_site_links(text: str) -> str:
    """Make links into docs/ relative to the site, and replace links to other files by their text."""

    def link(match: re.Match) -> str:
        image, label, target = match.groups()
        if target.startswith(("https://", "#")):
            return match[0]
        return f"{image}[{label}]({target.removeprefix('docs/')})" if target.startswith("docs/") else label

    return re.sub(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)", link, text)
