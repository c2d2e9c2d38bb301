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
    """What LaTeX would print, marks left out."""
    text = COMMAND.sub(r"\2", text)
    return ONE_SIGN.sub(lambda sign: SIGNS[sign[0]], text).strip()


def marked(text, command):
    """What stands in some command: the bold of a cell, say."""
    return [plain(inside) for name, inside in COMMAND.findall(text) if name == command]


def read(text):
    """The tables of a file by protocol. Fails where environments, braces or columns do not fit."""
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
    return {table.label.rpartition("-")[2]: table for table in map(_table, _environments(text))}


def _environments(text):
    return re.findall(r"\\begin\{longtable\}.*?\\end\{longtable\}", text, flags=re.S)


def _table(text):
    columns = re.match(r"\\begin\{longtable\}\{([lr]+)\}\n", text)[1]
    caption = re.search(r"\\caption\[.*?\]\{(.*)\}\\label\{(.*?)\}\\\\\n", text)
    table = Table(caption[2], caption[1])
    body = text[caption.end() : text.index(r"\end{longtable}")]
    lines = [
        line for line in body.splitlines() if line not in (r"\toprule", r"\midrule", r"\bottomrule", r"\addlinespace")
    ]
    for line in lines:
        assert line.endswith(r" \\"), line
        line = line.removesuffix(r" \\")
        if heading := re.fullmatch(r"\\multicolumn\{(\d+)\}\{l\}\{(.*)\}", line):
            assert int(heading[1]) == len(columns)
            table.parts.append((plain(heading[2]), []))
            continue
        assert not re.search(r"(?<!\S)-\d", line), f"a hyphen for a minus: {line}"
        cells = re.split(r"(?<!\\)&", line)
        assert len(cells) == len(columns), line
        table.parts[-1][1].append([plain(cell) for cell in cells])
    for _, rows in table.parts:
        while rows[0][-1] == "":  # a part that is narrower than others
            assert all(row.pop() == "" for row in rows)
    return table
