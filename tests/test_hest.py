import errno
import hashlib
import json
import logging
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path

import anndata
import h5py
import numpy as np
import pytest

import fakehub
from spotwise.errors import InputError, SetupError
from spotwise.hest import (
    download,
    read_counts,
    read_metadata,
    require_local,
    sample_files,
    slide_size,
    spot_diameter_um,
    thumbnail,
    token_from_environment,
)

COUNTS, METADATA = "st/S1.h5ad", "metadata/S1.json"
SOURCES = str(Path(__file__).parents[1] / "src")


@pytest.fixture
def hub():
    content = np.random.default_rng(0).bytes(40_000)
    with fakehub.FakeHub({COUNTS: content, METADATA: b'{"id": "S1"}\n'}) as running:
        yield running


def fetch(hub, destination, files=(COUNTS, METADATA), **settings):
    settings = {"token": fakehub.TOKEN, "endpoint": hub.url, "timeout": 5} | settings
    return download(fakehub.REPO, settings.pop("revision", fakehub.COMMIT), list(files), destination, **settings)


def assert_nothing_in(folder):
    assert not list(folder.rglob("*"))


# --- layout and readers ---------------------------------------------------------------------------------------------


def test_sample_files_follow_the_hest_layout():
    files = sample_files("", "TENX95")
    names = [path.as_posix() for path in (files.counts, files.patches, files.slide, files.metadata)]
    assert names == ["st/TENX95.h5ad", "patches/TENX95.h5", "wsis/TENX95.tif", "metadata/TENX95.json"]
    assert sample_files("data", "TENX95").slide == Path("data/wsis/TENX95.tif")


def test_a_slide_in_a_vendors_format_is_found(tmp_path):
    (tmp_path / "wsis").mkdir()
    (tmp_path / "wsis/S1.svs").touch()
    assert sample_files(tmp_path, "S1").slide == tmp_path / "wsis/S1.svs"
    assert sample_files(tmp_path, "S2").slide == tmp_path / "wsis/S2.tif"


@pytest.mark.parametrize("byte_order_mark", [b"", b"\xef\xbb\xbf"])
def test_metadata_is_read_with_and_without_byte_order_mark(tmp_path, byte_order_mark):
    path = tmp_path / "S1.json"
    path.write_bytes(byte_order_mark + '{"id": "S1", "tissue": "Mühle"}'.encode())
    assert read_metadata(path) == {"id": "S1", "tissue": "Mühle"}


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'{"id": "S1"', "line 1: found"),
        (b"", "line 1: found"),
        (b'{"id": "\xff"}', "byte 8: found no UTF-8"),
        (b'["S1"]', "top level: found list"),
        (b'{"id": "S2"}', "id: found 'S2', expected 'S1'"),
        (b"{}", "id: found None, expected 'S1'"),
        (None, "metadata: found no such file"),
    ],
)
def test_unusable_metadata_is_told_in_one_line(tmp_path, content, complaint):
    path = tmp_path / "S1.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as told:
        read_metadata(path)
    assert str(told.value).startswith(f"{path}: {complaint}")
    assert "\n" not in str(told.value)


@pytest.fixture
def counts_file(tmp_path):
    path = tmp_path / "S1.h5ad"
    adata = anndata.AnnData(np.arange(6, dtype=np.float32).reshape(2, 3), obsm={"spatial": np.zeros((2, 2))})
    adata.var_names = ["A", "B", "B"]
    adata.write_h5ad(path)
    return path


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
def test_counts_are_read_as_they_are(counts_file):
    read = read_counts(counts_file)
    np.testing.assert_array_equal(read.X, [[0, 1, 2], [3, 4, 5]])
    assert list(read.var_names) == ["A", "B", "B"]


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def remove(name):
    def edit(path):
        with h5py.File(path, "r+") as handle:
            del handle[name]

    return edit


@pytest.mark.filterwarnings("ignore:Variable names are not unique")
@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (Path.unlink, "counts: found no such file"),
        (cut_short, "file: found a truncated file"),
        (lambda path: path.write_bytes(b""), "file: found no HDF5 (0 bytes)"),
        (lambda path: path.write_bytes(b"<html>Sign in</html>"), "file: found no HDF5 (20 bytes)"),
        (remove("X"), "X: found nothing"),
        (remove("var"), "var: found nothing"),
        (remove("obsm/spatial"), "obsm/spatial: found nothing"),
        (remove("obs/_index"), "file: found contents that cannot be read"),
    ],
)
def test_unusable_counts_are_told_in_one_line(counts_file, damage, complaint):
    damage(counts_file)
    with pytest.raises(InputError) as told:
        read_counts(counts_file)
    assert str(told.value).startswith(f"{counts_file}: {complaint}")
    assert "\n" not in str(told.value)


# --- what the metadata and the file say about a slide ----------------------------------------------------------------


