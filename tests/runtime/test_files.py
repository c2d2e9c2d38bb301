"""Claims about files: a reader never sees part of one, and a full disk is reported as such."""

import errno
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from spotwise import errors
from spotwise.errors import SetupError
from spotwise.runtime.files import atomic, is_disk_full, write_json, write_table, write_text

SOURCE = str(Path(errors.__file__).parents[1])


def run(program, folder):
    return subprocess.run(
        [sys.executable, "-c", program], cwd=folder, env={"PYTHONPATH": SOURCE}, capture_output=True, text=True
    )


def test_an_exception_leaves_nothing_behind(tmp_path):
    def fail():
        with atomic(tmp_path / "out.txt") as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("suffix", "separator"), [(".csv", ","), (".tsv", "\t")])
def test_the_suffix_of_a_table_selects_its_separator(tmp_path, suffix, separator):
    table = pd.DataFrame({"gene": ["NA", 'a "b"'], "p": [1 / 3, float("nan")], "n": [1, 2]})
    path = tmp_path / f"table{suffix}"
    write_table(table, path, float_format="%.3g", na_rep="nan")
    rows = [["gene", "p", "n"], ["NA", "0.333", "1"], ['"a ""b"""', "nan", "2"]]
    assert path.read_bytes().decode() == "".join(separator.join(row) + "\n" for row in rows)
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_of_a_table_read_back_the_same(tmp_path):
    numbers = [1 / 3, 1e-300, 0.1 + 0.2]
    write_table(pd.DataFrame({"x": numbers}), tmp_path / "table.csv")
    assert [float(line) for line in (tmp_path / "table.csv").read_text().split()[1:]] == numbers


def test_a_reader_sees_the_old_file_until_the_new_one_is_complete(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with atomic(path) as temporary:
        temporary.write_text("half")
        assert path.read_text() == "old"
        temporary.write_text("new")
        written = temporary.stat().st_ino
    assert path.read_text() == "new"
    assert path.stat().st_ino == written  # renamed, not copied
    assert list(tmp_path.iterdir()) == [path]


def test_an_exception_keeps_the_old_file(tmp_path):
    path = tmp_path / "out.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic(path) as temporary:
        temporary.write_text(str(1 / 0))
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_file(tmp_path):
    (tmp_path / "out.txt").write_text("old")
    program = """
import os
from spotwise.runtime.files import atomic
with atomic("out.txt") as temporary:
    temporary.write_text("half")
    os._exit(9)
"""
    assert run(program, tmp_path).returncode == 9
    assert (tmp_path / "out.txt").read_text() == "old"


def test_a_body_that_writes_nothing_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError), atomic(tmp_path / "out.txt"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_is_hidden_beside_its_target_and_keeps_the_suffix(tmp_path):
    path = tmp_path / "deep" / "er" / "weights.h5ad"
    with atomic(path) as temporary:
        assert temporary.parent == path.parent  # a move between file systems would not be atomic
        assert temporary.suffix == ".h5ad"
        assert temporary.name.startswith(".")
        assert str(os.getpid()) in temporary.name
        temporary.touch()
    assert path.exists()


def test_json_and_text_are_utf8_and_end_with_a_line(tmp_path):
    content = {"µm": [1, 2.5, None], "gene": "HLA-A"}
    write_json(tmp_path / "a.json", content)
    text = (tmp_path / "a.json").read_bytes().decode("utf-8")
    assert json.loads(text) == content
    assert "µm" in text
    assert text.endswith("}\n")
    write_text(tmp_path / "a.txt", "å\n")
    assert (tmp_path / "a.txt").read_bytes() == "å\n".encode()


def test_content_that_is_not_json_replaces_nothing(tmp_path):
    write_json(tmp_path / "a.json", {"k": 50})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"k": {1, 2}})
    assert json.loads((tmp_path / "a.json").read_text()) == {"k": 50}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_stale_files_of_killed_writers_on_this_machine_are_removed_and_no_others(tmp_path):
    gone = subprocess.Popen(["true"])
    gone.wait()
    host = socket.gethostname()
    left = [f".out.{host}.{gone.pid}.tmp.txt"]
    kept = [
        f".out.{host}.{os.getppid()}.tmp.txt",  # still running
        f".out.elsewhere.{gone.pid}.tmp.txt",  # may be running on another machine
        f".out.{host}.{gone.pid}.tmp.csv",
        f".outer.{host}.{gone.pid}.tmp.txt",
        ".out.txt",
    ]
    for name in left + kept:
        (tmp_path / name).touch()
    write_text(tmp_path / "out.txt", "")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out.txt"])


def test_content_is_synced_to_disk_before_the_rename(tmp_path, monkeypatch):
    """A power failure must not leave an empty file under the final name."""
    done = []
    sync, replace = os.fsync, os.replace

    def record_sync(descriptor):
        done.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        sync(descriptor)

    def record_replace(source, target):
        done.append("named")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", record_sync)
    monkeypatch.setattr(os, "replace", record_replace)
    with atomic(tmp_path / "out.txt") as temporary:
        temporary.write_text("a")
    assert done == [str(temporary), "named", str(tmp_path)]


@pytest.mark.parametrize(
    ("error", "full"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), True),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (OSError("Driver write request failed (file write failed: errno = 28, error message = ...)"), True),
        (RuntimeError("I/O error: No space left on device (os error 28)"), True),
        (OSError(errno.EACCES, "Permission denied"), False),
        (OSError("errno = 280"), False),
        (ValueError("28"), False),
    ],
)
def test_a_full_disk_is_reported_with_the_file_and_other_errors_are_not_changed(tmp_path, error, full):
    message = re.escape(f"{tmp_path / 'out.h5'}: No space left on device") if full else re.escape(str(error))

    def write():
        with atomic(tmp_path / "out.h5") as temporary:
            temporary.touch()
            raise error

    with pytest.raises(SetupError if full else type(error), match=message):
        write()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_behind_another_error_is_found():
    def fail():
        try:
            raise OSError(errno.ENOSPC, "No space left on device")
        except OSError:
            raise RuntimeError("unexpected pos 704 vs 598")  # noqa: B904

    with pytest.raises(RuntimeError) as failure:
        fail()
    assert is_disk_full(failure.value)
    assert not is_disk_full(RuntimeError("unexpected pos 704 vs 598"))
