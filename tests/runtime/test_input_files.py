"""A file that cannot be opened is refused in one line that says why and what to do."""

import errno
import os
import subprocess
import sys

import h5py
import numpy as np
import pytest

from spotwise.errors import InputError, SetupError
from spotwise.runtime.hdf5 import create
from spotwise.runtime.input_files import open_input, unreadable

EXPECTED = "a complete .h5ad"


@pytest.fixture
def path(tmp_path):
    """Write an HDF5 file with one compressed dataset."""
    path = tmp_path / "S1.h5ad"
    with h5py.File(path, "w") as file:
        file.create_dataset("X/data", data=np.arange(10_000), chunks=(1000,), compression="gzip")
    return path


def refusal(path, read=lambda file: file["X/data"][()]):
    with pytest.raises(InputError) as raised, open_input(path, EXPECTED) as file:
        read(file)
    line = str(raised.value)
    assert "\n" not in line
    assert line.startswith(f"{path}: file: found ")
    return line.removeprefix(f"{path}: file: found ")


def test_a_good_file_is_opened(path):
    with open_input(path, EXPECTED) as file:
        assert file["X/data"][-1] == 9999


CONTENTS = {
    "nothing": (b"", "an empty file (0 bytes), not HDF5", "again"),
    "a Git LFS pointer": (
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n",
        "a Git LFS pointer (70 bytes), not HDF5",
        "git lfs pull",
    ),
    "a git-annex pointer": (b"/annex/objects/SHA256E-s12--ab.h5ad\n", "a git-annex pointer", "git annex get"),
    "a page to sign in": (b"\n<!DOCTYPE html>\n<html>Sign in</html>", "a web page", "signed in"),
    "an answer of a bucket": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "an XML", "signed in"),
    "gzip": (b"\x1f\x8b\x08\x00" * 9, "a gzip archive", "unpack it"),
    "zip": (b"PK\x03\x04" * 9, "a zip archive", "unpack it"),
    "zeros of a preallocated file": (bytes(4000), "a file of zeros (4000 bytes)", "again"),
    "a table": (b"barcode,EPCAM\n000x000,3\n", "text that begins with 'barcode,EPCAM' (24 bytes)", "again"),
    "bytes": (bytes(range(128, 256)), "other content (128 bytes), not HDF5", "again"),
}


@pytest.mark.parametrize(("content", "found", "remedy"), CONTENTS.values(), ids=CONTENTS)
def test_what_stands_in_the_files_place_is_named_with_its_remedy(path, content, found, remedy):
    path.write_bytes(content)
    line = refusal(path)
    assert line.startswith(found)
    assert remedy in line.split(f", expected {EXPECTED}; ")[1]


def test_a_file_cut_off_at_any_place_is_truncated_or_damaged(path):
    whole = path.read_bytes()
    for size in (8, 100, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        line = refusal(path)
        assert line.endswith("; copy or fetch it again")
        assert f"a truncated file ({size} of {len(whole)} bytes)" in line or "a damaged file (" in line


def test_a_damaged_block_is_found_when_it_is_read(path):
    with h5py.File(path) as file:
        block = file["X/data"].id.get_chunk_info(3)
    content = bytearray(path.read_bytes())
    content[block.byte_offset : block.byte_offset + block.size] = os.urandom(block.size)
    path.write_bytes(content)
    assert refusal(path).startswith("a damaged file (")


def test_links_and_folders_are_told_apart_from_missing_files(path, tmp_path):
    path.unlink()
    assert refusal(path) == f"no such file, expected {EXPECTED}"
    path.symlink_to(tmp_path / "gone.h5ad")
    assert refusal(path).startswith(f"a link to {tmp_path}/gone.h5ad, which does not exist, expected")
    path.unlink()
    path.symlink_to(path)
    assert "symbolic links" in refusal(path)
    path.unlink()
    path.mkdir()
    assert refusal(path) == f"a folder, expected {EXPECTED}"
    (path / ".zgroup").touch()
    assert refusal(path) == f"a Zarr store, expected {EXPECTED}; write it with `write_h5ad`"


def test_a_denied_permission_is_not_called_a_damaged_file(path, monkeypatch):
    def deny(*arguments, **named):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(type(path), "open", deny)  # root may read everything
    assert refusal(path) == (f"no permission to read it, expected {EXPECTED}; ask its owner, or grant it with `chmod`")


@pytest.mark.parametrize(("number", "found"), [(errno.EIO, "input/output error"), (errno.ESTALE, "stale file handle")])
def test_faults_of_a_disk_are_named(path, number, found):
    error = unreadable(path, "file", OSError(number, os.strerror(number)), EXPECTED)
    assert f"found {found}, expected" in str(error)


def test_a_file_that_another_program_writes_is_locked(path):
    code = f"import h5py, sys; file = h5py.File({str(path)!r}, 'r+'); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as writer:
        writer.stdout.readline()
        line = refusal(path)
        writer.stdin.close()
    assert line.startswith("a lock: another program has it open for writing")
    assert "close it there" in line


def without_locks(path, mode="r", **named):
    raise OSError(errno.ENOLCK, "Unable to open file (unable to lock file, errno = 37, error message = 'No locks')")


def test_a_file_system_without_locks_is_named_with_the_variable_to_set(path, monkeypatch):
    monkeypatch.setattr(h5py, "File", without_locks)
    line = refusal(path)
    assert line.startswith("a file system without file locks (No locks available)")
    assert "HDF5_USE_FILE_LOCKING=FALSE" in line
    with pytest.raises(SetupError, match=r"without file locks .*HDF5_USE_FILE_LOCKING=FALSE"), create(path):
        pass


def test_a_file_that_was_never_closed_is_told_from_a_damaged_one(path, tmp_path):
    with h5py.File(path, "w", libver="latest") as file:
        file["X/data"] = [1]
        file.flush()
        copy = tmp_path / "copy.h5ad"
        copy.write_bytes(path.read_bytes())
    line = refusal(copy)
    assert line.startswith("a mark that its writer did not close it")
    assert "h5clear" in line


def test_a_compression_that_is_not_installed_is_named(path):
    """As files by hdf5plugin, which needs it for reading too."""
    with h5py.File(path, "w") as file:
        layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        layout.set_chunk((100,))
        layout.set_filter(32015, h5py.h5z.FLAG_OPTIONAL, (3,))  # Zstandard
        space = h5py.h5s.create_simple((100,))
        values = h5py.h5d.create(file.create_group("X").id, b"data", h5py.h5t.NATIVE_INT32, space, layout)
        values.write_direct_chunk((0,), b"packed")
    line = refusal(path)
    assert line.startswith("X/data in a compression that is not installed (")
    assert "32015" in line
    assert line.endswith("write it again with compression='gzip'")


def test_errors_of_the_body_pass_through(path):
    for error in (InputError("a", "b", "c", "d"), SetupError("full"), KeyError("name")):
        with pytest.raises(type(error)), open_input(path, EXPECTED):
            raise error
