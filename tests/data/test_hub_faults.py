"""Claims about faults of the hub and the connection: which are waited for, and what the others say."""

import logging
import time
import traceback

import pytest

import fakehub
from hubcase import COUNTS, FILES, METADATA, QUICK, SIZE, fetch, files_in, sample_files, staged
from spotwise.data.hub import RetryPolicy
from spotwise.errors import InputError, SetupError

TIMEOUTS = ("HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT")


@pytest.fixture
def hub():
    with fakehub.FakeHub(sample_files()) as running:
        yield running


@pytest.fixture
def waits(monkeypatch):
    """Record the seconds that this process would wait, and wait ten milliseconds at most."""
    seconds, sleep = [], time.sleep

    def record(wait):
        seconds.append(wait)
        sleep(min(wait, 0.01))

    monkeypatch.setattr(time, "sleep", record)
    return seconds


@pytest.fixture
def set_timeouts(monkeypatch):
    """Set the library's timeouts in seconds."""
    return lambda seconds: [
        monkeypatch.setattr(f"huggingface_hub.constants.{variable}", seconds) for variable in TIMEOUTS
    ]


# --- faults that pass -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [fakehub.HALF, fakehub.DROPPED])
def test_lost_connection_is_taken_up_at_the_last_chunk(hub, tmp_path, waits, monkeypatch, fault):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 10_000)
    hub.faults[COUNTS] = (fault, 5)
    fetch(hub, tmp_path, policy=RetryPolicy(attempts=1))
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert SIZE <= hub.served[COUNTS] < SIZE + 5 * 10_000


def test_hub_that_sends_the_whole_file_instead_of_its_rest_is_understood(hub, tmp_path, waits):
    hub.ranges = False
    hub.faults[COUNTS] = (fakehub.HALF, 1)
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert hub.served[COUNTS] == SIZE // 2 + SIZE


@pytest.mark.parametrize(
    "fault",
    [
        fakehub.UNAVAILABLE,
        fakehub.UNAVAILABLE_BYTES,
        fakehub.BUSY,
        fakehub.SILENT,
        fakehub.STALLED,
        fakehub.SHORT,
        fakehub.LONG,
    ],
)
def test_hub_that_recovers_is_waited_for(hub, tmp_path, waits, set_timeouts, fault):
    set_timeouts(0.2)
    hub.retry_after = "0"
    hub.faults[COUNTS] = (fault, 2)
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]


def test_waits_double_up_to_the_longest(hub, tmp_path, waits):
    hub.faults[COUNTS] = fakehub.UNAVAILABLE
    with pytest.raises(SetupError, match=r"status 503 at http://\S+, after 7 attempts"):
        fetch(hub, tmp_path, policy=RetryPolicy(attempts=7, first_wait=1, longest_wait=10))
    assert waits == [1, 2, 4, 8, 10, 10]
    assert len(hub.requests) == 7


@pytest.mark.parametrize("fault", [fakehub.BUSY, fakehub.RATE_LIMITED])
def test_the_hub_says_how_long_to_wait(hub, tmp_path, waits, fault):
    hub.retry_after = "37"
    hub.faults[COUNTS] = (fault, 2)
    fetch(hub, tmp_path, policy=RetryPolicy(first_wait=1))
    assert waits == [37, 37]


def test_the_library_itself_waits_as_long_as_the_hub_asks_before_the_contents(hub, tmp_path, waits):
    hub.retry_after = "37"
    hub.faults[COUNTS] = (fakehub.BUSY_BYTES, 2)
    fetch(hub, tmp_path, policy=RetryPolicy(attempts=1))
    assert waits == [38, 38]  # the library adds a second


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2065 07:28:00 GMT", ""])
def test_a_pause_that_is_no_number_is_ignored(hub, tmp_path, waits, header):
    hub.retry_after = header
    hub.faults[COUNTS] = (fakehub.BUSY, 2)
    fetch(hub, tmp_path, policy=RetryPolicy(first_wait=1))
    assert waits == [1, 2]


def test_default_policy_waits_for_two_minutes_and_more(hub, tmp_path, waits):
    hub.faults[COUNTS] = fakehub.UNAVAILABLE
    with pytest.raises(SetupError, match="after 8 attempts"):
        fetch(hub, tmp_path, policy=RetryPolicy())
    assert 120 <= sum(waits) <= 300


@pytest.mark.parametrize(("variable", "fault"), list(zip(TIMEOUTS, (fakehub.SILENT, fakehub.STALLED), strict=True)))
def test_the_librarys_variables_set_the_timeouts(hub, tmp_path, waits, monkeypatch, variable, fault):
    hub.faults[COUNTS] = fault
    monkeypatch.setattr(f"huggingface_hub.constants.{variable}", 0.1)
    started = time.monotonic()
    with pytest.raises(SetupError, match="no answer in time at"):
        fetch(hub, tmp_path, policy=RetryPolicy(attempts=1))
    assert time.monotonic() - started < 3


# --- faults that stay -----------------------------------------------------------------------------------------------

