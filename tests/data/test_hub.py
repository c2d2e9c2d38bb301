"""Claims about downloads from a hub that works, and about what is in the folder before them."""

import errno
import hashlib
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import fakehub
from hubcase import COUNTS, FILES, METADATA, SIZE, fetch, files_in, manifest_of, sample_files, staged
from spotwise.data.hub import content_hash
from spotwise.data.manifest import check, read_manifest, require
from spotwise.errors import InputError, SetupError

SOURCES = str(Path(__file__).parents[2] / "src")


@pytest.fixture
def hub():
    with fakehub.FakeHub(sample_files()) as running:
        yield running


@pytest.fixture
def no_hub():
    """Return a hub that has stopped."""
    with fakehub.FakeHub({}) as gone:
        pass
    return gone


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    """Let nothing in this process wait for more than ten milliseconds, the library included."""
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(min(seconds, 0.01)))


def in_process(hub, root, files=FILES, **environment):
    """Download in a process of its own; hub and token reach it as they reach a job."""
    code = (
        "import sys; from spotwise.data.hub import *\n"
        "fetch_sample(*sys.argv[1:3], 'S1', sys.argv[4:], sys.argv[3], policy=RetryPolicy(first_wait=0.01))"
    )
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": SOURCES, "HF_TOKEN": fakehub.TOKEN} | environment
    return subprocess.Popen(
        [sys.executable, "-c", code, fakehub.REPO, fakehub.COMMIT, str(root), *files],
        env={"HF_ENDPOINT": hub.url, "HOME": str(root)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, seconds=20):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.005)


# --- the token ------------------------------------------------------------------------------------------------------


