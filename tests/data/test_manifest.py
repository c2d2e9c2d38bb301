"""Claims about manifests: a changed file is noticed, an unchanged one costs nothing."""

import errno
import hashlib
import json
import os

import numpy as np
import pytest

from spotwise.data import manifest
from spotwise.data.manifest import check, manifest_path, read_manifest, require
from spotwise.errors import InputError, SetupError

COMMIT = "0123456789abcdef0123456789abcdef01234567"
COUNTS, METADATA, PATCHES = "st/S1.h5ad", "metadata/S1.json", "patches/S1.h5"
FILES = (COUNTS, METADATA)
CONTENTS = {COUNTS: np.random.default_rng(0).bytes(10_000), METADATA: b'{"id": "S1"}\n'}
DAMAGE = ["", "{", '{"path": 1}', "[]", "[1]", '[{"path": "st/S1.h5ad"}]', "\xff"]


@pytest.fixture
def root(tmp_path):
    """Make a data folder with one downloaded sample."""
    records = []
    for path, content in CONTENTS.items():
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        etag = sha256 if path == COUNTS else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        modified = (tmp_path / path).stat().st_mtime_ns
        records.append({"path": path, "size": len(content), "sha256": sha256, "etag": etag})
        records[-1] |= {"commit": COMMIT, "modified_ns": modified}
    path_of(tmp_path).parent.mkdir(parents=True)
    path_of(tmp_path).write_text(json.dumps(records))
    return tmp_path


def path_of(root, revision=COMMIT):
    return manifest_path(root, revision, "S1")


def damage(path):
    """Change a byte, and with it the time of change, but not the length."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_manifests_of_a_commit_lie_in_its_folder(root):
    assert path_of(root) == root / "downloads" / COMMIT / "S1.json"


def test_record_of_a_verified_file_is_what_its_bytes_say(root):
    for record in read_manifest(path_of(root)):
        assert manifest.new_record(root, record["path"], record["etag"], COMMIT) == record


@pytest.mark.parametrize("content", DAMAGE)
def test_damaged_manifest_stops_a_run(root, content):
    path_of(root).write_bytes(content.encode("latin-1"))
    with pytest.raises(InputError, match=r"S1\.json: (manifest|file 0): found .*delete the manifest"):
        require(root, COMMIT, {"S1": FILES})


@pytest.mark.parametrize("key", ["path", "size", "sha256", "etag", "commit", "modified_ns"])
def test_manifest_with_a_missing_or_mistyped_field_is_damaged(root, key):
    whole = json.loads(path_of(root).read_text())
    for value in ({}, {key: None}):
        damaged = [{k: v for k, v in whole[0].items() if k != key} | value, whole[1]]
        path_of(root).write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=f"file 0: found no {key}, expected the manifest of a download"):
            read_manifest(path_of(root))


def test_manifest_of_another_commit_is_refused(root):
    other = path_of(root, "f" * 40)
    other.parent.mkdir()
    path_of(root).rename(other)
    with pytest.raises(InputError, match=rf"file 0: found commit {COMMIT}, expected f{{40}}"):
        require(root, "f" * 40, {"S1": FILES})


def test_later_runs_look_at_size_and_time_and_read_nothing(root, monkeypatch):
    monkeypatch.setattr(manifest, "sha256", None)
    check(root, path_of(root))
    require(root, COMMIT, {"S1": FILES})


@pytest.mark.parametrize("by_hash", [False, True])
def test_changed_file_is_named_by_later_runs(root, by_hash):
    right = hashlib.sha256(CONTENTS[COUNTS]).hexdigest()
    damage(root / COUNTS)
    with pytest.raises(InputError, match=rf"{COUNTS}: sha256: found [0-9a-f]{{64}}, expected {right}, as downloaded"):
        check(root, path_of(root), by_hash)
    (root / COUNTS).write_bytes(b"short")
    with pytest.raises(InputError, match=rf"{COUNTS}: size: found 5 bytes, expected 10000, as downloaded: delete the"):
        check(root, path_of(root), by_hash)


def test_damage_that_keeps_size_and_time_is_found_by_hash(root):
    modified = (root / COUNTS).stat().st_mtime_ns
    damage(root / COUNTS)
    os.utime(root / COUNTS, ns=(modified, modified))
    check(root, path_of(root))
    with pytest.raises(InputError, match=f"{COUNTS}: sha256: found"):
        check(root, path_of(root), by_hash=True)


def test_touched_file_is_read_once_and_gets_its_time_back(root, monkeypatch):
    modified = (root / COUNTS).stat().st_mtime_ns
    os.utime(root / COUNTS)
    check(root, path_of(root))
    assert (root / COUNTS).stat().st_mtime_ns == modified
    monkeypatch.setattr(manifest, "sha256", None)
    check(root, path_of(root))


def test_touched_file_in_a_read_only_folder_passes(root, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data")

    os.utime(root / COUNTS)
    monkeypatch.setattr(os, "utime", refuse)
    check(root, path_of(root))


def test_missing_file_needs_a_token_and_fails_a_verification(root, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    require(root, COMMIT, {"S1": FILES})
    (root / COUNTS).unlink()
    with pytest.raises(SetupError, match="HF_TOKEN is not set"):
        require(root, COMMIT, {"S1": FILES})
    with pytest.raises(InputError, match=f"{COUNTS}: file: found nothing, expected 10000 bytes"):
        check(root, path_of(root), by_hash=True)


def test_missing_manifest_needs_a_token(root, monkeypatch):
    path_of(root).unlink()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SetupError, match="HF_TOKEN is not set"):
        require(root, COMMIT, {"S1": FILES})
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    require(root, COMMIT, {"S1": FILES})


def test_file_that_the_manifest_does_not_list_is_not_used(root, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_abc")
    require(root, COMMIT, {"S1": [*FILES, PATCHES]})  # does not exist, and will be downloaded
    (root / PATCHES).parent.mkdir()
    (root / PATCHES).write_bytes(b"copied by the user")
    with pytest.raises(
        InputError, match=rf"S1\.json: {PATCHES}: found nothing, expected its hash: delete the manifest"
    ):
        require(root, COMMIT, {"S1": [*FILES, PATCHES]})
