"""The HEST-1k layout: where a sample's files lie, how they are read, how they are fetched.

The dataset is described in Jaume et al., HEST-1k, NeurIPS 2024. Its files have been replaced in place more than once,
so a download names a commit, and every file is hashed against what the hub says that commit holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from spotwise.contracts import SPATIAL
from spotwise.errors import InputError, SetupError

if TYPE_CHECKING:
    from anndata import AnnData

TOKEN_VARIABLE = "HF_TOKEN"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
HASH_BLOCK = 1 << 20
SLIDE_SUFFIXES = (".tif", ".tiff", ".svs", ".ndpi", ".scn", ".mrxs", ".svslide", ".bif", ".vms", ".dcm", ".czi")
XENIUM_BIN_UM = 100.0  # side of HEST's pseudo-Visium bins


@dataclass(frozen=True)
class SampleFiles:
    """Where one sample's files lie below a folder (or a repository) in the HEST layout."""

    counts: Path
    patches: Path
    slide: Path
    metadata: Path


def sample_files(root: str | Path, sample: str) -> SampleFiles:
    """The files of ``sample`` below ``root``; with ``root=""`` their paths in the repository.

    HEST's slides are ``.tif``; a local folder may hold a slide in a vendor's format under the same name.
    """
    root = Path(root)
    slides = [root / "wsis" / f"{sample}{suffix}" for suffix in SLIDE_SUFFIXES]
    return SampleFiles(
        counts=root / "st" / f"{sample}.h5ad",
        patches=root / "patches" / f"{sample}.h5",
        slide=next((path for path in slides if path.is_file()), slides[0]),
        metadata=root / "metadata" / f"{sample}.json",
    )


def read_metadata(path: str | Path) -> dict:
    """Read ``metadata/{sample}.json``.

    Raises
    ------
    InputError
        Where the file is missing, is no JSON object, or belongs to another sample than its name says.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "metadata", "no such file", "the sample's metadata as JSON")
    try:
        # HEST writes its index with a byte order mark, and files made from it inherit one
        metadata = json.loads(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(path, f"byte {error.start}", "no UTF-8", "JSON in UTF-8") from None
    except json.JSONDecodeError as error:
        raise InputError(path, f"line {error.lineno}", error.msg, "JSON") from None
    if not isinstance(metadata, dict):
        raise InputError(path, "top level", type(metadata).__name__, "a JSON object with HEST's keys")
    if metadata.get("id") != path.stem:
        raise InputError(path, "id", repr(metadata.get("id")), f"{path.stem!r}, as the file is named")
    return metadata


def read_counts(path: str | Path) -> AnnData:
    """Read ``st/{sample}.h5ad`` as it is; :func:`spotwise.expression.clean_counts` judges its contents.

    Raises
    ------
    InputError
        Where the file is missing, truncated, no HDF5 or no AnnData, or holds no X or no ``obsm["spatial"]``.
    """
    import h5py

    path = Path(path)
    if not path.is_file():
        raise InputError(path, "counts", "no such file", "the sample's counts as .h5ad")
    try:
        with h5py.File(path, "r") as handle:
            missing = [name for name in ("X", "obs", "var", f"obsm/{SPATIAL}") if name not in handle]
    except OSError as error:
        found = "a truncated file" if "truncated" in str(error) else "no HDF5"
        raise InputError(path, "file", f"{found} ({path.stat().st_size} bytes)", "a complete .h5ad") from None
    if missing:
        raise InputError(path, missing[0], "nothing", "an .h5ad with X, obs, var and obsm/spatial")

    import anndata

    try:
        with warnings.catch_warnings():
            # names that are not unique are dealt with in clean_counts
            warnings.filterwarnings("ignore", message=".*names are not unique", category=UserWarning)
            return anndata.read_h5ad(path)
    except Exception as error:
        # a damaged container surfaces as whatever its reader trips over: OSError, KeyError, ValueError, ...
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(path, "file", f"contents that cannot be read ({reason})", "a complete .h5ad") from None


def token_from_environment() -> str:
    """The Hugging Face token in ``HF_TOKEN``, the only place where one is looked for.

    Raises
    ------
    SetupError
        Where there is none, or it cannot be one. The token itself is in no message.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise SetupError(
            f"{TOKEN_VARIABLE} is not set: HEST-1k is gated. Accept its terms on the dataset's page, create an access "
            f"token with read permission in your account's settings, and run: export {TOKEN_VARIABLE}=<token>"
        )
    if not re.fullmatch(r"[!-~]+", token):
        raise SetupError(f"{TOKEN_VARIABLE} holds blanks or characters that no token has: copy the token again")
    return token


