"""Claims about the download of a task of the HEST benchmark, against a stand-in for the hub."""

import pytest

import fakehub
from hubcase import QUICK, files_in
from spotwise.data.bench_layout import TASK_FILES
from spotwise.data.credentials import optional_token
from spotwise.data.hub import fetch_folder
from spotwise.data.manifest import manifest_path, read_manifest
from spotwise.errors import InputError, SetupError

REPO = "MahmoodLab/hest-bench"
NEEDED = {
    "IDC/adata/S1.h5ad": b"counts",
    "IDC/adata/S2.h5ad": b"more counts",
    "IDC/patches/S1.h5": b"patches" * 1000,
    "IDC/patches/S2.h5": b"other patches" * 1000,
    "IDC/splits/test_0.csv": b"sample_id",
    "IDC/splits/train_0.csv": b"sample_id\n",
    "IDC/var_50genes.json": b"{}",
}
OTHERS = {
    "IDC/patches_vis/S1.png": b"",
    "IDC/old/adata/S1.h5ad": b"old",
    "IDC/mean_50genes.json": b"[]",
    "IDCX/adata/S3.h5ad": b"of another task",
    "fm_v1/ctranspath/ctranspath.pth": b"weights",
}


@pytest.fixture
def hub():
    with fakehub.FakeHub(NEEDED | OTHERS, repo=REPO) as running:
        yield running


def fetch(hub, root, token=fakehub.TOKEN, task="IDC", revision=fakehub.COMMIT):
    return fetch_folder(REPO, revision, task, TASK_FILES, root, token, hub.url, QUICK)


def test_the_files_of_the_protocol_arrive_and_no_others(hub, tmp_path):
    records = fetch(hub, tmp_path)
    manifest = manifest_path(tmp_path, fakehub.COMMIT, "IDC")
    assert records == read_manifest(manifest)
    assert files_in(tmp_path) == sorted([*NEEDED, manifest.relative_to(tmp_path).as_posix()])
    for path, content in NEEDED.items():
        assert (tmp_path / path).read_bytes() == content
    assert all(fakehub.COMMIT in request.path for request in hub.requests)


def test_a_folder_is_listed_to_its_last_page(hub, tmp_path):
    hub.listed_at_once = 1
    assert {record["path"] for record in fetch(hub, tmp_path)} == set(NEEDED)


def test_a_complete_task_needs_no_hub(hub, tmp_path):
    first = fetch(hub, tmp_path)
    hub.requests.clear()
    assert fetch(hub, tmp_path, token="") == first
    assert not hub.requests


def test_a_lost_file_is_fetched_again_and_no_other(hub, tmp_path):
    fetch(hub, tmp_path)
    (tmp_path / "IDC/patches/S2.h5").unlink()
    hub.served.clear()
    fetch(hub, tmp_path)
    assert set(hub.served) == {"IDC/patches/S2.h5"}


def test_a_benchmark_open_to_all_needs_no_token(tmp_path, monkeypatch):
    monkeypatch.delenv("HF_TOKEN", raising=False)
    with fakehub.FakeHub(NEEDED, token=None, repo=REPO) as hub:
        fetch(hub, tmp_path, token=optional_token())
        assert {request.authorization for request in hub.requests} == {None}
    monkeypatch.setenv("HF_TOKEN", "  hf_x ")
    assert optional_token() == "hf_x"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"token": ""}, f"{REPO}: IDC: access needs a token: set HF_TOKEN and accept the terms at "),
        ({"token": "hf_other"}, f"{REPO}: IDC: your account has not been granted access: accept the terms at "),
        ({"task": "LUAD"}, f"{REPO} at {fakehub.COMMIT}: LUAD: found no such file, expected one of "),
        ({"task": "fm_v1"}, f"{REPO} at {fakehub.COMMIT}: fm_v1: found none of the files that are needed, expected "),
        ({"revision": "f" * 40}, f"{REPO}: revision: found {'f' * 40}, expected a commit of "),
    ],
    ids=["no token", "no access", "no task", "another folder", "no commit"],
)
def test_what_stops_a_download_is_said_in_one_line(hub, tmp_path, settings, told):
    with pytest.raises((InputError, SetupError)) as error:
        fetch(hub, tmp_path, **settings)
    assert str(error.value).startswith(told)
    assert "\n" not in str(error.value)
    assert files_in(tmp_path) == []


def test_a_damaged_file_stops_the_download_and_none_gets_into_place(hub, tmp_path):
    hub.faults["IDC/patches/S1.h5"] = fakehub.CORRUPT
    with pytest.raises(SetupError, match=r"IDC/patches/S1\.h5: found hash"):
        fetch(hub, tmp_path)
    assert files_in(tmp_path) == []
