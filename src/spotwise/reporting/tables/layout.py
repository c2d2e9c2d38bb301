"""Layout of tables of means ± spread as Markdown, LaTeX and terminal text."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby

import numpy as np
import pandas as pd

from spotwise.constants import CONTROL, PAPER, PATIENT
from spotwise.runtime import files

# marks of a cell
BEST, SECOND = "best", "second"

PROTOCOL_TITLES = {
    PAPER: "one slide left out, genes ranked on the test slide",
    PATIENT: "one patient left out, genes ranked on the training slides",
}
# Characters of \scriptsize between margins of an inch on A4, portrait and landscape
LINE, TURNED_LINE = 110, 170
CONSOLE_COLUMN = 17


@dataclass(frozen=True)
class Cell:
    """A cell or a word of a legend.

    ``mark`` is `BEST`, `SECOND` or empty; ``after`` follows the text unmarked.
    """

    text: str
    mark: str = ""
    after: str = ""


ASIDE = (
    "In italics, not competing: controls, which see no image, and bounds made from the truth (NoiseCeiling: what a "
    "predictor of the true rates would reach; Oracle: the truth itself)."
)
RANKS = ("Best method ", Cell("bold", BEST), ", second best ", Cell("underlined", SECOND), f". {ASIDE}")


@dataclass(frozen=True)
class Row:
    """A row whose first cell is its name. Controls and bounds stand ``aside``."""

    cells: Sequence[Cell]
    aside: bool = False


@dataclass(frozen=True)
class Column:
    """A column. Those of ``detail`` are left out on a terminal."""

    heading: str
    numeric: bool = True
    detail: bool = False


@dataclass(frozen=True)
class Block:
    """The rows of one cohort and section.

    ``runs`` counts what they average, folds first: ``4 folds``, ``3 seeds``. ``section`` is empty if a cohort has only
    one.
    """

    cohort: str
    section: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    remarks: Sequence[str]
    runs: Sequence[str]


@dataclass(frozen=True)
class Page:
    """A table with its legend.

    ``nothing`` explains a table without blocks. ``number`` is the table's number in the paper. ``sections`` describes
    each section of a cohort, and ``noun`` says what a section is.
    """

    name: str
    title: str
    legend: Sequence[str | Cell]
    blocks: Sequence[Block]
    nothing: str = ""
    number: str = ""
    sections: Mapping[str, str] = field(default_factory=lambda: PROTOCOL_TITLES)
    noun: str = "protocol"


def plural(n: int, noun: str) -> str:
    """Format a number with its noun, such as ``4 folds``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def run_counts(block: pd.DataFrame) -> tuple[str, str]:
    """Format the largest numbers of folds and seeds that rows average."""
    return plural(block["n_folds"].max(), "fold"), plural(block["n_seeds"].max(), "seed")


def mean_cell(mean: float, spread: float, mark: str = "") -> Cell:
    """Format a mean ± its spread, NaN as a dash."""
    if np.isnan(mean):
        return Cell("–")
    text = f"{round(mean, 3) + 0.0:.3f}"  # no minus at a rounded zero
    return Cell(text, mark, "" if np.isnan(spread) else f" ± {spread:.3f}")


def best_marks(block: pd.DataFrame, column: str) -> dict[int, str]:
    """Map rows to the marks of the best and second best printed value."""
    values = block.loc[block["kind"].ne(CONTROL), column].dropna().round(3)
    marks = dict(zip(sorted(values.unique(), reverse=True), (BEST, SECOND), strict=False))
    return {row: marks[value] for row, value in values.items() if value in marks}


def ranked(block: pd.DataFrame, names: Sequence[str]) -> Iterator[tuple[pd.Series, Mapping[str, str]]]:
    """Yield the rows of a block with their marks in the columns ``names``, by column."""
    marks = {name: best_marks(block, name) for name in names}
    for row, values in block.iterrows():
        yield values, {name: of_rows.get(row, "") for name, of_rows in marks.items()}


# --- Markdown