FAULTS = {
    fakehub.CORRUPT: (SetupError, r"found hash [0-9a-f]{64}, expected .*damaged on the way"),
    fakehub.SHORT: (SetupError, "contents of another size than stated .* after 3 attempts"),
    fakehub.LONG: (SetupError, "contents of another size than stated .* after 3 attempts"),
    fakehub.DROPPED: (SetupError, "a broken connection at http.* after 3 attempts: check the connection and start"),
    fakehub.HALF: (SetupError, "a broken connection .* after 3 attempts"),
    fakehub.UNAVAILABLE: (SetupError, "status 503 .* after 3 attempts"),
    fakehub.UNAVAILABLE_BYTES: (SetupError, "status 503 .* after 3 attempts"),
    fakehub.BUSY: (SetupError, r"the hub asks to wait 86400 s \(status 429\): start again after that"),
    fakehub.BUSY_BYTES: (SetupError, r"the hub asks to wait 86400 s \(status 429\): start again after that"),
    fakehub.RATE_LIMITED: (SetupError, r"the hub asks to wait 86400 s \(status 429\): start again after that"),
    fakehub.SILENT: (SetupError, "no answer in time .* after 3 attempts"),
    fakehub.STALLED: (SetupError, "no answer in time .* after 3 attempts"),
    fakehub.NO_HASH: (SetupError, "states no hash and size"),
    fakehub.CIRCLE: (SetupError, "redirects without an end .* after one attempt"),
    fakehub.CIRCLE_BYTES: (SetupError, "redirects without an end .* after one attempt"),
    fakehub.PAGE: (SetupError, "is not the hub: a login page or a proxy answers"),
    fakehub.PAGE_BYTES: (SetupError, r"another size than stated \(a login page or a proxy may answer\) at http"),
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
CASES = [pytest.param(fault, {}, *expected, id=fault) for fault, expected in FAULTS.items()]
CASES += [pytest.param(None, *refusal, id=name) for name, refusal in REFUSALS.items()]


@pytest.mark.parametrize(("fault", "settings", "kind", "message"), CASES)
def test_failed_download_ends_in_one_line_leaves_nothing_unverified_and_keeps_the_token(
    hub, tmp_path, caplog, capfd, waits, set_timeouts, fault, settings, kind, message
):
    caplog.set_level(logging.INFO)
    hub.retry_after = "86400"
    if fault:
        hub.faults[COUNTS] = fault
    if fault in (fakehub.SILENT, fakehub.STALLED):
        set_timeouts(0.05)
    with pytest.raises(kind, match=message) as raised:
        fetch(hub, tmp_path, **({"files": [METADATA, COUNTS]} | settings))
    assert files_in(tmp_path) == []  # not even the good file
    assert not list((tmp_path / ".partial").rglob("*.incomplete"))
    for path in FILES:
        assert not staged(tmp_path, path).exists() or staged(tmp_path, path).read_bytes() == hub.files[path]
    output = capfd.readouterr()
    shown = [*traceback.format_exception(raised.value), *map(str, raised.value.args), caplog.text, *output]
    assert "\n" not in str(raised.value)
    assert not any(token in text for text in shown for token in (fakehub.TOKEN, "hf_other", "stale_token"))


def test_small_file_is_compared_with_its_git_hash(hub, tmp_path):
    hub.faults[METADATA] = fakehub.CORRUPT
    with pytest.raises(SetupError, match=rf"found hash [0-9a-f]{{40}}, expected {hub.etag(METADATA)}"):
        fetch(hub, tmp_path)
    assert files_in(tmp_path) == []


def test_storage_that_refuses_is_not_taken_for_the_hub(hub, tmp_path):
    with fakehub.FakeHub(hub.files, token="its own") as storage:
        hub.storage = storage
        with pytest.raises(
            SetupError, match=r"the hub refers to 127\.0\.0\.1, which refuses \(status 401\): is that ho"
        ):
            fetch(hub, tmp_path)
    assert files_in(tmp_path) == []


def test_unknown_dataset_is_named(hub, tmp_path):
    with fakehub.FakeHub({}, repo="other/data") as other, pytest.raises(InputError, match="found no such dataset"):
        fetch(hub, tmp_path, endpoint=other.url)
    assert files_in(tmp_path) == []


def test_unreachable_hub_is_named(hub, tmp_path):
    with fakehub.FakeHub({}) as gone:
        pass
    with pytest.raises(SetupError, match=rf"no connection at {gone.url}, after {QUICK.attempts} attempts"):
        fetch(hub, tmp_path, endpoint=gone.url)
    assert files_in(tmp_path) == []


def test_offline_mode_is_named(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE is set: unset it"):
        fetch(hub, tmp_path)
    assert files_in(tmp_path) == []


def test_file_that_the_library_cannot_transfer_is_refused_at_once(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.MAX_HTTP_DOWNLOAD_SIZE", SIZE - 1)
    with pytest.raises(SetupError, match=f"{COUNTS}: 0 GB are too much for one request: download it by hand"):
        fetch(hub, tmp_path)
    assert hub.asked("GET") == 0
