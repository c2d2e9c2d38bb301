"""Claims about downloads, against a stand-in for the Hugging Face hub that misbehaves on request."""

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest

import fakehub
from spotwise.data import download
from spotwise.data.download import Patience, check, download, manifest_path, read_manifest, require, token_from_environment
from spotwise.errors import InputError, SetupError

COUNTS, METADATA, PATCHES = "st/S1.h5ad", "metadata/S1.json", "patches/S1.h5"
FILES = (COUNTS, METADATA)
SOURCES = str(Path(__file__).parents[2] / "src")
QUICK = Patience(attempts=4, first_wait=0.01, longest_wait=0.02, longest_pause=2, timeout=5, new_bytes=10_000)
SIZE = 400_000


@pytest.fixture
def hub():
    content = np.random.default_rng(0).bytes(SIZE)
    with fakehub.FakeHub({COUNTS: content, METADATA: b'{"id": "S1"}\n'}) as running:
        yield running


def fetch(hub, root, files=FILES, **settings):
    settings = {"token": fakehub.TOKEN, "endpoint": hub.url, "patience": QUICK} | settings
    return download(fakehub.REPO, settings.pop("revision", fakehub.COMMIT), "S1", list(files), root, **settings)


def manifest_of(root, revision=fakehub.COMMIT):
    return manifest_path(root, revision, "S1")


def files_in(root):
    """What lies in a data folder, as relative paths; unfinished files too."""
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def assert_nothing_but_partials_in(root):
    assert [path for path in files_in(root) if not path.startswith(".partial/")] == []


def partial_of(hub, root, path=COUNTS):
    return root / ".partial" / f"{quote(path, safe='')}.{hub.etag(path)}"


# --- the token ------------------------------------------------------------------------------------------------------