def download(
    repo: str,
    revision: str,
    files: Sequence[str],
    destination: str | Path,
    token: str | None,
    endpoint: str | None = None,
    timeout: float = 10.0,
) -> list[dict]:
    """Fetch files of a dataset repository at one commit and check their hashes.

    All files go to a temporary folder inside ``destination`` first; only when every one of them has the hash that the
    hub states are they moved into place. A failure leaves nothing behind.

    Parameters
    ----------
    repo
        The dataset, ``MahmoodLab/hest``.
    revision
        A commit (40 hex digits), as branches move.
    files
        Paths in the repository, each to land at the same path below ``destination``.
    destination
        The folder in the HEST layout.
    token
        Access token, ``None`` to ask without one. No other is looked for on this machine.
    endpoint
        Address of the hub or of a mirror; ``None`` for the library's own (variable ``HF_ENDPOINT``).
    timeout
        Seconds to wait for the hub's answer about a file.

    Returns
    -------
    Per file ``path``, ``size`` in bytes, ``sha256``, ``etag`` (what it was checked against: the sha256 of a large file,
    the git blob's sha1 of a small one) and ``commit``.

    Raises
    ------
    InputError
        Where the revision is no commit, or the repository does not hold it or a file.
    SetupError
        Where the token is missing or has no access, the hub does not answer or answers wrongly, a file arrives
        damaged, or the disk is full.
    """
    if not COMMIT.fullmatch(revision):
        raise InputError(repo, "revision", repr(revision), "a commit: 40 hex digits (branches and tags can move)")
    destination = Path(destination)
    destination.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=destination) as staging:
        records = [_fetch(repo, revision, path, Path(staging), token, endpoint, timeout) for path in files]
        for path in files:
            (destination / path).parent.mkdir(parents=True, exist_ok=True)
            os.replace(Path(staging) / path, destination / path)
    return records


def _fetch(
    repo: str, revision: str, path: str, staging: Path, token: str | None, endpoint: str | None, timeout: float
) -> dict:
    """One file into ``staging``, hashed; the record of it."""
    hub = _private_hub()
    access = token if token else False  # None would make the library look for a token on disk
    try:
        url = hub.hf_hub_url(repo, path, repo_type="dataset", revision=revision, endpoint=endpoint)
        stated = hub.get_hf_file_metadata(url, token=access, timeout=timeout, endpoint=endpoint)
        fetched = hub.hf_hub_download(
            repo,
            path,
            repo_type="dataset",
            revision=revision,
            local_dir=staging,
            cache_dir=staging / ".cache" / "hub",  # a damaged file in the shared cache would be taken for good
            token=access,
            endpoint=endpoint,
            etag_timeout=timeout,
        )
    except Exception as error:
        # `from None`: the library's errors carry the request, and with it the token
        raise _told(error, repo, revision, path, token, endpoint) from None
    if stated.commit_hash != revision:
        raise InputError(repo, f"revision of {path}", stated.commit_hash, revision)
    return _verified(Path(fetched), repo, path, stated.etag or "", stated.size) | {"commit": revision}


