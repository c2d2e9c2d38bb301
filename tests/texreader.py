"""Reads the LaTeX tables back that spotwise writes."""

import re
from dataclasses import dataclass, field

SIGNS = {
    r"\textbackslash{}": "\\",
    r"\textasciitilde{}": "~",
    r"\textasciicircum{}": "^",
    r"\textless{}": "<",
    r"\textgreater{}": ">",
    r"\textbar{}": "|",
    r"$\pm$": "±",
    "$-$": "-",
    "--": "–",
    **{rf"\{sign}": sign for sign in "&%$#_{}"},
}
ONE_SIGN = re.compile("|".join(map(re.escape, sorted(SIGNS, key=len, reverse=True))))
COMMAND = re.compile(r"\\(textbf|underline|textit)\{((?:[^{}\\]|\\[&%$#_{}]|\\[a-z]+\{\})*)\}")


@dataclass
class Table:
    label: str
    caption: str
    parts: list = field(default_factory=list)  # (heading, [column headings, rows ...])

    def cells(self, cohort):
        """Row name -> column heading -> cell, over all parts of a cohort."""
        found = {}
        for heading, (columns, *rows) in self.parts:
            if heading.split(":")[0] == cohort:
                for name, *cells in rows:
                    found.setdefault(name, {}).update(zip(columns[1:], cells, strict=True))
        return found


def plain(text):
    """Return the text that LaTeX would print, without marks."""
    text = COMMAND.sub(r"\2", text)
    return ONE_SIGN.sub(lambda sign: SIGNS[sign[0]], text).strip()


def marked(text, command):
    """Return the arguments of a command, such as the bold text of a cell."""
    return [plain(inside) for name, inside in COMMAND.findall(text) if name == command]


def read(text):
    """Read the tables of a file by protocol, and check environments, braces and columns."""
    open_environments = []
    for verb, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if verb == "begin":
            open_environments.append(name)
        else:
            assert open_environments.pop() == name
    assert not open_environments
    bare = re.sub(r"\\[{}]", "", text)
    assert bare.count("{") == bare.count("}")
    assert text.count(r"\begingroup") == text.count(r"\endgroup")
    tables = {}
    for environment in re.findall(r"\\begin\{longtable\}.*?\\end\{longtable\}", text, flags=re.S):
        label, caption, heading, rows = _longtable(environment)
        if label:
            table = Table(label, caption)
            tables[label.rpartition("-")[2]] = table
        assert caption == table.caption
        table.parts.append((heading, rows))
    return tables


def _longtable(text):
    """Label, short caption, the rest of the caption (cohort and runs), and rows of one longtable."""
    form = re.match(r"\\begin\{longtable\}\{([lr]+)\}\n", text)[1]
    short, full, label = re.search(r"\\caption\[(.+?)\]\{(.*?)\}(?: \\label\{(.*?)\})? \\\\\n", text).groups()
    assert full.startswith(f"{short}, ")
    _, heading, again = (part.partition("\\midrule\n")[0] for part in text.split("\\toprule\n"))
    assert heading == again  # repeated on each page
    rows = []
    for line in (heading + text.partition("\\endlastfoot\n")[2].removesuffix("\\end{longtable}")).splitlines():
        assert line.endswith(r" \\"), line
        assert not re.search(r"(?<!\S)-\d", line), f"a hyphen for a minus: {line}"
        cells = re.split(r"(?<!\\)&", line.removesuffix(r" \\"))
        assert len(cells) == len(form), line
        rows.append([plain(cell) for cell in cells])
    return label, short, plain(full.removeprefix(f"{short}, ")), rows