def test_token_comes_from_the_environment_without_surrounding_blanks(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", " hf_abc\n")
    assert token_from_environment() == "hf_abc"


@pytest.mark.parametrize("value", [None, "", "  \n"])
def test_missing_token_stops_with_the_remedy(monkeypatch, value):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    if value is not None:
        monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(SetupError, match=r"HF_TOKEN is not set.*terms.*export HF_TOKEN="):
        token_from_environment()


@pytest.mark.parametrize("value", ["hf_abc hf_def", "hf_abc\nX-Evil: 1", "hf_ä"])
def test_token_that_cannot_be_one_is_refused_without_showing_it(monkeypatch, value):
    monkeypatch.setenv("HF_TOKEN", value)
    with pytest.raises(SetupError, match="copy the token again") as told:
        token_from_environment()
    assert "hf_" not in str(told.value)


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
def test_token_is_not_sent_to_the_storage_that_the_hub_redirects_to(hub, tmp_path, caplog, late):
    caplog.set_level(logging.INFO)
    hub.late_redirect = late
    with fakehub.FakeHub(hub.files, token=None) as storage:
        hub.storage = storage
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert [(request.method, request.authorization) for request in storage.requests] == [("GET", None)]
    assert {request.authorization for request in hub.requests} == {f"Bearer {fakehub.TOKEN}"}
    assert "complete" in caplog.text
    assert "signature" not in caplog.text  # of the storage's address, good for whoever has it


def test_storage_that_refuses_is_told_from_a_hub_that_refuses(hub, tmp_path):
    with fakehub.FakeHub(hub.files, token="its own") as storage:
        hub.storage = storage
        with pytest.raises(
            SetupError, match=r"the hub refers to 127\.0\.0\.1, which refuses \(status 401\): is that ho"
        ):
            fetch(hub, tmp_path)
    assert_nothing_but_partials_in(tmp_path)


@pytest.mark.parametrize(
    ("location", "seen"),
    [
        ("http://mirror:8080/a/b", True),
        ("https://huggingface.co/a/b", True),
        ("http://mirror/a/b", False),
        ("https://mirror:8080/a/b", False),
        ("http://huggingface.co/a/b", False),
        ("https://huggingface.co.evil.org/a", False),
        ("https://huggingface.co@evil.org/a", False),
        ("https://cdn-lfs.huggingface.co/a", False),
    ],
)
def test_only_the_hub_and_its_chosen_mirror_may_see_the_token(location, seen):
    assert download._is_hub(location, "http://mirror:8080") is seen


# --- what comes -----------------------------------------------------------------------------------------------------


def test_downloaded_files_are_the_hubs_bytes_and_their_hashes_recorded(hub, tmp_path):
    records = fetch(hub, tmp_path)
    for path, record in zip(FILES, records, strict=True):
        content = hub.files[path]
        assert (tmp_path / path).read_bytes() == content
        stated = {"path": path, "size": len(content), "etag": hub.etag(path), "commit": fakehub.COMMIT}
        stated |= {"sha256": hashlib.sha256(content).hexdigest()}
        assert record == stated | {"modified_ns": (tmp_path / path).stat().st_mtime_ns}
    assert records[0]["etag"] == records[0]["sha256"]  # a large file: the hub states its sha256
    assert len(records[1]["etag"]) == 40  # a small one: git's sha1
    assert read_manifest(manifest_of(tmp_path)) == records
    assert files_in(tmp_path) == sorted([*FILES, f"downloads/{fakehub.COMMIT}/S1.json"])


def test_the_files_hashes_are_those_of_sha256sum_and_git(tmp_path):
    (tmp_path / "hello").write_bytes(b"hello\n")  # `echo hello | sha256sum` and `| git hash-object --stdin`
    sha256, git = download._hashes(tmp_path / "hello")
    assert sha256 == "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
    assert git == "ce013625030ba8dba906f756967f9e9ca394464a"


def test_empty_file_is_a_file(hub, tmp_path):
    hub.files[METADATA] = b""
    fetch(hub, tmp_path)
    assert (tmp_path / METADATA).read_bytes() == b""


def test_every_file_is_asked_for_at_the_pinned_commit(hub, tmp_path):
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


def in_process(hub, root, files=FILES, **environment):
    """A download of its own, to be killed or watched; the hub and the token reach it as they reach a job."""
    code = (
        "import sys; from spotwise.data.download import *\n"
        "download(*sys.argv[1:3], 'S1', sys.argv[4:], sys.argv[3], patience=Patience(first_wait=0.01))"
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


def test_without_a_terminal_nothing_is_printed_and_the_token_is_in_no_process_argument(hub, tmp_path):
    hub.faults[COUNTS] = fakehub.SLOW
    running = in_process(hub, tmp_path)
    wait_until(lambda: hub.served[COUNTS])
    assert fakehub.TOKEN.encode() not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
    assert running.communicate() == ("", "")
    assert running.returncode == 0


# --- going on where it stopped --------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGTERM], ids=["SIGKILL", "SIGTERM"])
def test_killed_download_goes_on_where_it_stopped(hub, tmp_path, sign):
    hub.files[COUNTS] = np.random.default_rng(1).bytes(2_000_000)
    hub.faults[COUNTS] = fakehub.SLOW
    running = in_process(hub, tmp_path)
    wait_until(lambda: download._size(partial_of(hub, tmp_path)) > 400_000)
    running.send_signal(sign)
    running.communicate()
    wait_until(lambda: not hub.sending)
    assert_nothing_but_partials_in(tmp_path)
    have = partial_of(hub, tmp_path).stat().st_size
    assert 400_000 < have < 2_000_000
    hub.faults.clear()
    hub.count_anew()
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served[COUNTS] == 2_000_000 - have
    assert f"bytes={have}-" in [request.range for request in hub.requests]


@pytest.mark.parametrize("fault", [fakehub.HALF, fakehub.DROPPED, fakehub.SHORT])
def test_lost_connection_is_taken_up_where_it_broke_off(hub, tmp_path, fault):
    hub.faults[COUNTS] = (fault, 2)
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served[COUNTS] == SIZE


def test_download_that_moves_on_outlives_any_number_of_lost_connections(hub, tmp_path):
    hub.faults[COUNTS] = (fakehub.HALF, 5)  # one more than QUICK bears without progress
    fetch(hub, tmp_path)
    assert hub.served[COUNTS] == SIZE
    assert hub.asked("GET") == 7


def test_download_that_does_not_move_on_ends(hub, tmp_path):
    hub.faults[COUNTS] = fakehub.HALF
    with pytest.raises(SetupError, match=r"a broken connection at http://127\S+, after 4 attempts: check the connecti"):
        fetch(hub, tmp_path)
    # Halves of the rest: the first five are 10 kB and more, the next three together; then three more failures in a row
    assert hub.asked("GET") == 11
    assert partial_of(hub, tmp_path).stat().st_size == SIZE - SIZE // 2**11 - 1
    assert_nothing_but_partials_in(tmp_path)


def test_hub_that_sends_the_whole_file_again_is_understood(hub, tmp_path):
    partial = partial_of(hub, tmp_path)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(hub.files[COUNTS][:300_000])
    hub.faults[COUNTS] = fakehub.NO_RANGES
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served[COUNTS] == SIZE


@pytest.mark.parametrize("length", [300_000, SIZE, SIZE + 5])
def test_partial_file_that_is_damaged_is_begun_anew(hub, tmp_path, length):
    partial = partial_of(hub, tmp_path)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(bytes(length))  # as a power failure leaves it
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]


def test_finished_files_of_a_failed_sample_are_not_fetched_again(hub, tmp_path):
    hub.faults[METADATA] = fakehub.UNAVAILABLE_BYTES
    with pytest.raises(SetupError):
        fetch(hub, tmp_path)
    assert_nothing_but_partials_in(tmp_path)
    hub.faults.clear()
    hub.count_anew()
    fetch(hub, tmp_path)
    assert hub.served == {METADATA: len(hub.files[METADATA])}


def test_what_had_come_of_another_version_is_cleared_away(hub, tmp_path):
    hub.faults[COUNTS] = fakehub.STALLED
    with pytest.raises(SetupError):
        fetch(hub, tmp_path, patience=Patience(attempts=1, timeout=0.2))
    old = partial_of(hub, tmp_path)
    assert old.is_file()
    hub.files[COUNTS] = b"of another commit"
    hub.faults.clear()
    fetch(hub, tmp_path)
    assert not old.exists()
    assert not list((tmp_path / ".partial").iterdir())


def test_two_that_want_the_same_file_fetch_it_once(hub, tmp_path):
    hub.files[COUNTS] = np.random.default_rng(1).bytes(5_000_000)
    hub.faults[COUNTS] = fakehub.SLOW
    first = in_process(hub, tmp_path)
    wait_until(lambda: hub.served[COUNTS])
    fetch(hub, tmp_path)
    assert first.communicate()[1] == ""
    assert hub.served == {COUNTS: 5_000_000, METADATA: len(hub.files[METADATA])}
    assert hub.at_once == 1
    check(tmp_path, manifest_of(tmp_path), by_hash=True)
    assert not list((tmp_path / ".partial").iterdir())


# --- waiting --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [fakehub.UNAVAILABLE, fakehub.UNAVAILABLE_BYTES, fakehub.BUSY, fakehub.SILENT, fakehub.STALLED]
)
def test_hub_that_recovers_is_waited_for(hub, tmp_path, fault):
    hub.retry_after = "0"
    hub.faults[COUNTS] = (fault, 2)
    fetch(hub, tmp_path, patience=Patience(attempts=4, first_wait=0.01, timeout=0.2))
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served[COUNTS] == SIZE