def test_download_takes_the_token_of_the_environment(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", fakehub.TOKEN)
    fetch(hub, tmp_path, token=None)
    assert {request.authorization for request in hub.requests} == {f"Bearer {fakehub.TOKEN}"}


def test_without_a_token_none_is_looked_for_on_the_machine(hub, tmp_path, monkeypatch):
    (tmp_path / "token").write_text(fakehub.TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HF_TOKEN", fakehub.TOKEN)
    with pytest.raises(SetupError, match="access needs a token"):
        fetch(hub, tmp_path / "data", token="")
    hub.token = None
    fetch(hub, tmp_path / "data", token="")
    assert {request.authorization for request in hub.requests} == {None}


@pytest.mark.parametrize("late", [False, True], ids=["from the start", "only for the contents"])
@pytest.mark.parametrize("xet", [False, True])
def test_token_is_not_sent_to_the_storage_that_the_hub_redirects_to(hub, tmp_path, caplog, capfd, late, xet):
    caplog.set_level(logging.INFO)
    hub.late_redirect, hub.xet = late, xet
    with fakehub.FakeHub(hub.files, token=None) as storage:
        hub.storage = storage
        storage.faults[COUNTS] = (fakehub.HALF, 1)  # the library then tells where it was
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert {(request.method, request.authorization) for request in storage.requests} == {("GET", None)}
    assert {request.authorization for request in hub.requests} == {f"Bearer {fakehub.TOKEN}"}
    assert "complete" in caplog.text
    shown = capfd.readouterr()
    assert "signature" not in caplog.text + shown.out + shown.err  # of the storage's address, which gives access


# --- arrival --------------------------------------------------------------------------------------------------------


def test_downloaded_files_are_the_hubs_bytes_and_their_hashes_recorded(hub, tmp_path):
    records = fetch(hub, tmp_path)
    for path, record in zip(FILES, records, strict=True):
        content = hub.files[path]
        assert (tmp_path / path).read_bytes() == content
        expected = {"path": path, "size": len(content), "etag": hub.etag(path), "commit": fakehub.COMMIT}
        expected |= {"sha256": hashlib.sha256(content).hexdigest()}
        assert record == expected | {"modified_ns": (tmp_path / path).stat().st_mtime_ns}
    assert records[0]["etag"] == records[0]["sha256"]  # a large file
    assert len(records[1]["etag"]) == 40  # a small one: git's sha1
    assert read_manifest(manifest_of(tmp_path)) == records
    assert files_in(tmp_path) == sorted([*FILES, f"downloads/{fakehub.COMMIT}/S1.json"])
    assert [path.name for path in (tmp_path / ".partial").rglob("*")] == ["S1.lock"]


def test_content_hashes_are_those_of_sha256sum_and_git(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")  # `echo hello | sha256sum` and `| git hash-object --stdin`
    sha256 = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert content_hash(tmp_path / "hello", "0" * 64) == sha256
    assert content_hash(tmp_path / "hello", "0" * 40) == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_empty_file_is_a_file(hub, tmp_path):
    hub.files[METADATA] = b""
    fetch(hub, tmp_path)
    assert (tmp_path / METADATA).read_bytes() == b""


def test_every_file_is_requested_at_the_pinned_commit(hub, tmp_path):
    fetch(hub, tmp_path)
    assert {request.path for request in hub.requests} == {
        f"/datasets/{fakehub.REPO}/resolve/{fakehub.COMMIT}/{path}" for path in FILES
    }


@pytest.mark.parametrize("revision", ["main", "0123456", fakehub.COMMIT.upper(), fakehub.COMMIT + "\n"])
def test_revision_that_can_move_is_refused(hub, tmp_path, revision):
    with pytest.raises(InputError, match="expected a commit: 40 hex digits"):
        fetch(hub, tmp_path, revision=revision)
    assert not hub.requests


def test_download_neither_reads_nor_writes_the_users_hugging_face_folder(hub, tmp_path):
    home = tmp_path / "home"
    snapshot = home / "hub" / "datasets--MahmoodLab--hest" / "snapshots" / fakehub.COMMIT / "st"
    snapshot.mkdir(parents=True)
    (snapshot / "S1.h5ad").write_bytes(b"damaged")  # in the cache that the library would take it from
    (home / "token").write_text(fakehub.TOKEN)  # what `hf auth login` leaves behind
    before = files_in(home)
    refused = in_process(hub, tmp_path / "data", HOME=str(home), HF_HOME=str(home), HF_TOKEN="")
    assert "HF_TOKEN is not set" in refused.communicate()[1]
    accepted = in_process(hub, tmp_path / "data", HOME=str(home), HF_HOME=str(home))
    assert accepted.communicate()[1] == ""
    assert (tmp_path / "data" / COUNTS).read_bytes() == hub.files[COUNTS]
    assert files_in(home) == before
    assert all("/resolve/" in request.path for request in hub.requests)  # nothing that the library asks for itself


def test_without_a_terminal_nothing_is_printed_and_the_token_is_in_no_process_argument(hub, tmp_path):
    hub.faults[COUNTS] = fakehub.SLOW
    running = in_process(hub, tmp_path)
    wait_until(lambda: hub.served[COUNTS])
    assert fakehub.TOKEN.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
    assert running.communicate() == ("", "")
    assert running.returncode == 0


def test_data_on_another_disk_arrives_too(hub, tmp_path, monkeypatch):
    refused, on_one_disk = [], {name: getattr(os, name) for name in ("rename", "replace")}

    def move_on_one_disk(name, source, target):
        if ".partial" in Path(source).parts and ".partial" not in Path(target).parts:
            refused.append(target)
            raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
        on_one_disk[name](source, target)

    for name in on_one_disk:
        monkeypatch.setattr(os, name, partial(move_on_one_disk, name))
    fetch(hub, tmp_path)
    assert len(refused) == len(FILES)
    assert files_in(tmp_path) == sorted([*FILES, f"downloads/{fakehub.COMMIT}/S1.json"])
    check(tmp_path, manifest_of(tmp_path), by_hash=True)


# --- interruptions --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_download_leaves_nothing_in_place_and_the_next_one_clears_up(hub, tmp_path, sign):
    hub.faults[COUNTS] = fakehub.SLOW
    running = in_process(hub, tmp_path, [METADATA, COUNTS])
    wait_until(lambda: hub.served[COUNTS] > SIZE // 4)
    running.send_signal(sign)
    running.communicate()
    assert files_in(tmp_path) == []
    assert list((tmp_path / ".partial").rglob("*.incomplete"))
    hub.faults.clear()
    hub.count_anew()
    fetch(hub, tmp_path)
    assert hub.served == {COUNTS: SIZE}  # from its first byte, but not the file that was complete
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert [path.name for path in (tmp_path / ".partial").rglob("*")] == ["S1.lock"]


def test_two_processes_that_need_the_same_sample_download_it_once(hub, tmp_path):
    hub.files[COUNTS] = np.random.default_rng(1).bytes(2_000_000)
    hub.faults[COUNTS] = fakehub.SLOW
    first = in_process(hub, tmp_path)
    wait_until(lambda: hub.served[COUNTS])
    fetch(hub, tmp_path)
    assert first.communicate()[1] == ""
    assert hub.asked("GET") == 2
    assert hub.served[COUNTS] == 2_000_000
    check(tmp_path, manifest_of(tmp_path), by_hash=True)


@pytest.mark.parametrize("length", [300_000, SIZE, SIZE + 5])
def test_damaged_file_of_an_earlier_attempt_is_downloaded_again(hub, tmp_path, length):
    staged(tmp_path).parent.mkdir(parents=True)
    staged(tmp_path).write_bytes(bytes(length))  # as a power failure leaves it, or another commit
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert not staged(tmp_path).exists()


def test_finished_files_of_a_failed_sample_are_not_downloaded_again(hub, tmp_path, monkeypatch):
    hub.faults[METADATA] = fakehub.UNAVAILABLE_BYTES
    with pytest.raises(SetupError):
        fetch(hub, tmp_path)
    assert files_in(tmp_path) == []
    hub.faults.clear()
    hub.count_anew()
    # and need no room again
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=len(hub.files[METADATA])))
    fetch(hub, tmp_path)
    assert set(hub.served) == {METADATA}


# --- the disk -------------------------------------------------------------------------------------------------------


def test_files_that_do_not_fit_are_refused_before_their_first_byte(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    need = SIZE + len(hub.files[METADATA])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=need - 1))
    with pytest.raises(
        SetupError, match=r": 0\.000 GB needed for st/S1\.h5ad, metadata/S1\.json and 0\.000 GB free: make"
    ):
        fetch(hub, tmp_path)
    assert hub.asked("GET") == 0
    assert files_in(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=need))
    fetch(hub, tmp_path)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_fills_up_on_the_way_stops_the_download_and_is_freed(hub, tmp_path, code):
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_after(patch, 150_000, code)
        with pytest.raises(SetupError, match=f"{os.strerror(code)}: data.root needs free space") as raised:
            fetch(hub, tmp_path)
    assert str(raised.value).startswith(str(tmp_path))
    assert files_in(tmp_path) == []
    assert not list((tmp_path / ".partial").rglob("*.incomplete"))
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]