def _private_hub():
    """huggingface_hub without the parts that write outside the job's own folder.

    Xet transfers keep a chunk cache and logs in the user's home, shared by all jobs; plain HTTP does not.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import huggingface_hub
    from huggingface_hub import constants

    # the environment variable of this name is read once, at import, which others may have done before
    constants.HF_HUB_DISABLE_XET = True
    return huggingface_hub


def _verified(file: Path, repo: str, path: str, etag: str, size: int | None) -> dict:
    """The record of a file whose bytes are those the hub states; the library itself compares only lengths."""
    actual_size = file.stat().st_size
    sha256 = hashlib.sha256()
    git_sha1 = hashlib.sha1(b"blob %d\0" % actual_size, usedforsecurity=False)
    with file.open("rb") as handle:
        while block := handle.read(HASH_BLOCK):
            sha256.update(block)
            git_sha1.update(block)
    if SHA256.fullmatch(etag):
        kind, actual = "sha256", sha256.hexdigest()
    elif SHA1.fullmatch(etag):
        kind, actual = "git sha1", git_sha1.hexdigest()
    else:
        raise SetupError(f"{repo}: {path}: the hub states no hash to check the file against; is a mirror in between?")
    if actual != etag or size not in (None, actual_size):
        raise SetupError(
            f"{repo}: {path}: {kind}: found {actual} ({actual_size} bytes), expected {etag} ({size} bytes): "
            "the file was damaged on the way, start the download again"
        )
    return {"path": path, "size": actual_size, "sha256": sha256.hexdigest(), "etag": etag}


def _told(
    error: Exception, repo: str, revision: str, path: str, token: str | None, endpoint: str | None
) -> InputError | SetupError:
    """What went wrong at the hub, in one line that says what to do and holds nothing of the request."""
    from huggingface_hub import constants, errors

    page = f"{endpoint or constants.ENDPOINT}/datasets/{repo}"
    response = getattr(error, "response", None)
    status = getattr(response, "status_code", None)
    if isinstance(error, errors.RevisionNotFoundError):
        return InputError(repo, "revision", revision, f"a commit of {page}")
    if isinstance(error, errors.RemoteEntryNotFoundError):
        return InputError(f"{repo} at {revision}", path, "no such file", f"a file listed at {page}/tree/{revision}")
    if isinstance(error, errors.GatedRepoError) and status == 403:
        return SetupError(f"{repo}: your account has not been granted access: accept the terms at {page}")
    if status in (401, 403) and token is None:
        return SetupError(f"{repo}: access needs a token: set {TOKEN_VARIABLE} and accept the terms at {page}")
    if status in (401, 403):
        return SetupError(f"{repo}: the hub refuses the token in {TOKEN_VARIABLE}: make a new one that may read {page}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return InputError(repo, "repository", "no such dataset", f"one that {page} shows")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return SetupError(f"{repo}: {path}: HF_HUB_OFFLINE is set: unset it, or copy the files to a local folder")
    if status is not None:
        return SetupError(f"{repo}: {path}: the hub answers with status {status}: try again later")
    if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
        return SetupError(f"{repo}: {path}: {error.strerror}: {error.filename or 'while writing the download'}")
    if "Consistency check failed" in str(error):
        return SetupError(f"{repo}: {path}: the hub sent fewer or more bytes than it stated: start the download again")
    return SetupError(
        f"{repo}: {path}: no complete answer from {endpoint or constants.ENDPOINT} ({type(error).__name__}): "
        "check the connection and start the download again"
    )


def require_local(root: str | Path, samples: Sequence[str], images: str) -> None:
    """Check that a folder in HEST's layout holds what a run of ``samples`` needs.

    Parameters
    ----------
    root
        The folder.
    samples
        Sample ids.
    images
        ``patches``, ``slides``, ``auto``: either, or ``none``: counts are enough, without metadata.

    Raises
    ------
    InputError
        Naming the first file that is missing.
    """
    for sample in samples:
        files = sample_files(root, sample)
        pictures = {"patches": [files.patches], "slides": [files.slide], "auto": [files.patches, files.slide]}
        for choices in [[files.counts]] + ([[files.metadata], pictures[images]] if images != "none" else []):
            if not any(path.is_file() for path in choices):
                names = " or ".join(path.relative_to(root).as_posix() for path in choices)
                raise InputError(root, f"files of {sample}", f"no {names}", "a folder in HEST's layout (data.root)")


def slide_size(metadata: Mapping[str, object], source: object) -> tuple[int, int]:
    """Width and height of a slide at level 0, from its metadata.

    Raises
    ------
    InputError
        Where either is missing or no positive number.
    """
    size = []
    for key in ("fullres_px_width", "fullres_px_height"):
        value = metadata.get(key)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise InputError(source, key, repr(value), "the slide's size in pixels")
        size.append(int(value))
    return size[0], size[1]


def spot_diameter_um(metadata: Mapping[str, object]) -> float:
    """Diameter of a spot in micrometres; where HEST leaves it blank (Xenium) the 100 um of its pseudo-spots."""
    value = metadata.get("spot_diameter")
    known = isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return float(value) if known else XENIUM_BIN_UM


def thumbnail(adata: AnnData):
    """The slide's small picture that HEST keeps in ``uns["spatial"]``, as a PIL image; ``None`` where there is none."""
    from PIL import Image

    libraries = adata.uns.get(SPATIAL, {})
    for library in libraries.values() if isinstance(libraries, Mapping) else ():
        images = library.get("images", {}) if isinstance(library, Mapping) else {}
        picture = images.get("downscaled_fullres")
        if getattr(picture, "dtype", None) == "uint8" and picture.ndim == 3:
            return Image.fromarray(picture).convert("RGB")
    return None