@pytest.fixture
def waits(monkeypatch):
    """Seconds that were waited, without waiting."""
    seconds = []
    monkeypatch.setattr(time, "sleep", seconds.append)
    return seconds


def test_waits_double_up_to_the_longest(hub, tmp_path, waits):
    hub.faults[COUNTS] = fakehub.UNAVAILABLE
    with pytest.raises(SetupError, match=r"status 503 at http://\S+, after 7 attempts"):
        fetch(hub, tmp_path, patience=Patience(attempts=7, first_wait=1, longest_wait=10))
    assert waits == [1, 2, 4, 8, 10, 10]
    assert len(hub.requests) == 7


@pytest.mark.parametrize("fault", [fakehub.BUSY, fakehub.RATE_LIMITED])
def test_the_hub_says_how_long_to_wait(hub, tmp_path, waits, fault):
    hub.retry_after = "37"
    hub.faults[COUNTS] = (fault, 2)
    fetch(hub, tmp_path, patience=Patience(first_wait=1))
    assert waits == [37, 37]


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2065 07:28:00 GMT", ""])
def test_a_pause_that_is_no_number_leaves_the_own_waits(hub, tmp_path, waits, header):
    hub.retry_after = header
    hub.faults[COUNTS] = (fakehub.BUSY, 2)
    fetch(hub, tmp_path, patience=Patience(first_wait=1))
    assert waits == [1, 2]


def test_defaults_bear_with_a_hub_for_two_minutes_and_more(hub, tmp_path, waits):
    hub.faults[COUNTS] = fakehub.UNAVAILABLE
    with pytest.raises(SetupError, match="after 8 attempts"):
        fetch(hub, tmp_path, patience=Patience())
    assert 120 <= sum(waits) <= 300