def fill_disk_after(patch, limit, code):
    """Let unfinished files grow to ``limit`` bytes only."""
    opened = Path.open

    def open_limited(path, *arguments, **settings):
        file = opened(path, *arguments, **settings)
        if path.suffix != ".incomplete":
            return file
        written = []

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *_):
                file.close()

            def write(self, block):
                written.append(len(block))
                if sum(written) > limit:
                    raise OSError(code, os.strerror(code))
                return file.write(block)

        return Full()

    patch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    patch.setattr(Path, "open", open_limited)


def test_folder_that_cannot_be_written_to_is_named(hub, tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data")

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SetupError, match=r"data: Permission denied: data\.root needs free space and permission"):
        fetch(hub, tmp_path)
    assert not hub.requests


# --- what is in the folder ------------------------------------------------------------------------------------------


def test_verified_files_need_no_hub_and_no_token(hub, tmp_path, no_hub, monkeypatch):
    first = fetch(hub, tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert fetch(hub, tmp_path, endpoint=no_hub.url, token=None) == first


def test_unverified_files_are_not_used_without_the_hub(hub, tmp_path, no_hub):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).unlink()
    with pytest.raises(SetupError, match=f"no connection .*{COUNTS} exists, but no manifest lists it"):
        fetch(hub, tmp_path, endpoint=no_hub.url)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]  # refused, not deleted


@pytest.mark.parametrize("damage", ["{", "[]", "\xff"])
def test_files_of_a_damaged_manifest_are_compared_with_the_hub_and_kept(hub, tmp_path, no_hub, damage):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).write_bytes(damage.encode("latin-1"))
    with pytest.raises(SetupError, match="no manifest lists it"):
        fetch(hub, tmp_path, endpoint=no_hub.url)
    hub.count_anew()
    fetch(hub, tmp_path)
    assert not hub.served
    check(tmp_path, manifest_of(tmp_path), by_hash=True)


def test_files_copied_by_the_user_are_compared_with_the_hub_and_kept(hub, tmp_path):
    for path in FILES:
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(hub.files[path])
    records = fetch(hub, tmp_path)
    assert not hub.served
    assert [record["etag"] for record in records] == [hub.etag(path) for path in FILES]


@pytest.mark.parametrize("length", [SIZE, 1000])
def test_wrong_file_in_the_folder_is_replaced_with_a_warning(hub, tmp_path, caplog, length):
    (tmp_path / COUNTS).parent.mkdir()
    (tmp_path / COUNTS).write_bytes(bytes(length))
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert f"{COUNTS}: the local file is not the hub's: it is replaced" in caplog.text


def test_failed_download_leaves_the_files_in_the_folder_as_they_were(hub, tmp_path):
    (tmp_path / COUNTS).parent.mkdir()
    (tmp_path / COUNTS).write_bytes(b"of another revision")
    hub.faults[COUNTS] = fakehub.CORRUPT
    with pytest.raises(SetupError, match="damaged on the way"):
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == b"of another revision"


def test_file_that_changed_after_its_download_is_downloaded_again(hub, tmp_path):
    fetch(hub, tmp_path)
    changed = bytearray(hub.files[COUNTS])
    changed[SIZE // 2] ^= 1
    (tmp_path / COUNTS).write_bytes(changed)
    hub.count_anew()
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served == {COUNTS: SIZE}


def test_missing_file_is_downloaded_alone(hub, tmp_path):
    fetch(hub, tmp_path)
    (tmp_path / COUNTS).unlink()
    hub.count_anew()
    fetch(hub, tmp_path)
    assert hub.served == {COUNTS: SIZE}


def test_new_revision_downloads_only_what_changed(hub, tmp_path):
    fetch(hub, tmp_path)
    hub.commit = "f" * 40
    hub.files[METADATA] = b'{"id": "S1", "patient": "7"}\n'
    hub.count_anew()
    records = fetch(hub, tmp_path, revision=hub.commit)
    assert set(hub.served) == {METADATA}
    assert {record["commit"] for record in records} == {hub.commit}
    # the other run that shares the folder stops, and does not use the other revision's file
    with pytest.raises(InputError, match=r"metadata/S1\.json: size: found 29 bytes, expected 13, as downloaded"):
        require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    require(tmp_path, hub.commit, {"S1": FILES})