def test_missing_local_file_is_named_before_a_run(tmp_path):
    files = sample_files(tmp_path, "S1")
    for path, complaint in (
        (files.counts, "no st/S1.h5ad"),
        (files.metadata, "no metadata/S1.json"),
        (files.patches, "no patches/S1.h5 or wsis/S1.tif"),
    ):
        with pytest.raises(InputError, match=f"files of S1: found {complaint}, "):
            require_local(tmp_path, ["S1"], "auto")
        path.parent.mkdir()
        path.touch()
    require_local(tmp_path, ["S1"], "auto")
    with pytest.raises(InputError, match=r"found no wsis/S1\.tif, "):
        require_local(tmp_path, ["S1"], "slides")


def test_counts_are_all_that_a_run_without_images_needs(tmp_path):
    with pytest.raises(InputError, match=r"found no st/S1\.h5ad, "):
        require_local(tmp_path, ["S1"], "none")
    (tmp_path / "st").mkdir()
    (tmp_path / "st/S1.h5ad").touch()
    require_local(tmp_path, ["S1"], "none")


def test_slide_size_is_width_and_height():
    assert slide_size({"fullres_px_width": 9272, "fullres_px_height": 9923.0}, "m.json") == (9272, 9923)


@pytest.mark.parametrize("height", [None, 0, -5, "9923", True, float("nan")])
def test_slide_size_that_is_none_is_refused(height):
    with pytest.raises(InputError, match=r"^m\.json: fullres_px_height: found"):
        slide_size({"fullres_px_width": 9272, "fullres_px_height": height}, "m.json")


@pytest.mark.parametrize("blank", [{}, {"spot_diameter": None}, {"spot_diameter": float("nan")}])
def test_spots_are_as_wide_as_stated_or_as_hests_xenium_bins(blank):
    assert spot_diameter_um({"spot_diameter": 55}) == 55
    assert spot_diameter_um(blank) == 100


def test_thumbnail_is_hests_picture_where_there_is_one():
    adata = anndata.AnnData(np.ones((1, 1)))
    assert thumbnail(adata) is None
    adata.uns["spatial"] = {"is_single": True}
    assert thumbnail(adata) is None
    picture = np.random.default_rng(0).integers(0, 255, (4, 6, 3), dtype=np.uint8)
    adata.uns["spatial"] = {"ST": {"images": {"downscaled_fullres": picture}}}
    np.testing.assert_array_equal(np.asarray(thumbnail(adata)), picture)


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


# --- download -------------------------------------------------------------------------------------------------------


def test_downloaded_files_are_the_hubs_bytes_and_their_hashes_recorded(hub, tmp_path):
    records = fetch(hub, tmp_path)
    for path, record in zip((COUNTS, METADATA), records, strict=True):
        content = hub.files[path]
        assert (tmp_path / path).read_bytes() == content
        stated = {"path": path, "size": len(content), "etag": hub.etag(path), "commit": fakehub.COMMIT}
        assert record == stated | {"sha256": hashlib.sha256(content).hexdigest()}
    assert records[0]["etag"] == records[0]["sha256"]  # a large file: the hub states its sha256
    assert len(records[1]["etag"]) == 40  # a small one: git's sha1
    assert json.loads(json.dumps(records)) == records
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == [METADATA, COUNTS]


def test_a_sample_downloaded_before_is_replaced(hub, tmp_path):
    (tmp_path / "st").mkdir()
    (tmp_path / COUNTS).write_bytes(b"of another revision")
    fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]


def test_dropped_connection_is_taken_up_where_it_broke_off(hub, tmp_path):
    hub.faults[COUNTS] = fakehub.DROPPED_ONCE
    fetch(hub, tmp_path, [COUNTS])
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert [method for method, *_ in hub.requests].count("GET") == 2


def test_no_token_is_sent_to_another_host(hub, tmp_path):
    with fakehub.FakeHub(hub.files, token=None) as storage:
        hub.storage = storage
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert [(method, authorization) for method, _, authorization in storage.requests] == [("GET", None)]
    assert {authorization for *_, authorization in hub.requests} == {f"Bearer {fakehub.TOKEN}"}


FAULTS = {
    fakehub.CORRUPT: (SetupError, "sha256: found .*damaged on the way"),
    fakehub.SHORT: (SetupError, "fewer or more bytes than it stated"),
    fakehub.DROPPED: (SetupError, "no complete answer"),
    fakehub.UNAVAILABLE: (SetupError, "status 503"),
    fakehub.UNAVAILABLE_BYTES: (SetupError, "status 503"),
    fakehub.SILENT: (SetupError, "no complete answer"),
    fakehub.NO_HASH: (SetupError, "states no hash"),
}
REFUSALS = {
    "no token": ({"token": None}, SetupError, "needs a token: set HF_TOKEN and accept the terms at http"),
    "token without access": ({"token": "hf_other"}, SetupError, "account has not been granted access"),
    "invalid token": ({"token": "stale_token"}, SetupError, "refuses the token in HF_TOKEN: make a new one"),
    "missing file": ({"files": [METADATA, "st/S2.h5ad"]}, InputError, f"{fakehub.COMMIT}: st/S2.h5ad: found no such"),
    "missing revision": ({"revision": "f" * 40}, InputError, "revision: found f{40}, expected a commit"),
    "branch": ({"revision": "main"}, InputError, "revision: found 'main', expected a commit: 40 hex digits"),
}
CASES = [pytest.param(fault, {}, *told, id=fault) for fault, told in FAULTS.items()]
CASES += [pytest.param(None, *refusal, id=name) for name, refusal in REFUSALS.items()]


