"""Claims about recorded software: installed versions, the lock file and the commit of the workflow."""

import hashlib
import subprocess
from importlib import metadata
from pathlib import Path

from spotwise.runtime import software
from spotwise.runtime.software import checkout, locked_packages, versions

ROOT = Path(__file__).parents[2]


def test_versions_are_those_installed():
    expected = {"numpy": metadata.version("numpy"), "h5py": metadata.version("h5py")}
    assert versions("numpy", "no-such-package", "h5py") == expected


def test_dependencies_are_recorded_with_the_hash_of_the_lock_file():
    recorded = locked_packages()
    assert recorded["requirements.lock"] == hashlib.sha256((ROOT / "requirements.lock").read_bytes()).hexdigest()
    assert {"numpy", "torch", "huggingface_hub", *software.SLIDE_READERS} <= set(recorded["packages"])
    assert recorded["packages"]["torch"] == metadata.version("torch")


def git(folder, *arguments):
    identity = ["-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.run(["git", *identity, *arguments], cwd=folder, capture_output=True, text=True, check=True).stdout


def test_the_commit_is_recorded_and_whether_files_differ_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(software, "ROOT", tmp_path.resolve())
    assert checkout() is None
    git(tmp_path, "init", "--quiet")
    assert checkout() is None  # nothing committed
    (tmp_path / "Snakefile").write_text("rule all:\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--message", "first")
    commit = git(tmp_path, "rev-parse", "HEAD").strip()
    assert checkout() == {"commit": commit, "modified": False}
    (tmp_path / "untracked").write_text("")
    assert checkout() == {"commit": commit, "modified": False}
    (tmp_path / "Snakefile").write_text("rule other:\n")
    assert checkout() == {"commit": commit, "modified": True}


def test_a_copy_inside_another_checkout_has_no_commit(tmp_path, monkeypatch):
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "of something else")
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(software, "ROOT", (tmp_path / "copy").resolve())
    assert checkout() is None