def test_the_librarys_variables_set_the_timeouts(hub, tmp_path, monkeypatch):
    for variable, fault in (("HF_HUB_ETAG_TIMEOUT", fakehub.SILENT), ("HF_HUB_DOWNLOAD_TIMEOUT", fakehub.STALLED)):
        hub.faults[COUNTS] = fault
        with monkeypatch.context() as patch:
            patch.setattr(f"huggingface_hub.constants.{variable}", 0.2)
            started = time.monotonic()
            with pytest.raises(SetupError, match="no answer in time at"):
                fetch(hub, tmp_path, patience=Patience(attempts=1))
            assert time.monotonic() - started < 3


# --- faults ---------------------------------------------------------------------------------------------------------

FAULTS = {
    fakehub.CORRUPT: (SetupError, r"found hash [0-9a-f]{64} \(400000 bytes\), expected .*damaged on the way"),
    fakehub.SHORT: (SetupError, "fewer bytes than stated .* after 4 attempts"),
    fakehub.LONG: (SetupError, r"\(400001 bytes\), expected .*damaged on the way"),
    fakehub.DROPPED: (SetupError, "a broken connection .* after 4 attempts"),
    fakehub.UNAVAILABLE: (SetupError, "status 503 .* after 4 attempts"),
    fakehub.UNAVAILABLE_BYTES: (SetupError, "status 503 .* after 4 attempts"),
    fakehub.BUSY: (SetupError, r"the hub asks to wait 86400 s \(status 429\): start again after that"),
    fakehub.RATE_LIMITED: (SetupError, r"the hub asks to wait 86400 s \(status 429\): start again after that"),
    fakehub.SILENT: (SetupError, "no answer in time .* after 4 attempts"),
    fakehub.STALLED: (SetupError, "no answer in time .* after 4 attempts"),
    fakehub.NO_HASH: (SetupError, "states no hash and size"),
    fakehub.CIRCLE: (SetupError, "redirects without an end .* after one attempt"),
    fakehub.CIRCLE_BYTES: (SetupError, "redirects without an end .* after one attempt"),
    fakehub.PAGE: (SetupError, "is not the hub: a login page or a proxy answers"),
    fakehub.PAGE_BYTES: (SetupError, "a web page came in its place: a login page or a proxy answers"),
    fakehub.FORBIDDEN: (SetupError, "refuses the token in HF_TOKEN.*fine-grained"),
    fakehub.OTHER_COMMIT: (InputError, f"revision of {COUNTS}: found f{{40}}, expected {fakehub.COMMIT}"),
}
REFUSALS = {
    "no token": ({"token": ""}, SetupError, "needs a token: set HF_TOKEN and accept the terms at http"),
    "token without access": ({"token": "hf_other"}, SetupError, "account has not been granted access"),
    "invalid token": ({"token": "stale_token"}, SetupError, "refuses the token in HF_TOKEN: make a new one"),
    "missing file": ({"files": [METADATA, "st/S2.h5ad"]}, InputError, f"{fakehub.COMMIT}: st/S2.h5ad: found no such"),
    "missing revision": ({"revision": "f" * 40}, InputError, "revision: found f{40}, expected a commit"),
}
CASES = [pytest.param(fault, {}, *told, id=fault) for fault, told in FAULTS.items()]
CASES += [pytest.param(None, *refusal, id=name) for name, refusal in REFUSALS.items()]


@pytest.mark.parametrize(("fault", "settings", "kind", "complaint"), CASES)
def test_failed_download_is_told_in_one_line_leaves_nothing_half_written_and_keeps_the_token(
    hub, tmp_path, caplog, capfd, fault, settings, kind, complaint
):
    caplog.set_level(logging.INFO)
    hub.retry_after = "86400"
    if fault:
        hub.faults[COUNTS] = fault
    if fault in (fakehub.SILENT, fakehub.STALLED):
        settings = {"patience": Patience(attempts=4, first_wait=0.01, timeout=0.2)}
    started = time.monotonic()
    with pytest.raises(kind, match=complaint) as told:
        fetch(hub, tmp_path, **({"files": [METADATA, COUNTS]} | settings))
    assert time.monotonic() - started < 6
    # nothing in place, not even the good file, and nothing unfinished that is not a beginning of the file
    assert_nothing_but_partials_in(tmp_path)
    for path in FILES:
        if partial_of(hub, tmp_path, path).exists():
            assert hub.files[path].startswith(partial_of(hub, tmp_path, path).read_bytes())
    output = capfd.readouterr()
    shown = [*traceback.format_exception(told.value), *map(str, told.value.args), caplog.text, output.out, output.err]
    assert "\n" not in str(told.value)
    assert not any(token in text for text in shown for token in (fakehub.TOKEN, "hf_other", "stale_token"))