def markdown(page: Page) -> str:
    """Format a table as Markdown, by cohort and section, with remarks below.

    pandas' `to_markdown` escapes no markup and needs another package.
    """
    lines = [f"# {_title(page)}", "", _sentence(page.legend, _markdown_cell), ""]
    for cohort, blocks in groupby(page.blocks, lambda block: block.cohort):
        lines += [f"## {cohort}", ""]
        for block in blocks:
            if block.section:
                lines += [f"### `{block.section}` {page.noun}: {page.sections[block.section]}", ""]
            lines += [*_markdown_rows(block), ""]
            lines += [*(f"* {_markdown_text(remark)}" for remark in block.remarks), f"* {', '.join(block.runs)}", ""]
    if not page.blocks:
        lines.append(page.nothing)
    return "\n".join(lines).rstrip() + "\n"


def _markdown_rows(block: Block) -> Iterator[str]:
    if not block.rows:
        return
    yield _markdown_line(_markdown_text(column.heading) for column in block.columns)
    yield "|" + "|".join("---:" if column.numeric else "---" for column in block.columns) + "|"
    for row in block.rows:
        name, *cells = map(_markdown_cell, row.cells)
        yield _markdown_line([f"*{name}*" if row.aside else name, *cells])


def _markdown_line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _markdown_cell(cell: Cell) -> str:
    text = _markdown_text(cell.text)
    return {BEST: f"**{text}**", SECOND: f"<u>{text}</u>"}.get(cell.mark, text) + cell.after


def _markdown_text(text: str) -> str:
    return re.sub(r"([\\|*<`])", r"\\\1", text)


# --- LaTeX

_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        "–": "--",
        "†": r"$\dagger$",
        **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    }
)
_MINUS = re.compile(r"(?<!\S)-(?=\d)")


def latex(page: Page) -> str:
    r"""Format a table as LaTeX to be ``\input``.

    Each section has a longtable per cohort, of which the first is labelled ``tab:<name>-<section>``. The document has
    to load booktabs, longtable and pdflscape.
    """
    lines = [r"% \usepackage{booktabs,longtable,pdflscape}"]
    for section in dict.fromkeys(block.section for block in page.blocks):
        lines += ["", *_latex_section(page, section, [block for block in page.blocks if block.section == section])]
    if not page.blocks:
        lines.append(rf"\noindent {latex_text(_title(page))}. {latex_text(page.nothing)}")
    return "\n".join(lines) + "\n"


def _latex_section(page: Page, section: str, blocks: Sequence[Block]) -> Iterator[str]:
    parts = [part for block in blocks if block.rows for part in _fitting(block)]
    title = f"{latex_text(page.title[0].upper() + page.title[1:])}, {section} {page.noun}"  # LaTeX numbers it itself
    turned = any(_width(part) > LINE for part in parts)
    yield (r"\begin{landscape}" if turned else r"\begingroup") + r"\scriptsize\setlength{\LTcapwidth}{\linewidth}"
    legend = _sentence(page.legend, _latex_cell)
    yield rf"{{\raggedright\noindent {title}: {page.sections[section]}. {legend}\par}}"
    for place, part in enumerate(parts):
        yield _longtable(part, title, None if place else f"tab:{page.name}-{section}")
    for remarks, said in groupby(blocks, lambda block: latex_text("; ".join(block.remarks))):
        if remarks:
            cohorts = latex_text(", ".join(block.cohort for block in said))
            yield rf"{{\raggedright\noindent {cohorts}. {remarks}.\par}}"
    yield r"\end{landscape}" if turned else r"\endgroup"


def _longtable(block: Block, title: str, label: str | None) -> str:
    rows = []
    for row in block.rows:
        name, *cells = map(_latex_cell, row.cells)
        rows.append([rf"\textit{{{name}}}" if row.aside else name, *cells])
    table = pd.DataFrame(rows, columns=[latex_text(column.heading) for column in block.columns])
    return table.to_latex(
        index=False,
        escape=False,  # pandas would leave < > | ± as they are
        longtable=True,
        column_format="".join("r" if column.numeric else "l" for column in block.columns),
        caption=(f"{title}, {latex_text(block.cohort)}: {latex_text(', '.join(block.runs))}", title),
        label=label,
    ).rstrip()