@pytest.mark.parametrize(("fault", "settings", "kind", "complaint"), CASES)
def test_failed_download_is_told_in_one_line_leaves_nothing_and_keeps_the_token(
    hub, tmp_path, monkeypatch, caplog, capfd, fault, settings, kind, complaint
):
    caplog.set_level(logging.INFO)
    if fault:
        hub.faults[COUNTS] = fault
    if fault == fakehub.SILENT:
        settings = {"timeout": 0.2}
    if fault == fakehub.DROPPED:
        monkeypatch.setattr(time, "sleep", lambda seconds: None)  # between the library's five attempts
    # the good file comes first: it may not stay behind alone
    started = time.monotonic()
    with pytest.raises(kind, match=complaint) as told:
        fetch(hub, tmp_path, **({"files": [METADATA, COUNTS]} | settings))
    assert time.monotonic() - started < 4
    assert_nothing_in(tmp_path)
    output = capfd.readouterr()
    shown = [*traceback.format_exception(told.value), *map(str, told.value.args), caplog.text, output.out, output.err]
    assert "\n" not in str(told.value)
    assert not any(token in text for text in shown for token in (fakehub.TOKEN, "hf_other", "stale_token"))


def test_small_file_is_checked_against_its_git_hash(hub, tmp_path):
    hub.faults[METADATA] = fakehub.CORRUPT
    with pytest.raises(SetupError, match=rf"git sha1: found [0-9a-f]{{40}} .*expected {hub.etag(METADATA)}"):
        fetch(hub, tmp_path)
    assert_nothing_in(tmp_path)


def test_failed_download_leaves_the_earlier_file_as_it_was(hub, tmp_path):
    fetch(hub, tmp_path)
    hub.faults[COUNTS] = fakehub.CORRUPT
    with pytest.raises(SetupError):
        fetch(hub, tmp_path)
    assert (tmp_path / COUNTS).read_bytes() == hub.files[COUNTS]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_unreachable_hub_and_unknown_dataset_are_told(hub, tmp_path):
    with fakehub.FakeHub({}, repo="other/data") as other, pytest.raises(InputError, match="no such dataset"):
        fetch(hub, tmp_path, endpoint=other.url)
    with pytest.raises(SetupError, match=r"no complete answer from http://127\.0\.0\.1:\d+ \(ConnectError\)"):
        fetch(hub, tmp_path, endpoint=other.url)
    assert_nothing_in(tmp_path)


def test_damaged_file_in_the_shared_cache_is_not_taken(hub, tmp_path, monkeypatch):
    snapshot = tmp_path / "cache" / "datasets--MahmoodLab--hest" / "snapshots" / fakehub.COMMIT
    (snapshot / "st").mkdir(parents=True)
    (snapshot / COUNTS).write_bytes(b"damaged")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    fetch(hub, tmp_path / "data")
    assert (tmp_path / "data" / COUNTS).read_bytes() == hub.files[COUNTS]


def test_full_disk_and_offline_mode_are_told(hub, tmp_path, monkeypatch):
    def no_space(*_, **__):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("huggingface_hub.hf_hub_download", no_space)
        with pytest.raises(SetupError, match=f"{COUNTS}: No space left on device"):
            fetch(hub, tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(SetupError, match="HF_HUB_OFFLINE is set: unset it"):
        fetch(hub, tmp_path)
    assert_nothing_in(tmp_path)


def test_download_neither_reads_nor_writes_the_users_hugging_face_folder(hub, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    (home / "token").write_text(fakehub.TOKEN)  # what `hf auth login` leaves behind
    code = (
        "import sys; from spotwise.hest import download\n"
        "download(*sys.argv[1:3], [sys.argv[3]], sys.argv[4], sys.argv[6] or None, sys.argv[5])"
    )
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "HF_HOME": str(home), "PYTHONPATH": SOURCES}

    def run(token):
        arguments = [fakehub.REPO, fakehub.COMMIT, COUNTS, str(tmp_path / "data"), hub.url, token]
        return subprocess.run(
            [sys.executable, "-c", code, *arguments], env=environment, capture_output=True, text=True, check=False
        )

    refused, accepted = run(""), run(fakehub.TOKEN)
    assert "needs a token" in refused.stderr
    assert accepted.returncode == 0, accepted.stderr
    assert hub.requests[0][2] is None
    assert [path.name for path in home.rglob("*")] == ["token"]