def test_small_file_is_checked_against_its_git_hash(hub, tmp_path):
    hub.faults[METADATA] = fakehub.CORRUPT
    with pytest.raises(SetupError, match=rf"found hash [0-9a-f]{{40}} .*expected {hub.etag(METADATA)}"):
        fetch(hub, tmp_path)
    assert_nothing_but_partials_in(tmp_path)


def test_unknown_dataset_is_told(hub, tmp_path):
    with fakehub.FakeHub({}, repo="other/data") as other, pytest.raises(InputError, match="found no such dataset"):
        fetch(hub, tmp_path, endpoint=other.url)
    assert files_in(tmp_path) == []


def test_unreachable_hub_is_told(hub, tmp_path):
    with fakehub.FakeHub({}) as gone:
        pass
    with pytest.raises(SetupError, match=rf"no connection at {gone.url}, after 4 attempts"):
        fetch(hub, tmp_path, endpoint=gone.url)
    assert files_in(tmp_path) == []


def test_offline_mode_is_told(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE is set: unset it"):
        fetch(hub, tmp_path)
    assert files_in(tmp_path) == []


# --- the disk -------------------------------------------------------------------------------------------------------


def test_what_does_not_fit_is_refused_before_its_first_byte(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    need = SIZE + len(hub.files[METADATA])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=need - 1))
    with pytest.raises(
        SetupError, match=r": 0\.000 GB needed for st/S1\.h5ad, metadata/S1\.json and 0\.000 GB free: ma"
    ):
        fetch(hub, tmp_path)
    assert hub.asked("GET") == 0
    assert files_in(tmp_path) == []
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=need))
    fetch(hub, tmp_path)


def test_what_has_come_needs_no_space_again(hub, tmp_path, monkeypatch):
    partial = partial_of(hub, tmp_path)
    partial.parent.mkdir(parents=True)
    partial.write_bytes(hub.files[COUNTS][:300_000])
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=100_000 + len(hub.files[METADATA])))
    fetch(hub, tmp_path)
    assert hub.served[COUNTS] == 100_000


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_disk_that_fills_up_on_the_way_is_told_and_the_download_goes_on_after(hub, tmp_path, code):
    limit = 150_000
    with pytest.MonkeyPatch.context() as patch:
        fill_disk_after(patch, limit, code)
        with pytest.raises(SetupError, match=f"{COUNTS}: {os.strerror(code)}: while writing; what has come so far is"):
            fetch(hub, tmp_path)
    assert_nothing_but_partials_in(tmp_path)
    have = partial_of(hub, tmp_path).stat().st_size
    assert have == limit
    assert partial_of(hub, tmp_path).read_bytes() == hub.files[COUNTS][:limit]
    hub.count_anew()
    fetch(hub, tmp_path)
    assert hub.served[COUNTS] == SIZE - have


def fill_disk_after(patch, limit, code):
    """Let files opened unbuffered grow to ``limit`` bytes only."""
    opened = Path.open

    class Full:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *_):
            self.file.close()

        def tell(self):
            return self.file.tell()

        def write(self, block):
            if self.file.tell() >= limit:
                raise OSError(code, os.strerror(code))
            return self.file.write(block[: min(1000, limit - self.file.tell())])  # all that fits, as a full disk does

    def open_limited(path, *arguments, **settings):
        file = opened(path, *arguments, **settings)
        return Full(file) if settings.get("buffering") == 0 else file

    patch.setattr(Path, "open", open_limited)


# --- what is there already ------------------------------------------------------------------------------------------


@pytest.fixture
def no_hub():
    """An address where nobody answers."""
    with fakehub.FakeHub({}) as gone:
        pass
    return gone