def _latex_cell(cell: Cell) -> str:
    text = _MINUS.sub("$-$", latex_text(cell.text))
    command = {BEST: "textbf", SECOND: "underline"}.get(cell.mark)
    return (rf"\{command}{{{text}}}" if command else text) + _MINUS.sub("$-$", latex_text(cell.after))


def latex_text(text: str) -> str:
    """Escape the special characters of LaTeX."""
    return text.translate(_LATEX)


def _fitting(block: Block) -> Iterator[Block]:
    """Split a block into the fewest parts that fit a landscape page.

    Columns are divided evenly. Each part begins with the names of the rows.
    """
    others = np.arange(1, len(block.columns))
    for n_parts in range(1, max(len(others), 1) + 1):
        parts = [_with_columns(block, [0, *places]) for places in np.array_split(others, n_parts)]
        if all(_width(part) <= TURNED_LINE for part in parts):
            break
    yield from parts


def _with_columns(block: Block, places: Sequence[int]) -> Block:
    rows = [replace(row, cells=[row.cells[place] for place in places]) for row in block.rows]
    return replace(block, columns=[block.columns[place] for place in places], rows=rows)


def _width(block: Block) -> int:
    """Return the width of a block in characters, with three between columns."""
    cells = [[Cell(column.heading) for column in block.columns], *(row.cells for row in block.rows)]
    return sum(3 + max(len(cell.text + cell.after) for cell in column) for column in zip(*cells, strict=True))


def write_pages(
    table: pd.DataFrame,
    pages: Sequence[Page],
    csv: str | os.PathLike,
    markdown_file: str | os.PathLike,
    tex: str | os.PathLike | None = None,
    float_format: str = "%.6f",
) -> None:
    """Write a table as CSV and its pages as Markdown and LaTeX, atomically."""
    files.write_table(table, csv, float_format=float_format)
    files.write_text(markdown_file, "\n".join(map(markdown, pages)))
    if tex is not None:
        files.write_text(tex, "\n".join(map(latex, pages)))


# --- Terminal


def console(page: Page) -> str:
    """Format a table for a terminal, with ``*`` at the best method and controls in brackets."""
    lines = [] if page.blocks else [page.nothing]
    names = [row.cells[0].text + row.cells[0].after for block in page.blocks for row in block.rows]
    width = 2 + max(map(len, names), default=0)
    for block in page.blocks:
        shown = [place for place, column in enumerate(block.columns) if place and not column.detail]
        cells = [[_console_cell(row.cells[place]) for place in shown] for row in block.rows]
        headings = [block.columns[place].heading for place in shown]
        widths = [max(CONSOLE_COLUMN, 2 + max(map(len, column))) for column in zip(headings, *cells, strict=True)]
        lines.append(f"{block.cohort}, {block.section} protocol (mean PCC ± sd over {block.runs[0]})")
        lines.append(" " * (width + 2) + _in_columns(headings, widths))
        for row, texts in zip(block.rows, cells, strict=True):
            name = row.cells[0].text + row.cells[0].after
            name = f"({name})" if row.aside else name
            lines.append(f"  {name:<{width}}" + _in_columns(texts, widths))
        lines += [*(f"  {remark}" for remark in block.remarks), ""]
    return "\n".join(lines).rstrip() + "\n"


def _console_cell(cell: Cell) -> str:
    return cell.text + cell.after + ("*" if cell.mark == BEST else " ")


def _in_columns(texts: Sequence[str], widths: Sequence[int]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(texts, widths, strict=True))


def _title(page: Page) -> str:
    return f"{page.number}: {page.title}" if page.number else page.title


def _sentence(parts: Sequence[str | Cell], lay_out: Callable[[Cell], str]) -> str:
    return "".join(lay_out(part if isinstance(part, Cell) else Cell(part)) for part in parts)