def test_verified_files_need_no_hub_and_no_token(hub, tmp_path, no_hub, monkeypatch):
    first = fetch(hub, tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    assert fetch(hub, tmp_path, endpoint=no_hub.url, token=None) == first


def test_unverified_files_are_not_used_without_the_hub(hub, tmp_path, no_hub):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).unlink()
    before = (tmp_path / COUNTS).read_bytes()
    with pytest.raises(SetupError, match=f"no connection .*{COUNTS} is there, but no manifest vouches for it"):
        fetch(hub, tmp_path, endpoint=no_hub.url)
    assert (tmp_path / COUNTS).read_bytes() == before  # refused, not deleted


@pytest.mark.parametrize("damage", ["", "{", '{"path": 1}', "[]", "[1]", '[{"path": "st/S1.h5ad"}]', "\xff"])
def test_damaged_manifest_vouches_for_nothing(hub, tmp_path, no_hub, damage):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).write_bytes(damage.encode("latin-1"))
    with pytest.raises(SetupError, match="no manifest vouches for it"):
        fetch(hub, tmp_path, endpoint=no_hub.url)
    with pytest.raises(InputError, match=r"S1\.json: (manifest|file 0): found .*delete the manifest"):
        require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    hub.count_anew()
    fetch(hub, tmp_path)  # with the hub, the files are compared with its hashes and kept
    assert not hub.served
    check(tmp_path, manifest_of(tmp_path), by_hash=True)


@pytest.mark.parametrize("key", ["path", "size", "sha256", "etag", "commit", "modified_ns"])
def test_manifest_without_a_key_or_with_a_text_for_a_number_is_damaged(hub, tmp_path, key):
    fetch(hub, tmp_path)
    whole = json.loads(manifest_of(tmp_path).read_text())
    for value in ({}, {key: None}):
        damaged = [{k: v for k, v in whole[0].items() if k != key} | value, whole[1]]
        manifest_of(tmp_path).write_text(json.dumps(damaged))
        with pytest.raises(InputError, match=f"file 0: found no {key}, expected the manifest of a download"):
            read_manifest(manifest_of(tmp_path))


def test_files_brought_by_hand_are_compared_with_the_hub_and_kept(hub, tmp_path):
    for path in FILES:
        (tmp_path / path).parent.mkdir()
        (tmp_path / path).write_bytes(hub.files[path])
    records = fetch(hub, tmp_path)
    assert not hub.served
    assert [record["etag"] for record in records] == [hub.etag(path) for path in FILES]


@pytest.mark.parametrize("length", [SIZE, 1000])
def test_wrong_file_in_the_folder_is_replaced_and_that_is_said(hub, tmp_path, caplog, length):
    (tmp_path / COUNTS).parent.mkdir()
    (tmp_path / COUNTS).write_bytes(bytes(length))
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert f"{COUNTS}: what is there is not the hub's file: it is replaced" in caplog.text


def test_failed_download_leaves_what_was_there_as_it_was(hub, tmp_path):
    (tmp_path / COUNTS).parent.mkdir()
    (tmp_path / COUNTS).write_bytes(b"of another revision")
    hub.faults[COUNTS] = fakehub.CORRUPT
    with pytest.raises(SetupError, match="damaged on the way"):
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == b"of another revision"


def test_file_that_changed_after_its_download_is_fetched_again(hub, tmp_path):
    fetch(hub, tmp_path)
    damage_behind_the_manifest(tmp_path / COUNTS)
    hub.count_anew()
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served == {COUNTS: SIZE}


def damage_behind_the_manifest(path):
    """Same length, another byte, another time of change."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_new_revision_fetches_only_what_changed(hub, tmp_path):
    fetch(hub, tmp_path)
    hub.commit = "f" * 40
    hub.files[METADATA] = b'{"id": "S1", "patient": "7"}\n'
    hub.count_anew()
    records = fetch(hub, tmp_path, revision=hub.commit)
    assert hub.served == {METADATA: len(hub.files[METADATA])}
    assert {record["commit"] for record in records} == {hub.commit}
    # the other run that shares the folder is told, not served the other revision's file
    with pytest.raises(InputError, match=r"metadata/S1\.json: size: found 29 bytes, expected 13, as downloaded"):
        require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    require(tmp_path, hub.commit, {"S1": FILES})


# --- later runs -----------------------------------------------------------------------------------------------------


def test_later_runs_look_at_size_and_time_and_read_nothing(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    monkeypatch.setattr(download, "_hashes", None)
    check(tmp_path, manifest_of(tmp_path))
    require(tmp_path, fakehub.COMMIT, {"S1": FILES})


@pytest.mark.parametrize("by_hash", [False, True])
def test_changed_file_is_named_by_later_runs(hub, tmp_path, by_hash):
    fetch(hub, tmp_path)
    damage_behind_the_manifest(tmp_path / COUNTS)
    with pytest.raises(
        InputError, match=rf"{COUNTS}: sha256: found [0-9a-f]{{64}}, expected {hub.etag(COUNTS)}, as do"
    ):
        check(tmp_path, manifest_of(tmp_path), by_hash)
    (tmp_path / COUNTS).write_bytes(b"short")
    with pytest.raises(InputError, match=rf"{COUNTS}: size: found 5 bytes, expected {SIZE}, as downloaded: delete the"):
        check(tmp_path, manifest_of(tmp_path), by_hash)


def test_damage_that_keeps_size_and_time_is_found_by_hash(hub, tmp_path):
    fetch(hub, tmp_path)
    modified = (tmp_path / COUNTS).stat().st_mtime_ns
    damage_behind_the_manifest(tmp_path / COUNTS)
    os.utime(tmp_path / COUNTS, ns=(modified, modified))
    check(tmp_path, manifest_of(tmp_path))
    with pytest.raises(InputError, match=f"{COUNTS}: sha256: found"):
        check(tmp_path, manifest_of(tmp_path), by_hash=True)


def test_touched_file_is_read_once_and_gets_its_time_back(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    modified = (tmp_path / COUNTS).stat().st_mtime_ns
    os.utime(tmp_path / COUNTS)
    check(tmp_path, manifest_of(tmp_path))
    assert (tmp_path / COUNTS).stat().st_mtime_ns == modified
    monkeypatch.setattr(download, "_hashes", None)
    check(tmp_path, manifest_of(tmp_path))


def refuse(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "data")


def test_touched_file_in_a_folder_for_reading_is_as_good(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    os.utime(tmp_path / COUNTS)
    monkeypatch.setattr(os, "utime", refuse)
    check(tmp_path, manifest_of(tmp_path))


def test_folder_that_cannot_be_written_to_is_told(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SetupError, match=r"data: Permission denied: downloads need a data\.root to write to"):
        fetch(hub, tmp_path)
    assert not hub.requests


def test_missing_file_is_fetched_by_a_run_and_missed_by_a_verification(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    (tmp_path / COUNTS).unlink()
    with pytest.raises(SetupError, match="HF_TOKEN is not set"):
        require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    with pytest.raises(InputError, match=f"{COUNTS}: file: found nothing, expected {SIZE} bytes"):
        check(tmp_path, manifest_of(tmp_path), by_hash=True)
    hub.count_anew()
    fetch(hub, tmp_path)
    assert hub.served == {COUNTS: SIZE}


def test_run_without_its_manifest_needs_a_token(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).unlink()
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with pytest.raises(SetupError, match="HF_TOKEN is not set"):
        require(tmp_path, fakehub.COMMIT, {"S1": FILES})
    monkeypatch.setenv("HF_TOKEN", fakehub.TOKEN)
    require(tmp_path, fakehub.COMMIT, {"S1": FILES})


def test_file_that_the_manifest_does_not_name_is_not_used(hub, tmp_path, monkeypatch):
    fetch(hub, tmp_path)
    monkeypatch.setenv("HF_TOKEN", fakehub.TOKEN)
    require(tmp_path, fakehub.COMMIT, {"S1": [*FILES, PATCHES]})  # not there: it will be fetched
    (tmp_path / PATCHES).parent.mkdir()
    (tmp_path / PATCHES).write_bytes(b"brought by hand")
    with pytest.raises(
        InputError, match=rf"S1\.json: {PATCHES}: found nothing, expected its hash: delete the manifest"
    ):
        require(tmp_path, fakehub.COMMIT, {"S1": [*FILES, PATCHES]})


def test_manifest_of_another_commit_in_this_ones_place_is_refused(hub, tmp_path):
    fetch(hub, tmp_path)
    manifest_of(tmp_path).rename(manifest := manifest_path(tmp_path, fakehub.COMMIT, "S2"))
    other = manifest_of(tmp_path, "f" * 40)
    other.parent.mkdir()
    manifest.rename(other)
    with pytest.raises(InputError, match=rf"file 0: found commit {fakehub.COMMIT}, expected f{{40}}"):
        require(tmp_path, "f" * 40, {"S1": FILES})
    assert re.fullmatch("f{40}", other.parent.name)
