"""Samples from the Hugging Face hub, at one commit and with verified hashes.

huggingface_hub transfers the files and tenacity repeats failed requests. The library compares lengths only. Here every
file is compared with the hash that the hub states, before it gets its name in the data folder. Until then it lies in
``<data>/.partial/<sample>/``, where the next attempt finds it. The library resumes a file within one process only:
after a kill, the file that was on its way starts again.

Settings of huggingface_hub (by its ``constants``, as its variables are read only at its first import):

* No Xet transfer: it writes to the user's home.
* No telemetry: it makes further requests and caches their answers in the user's home.
* No warnings, and no log of its HTTP client: they quote signed addresses, which grant access to anyone.
* ``force_download``: otherwise damaged files of the user's cache are accepted.
* ``token=False`` for no token: otherwise the user's home is searched for one.
"""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import tenacity
from filelock import FileLock
from huggingface_hub import HfApi, constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import logging as library_logging
from huggingface_hub.utils import parse_ratelimit_headers

from spotwise.data.credentials import TOKEN_VARIABLE, token_from_environment
from spotwise.data.manifest import difference, manifest_path, new_record, read_manifest
from spotwise.errors import InputError, SetupError
from spotwise.runtime.files import atomic, sha256, write_json

logger = logging.getLogger(__name__)

constants.HF_HUB_DISABLE_XET = True
constants.HF_HUB_DISABLE_TELEMETRY = True
library_logging.set_verbosity_error()
logging.getLogger("httpx2").setLevel(logging.WARNING)

COMMIT = re.compile(r"[0-9a-f]{40}")
HASH = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")  # sha1 of a git blob, sha256 of a large file
STAGING = ".partial"
# Faults of the connection, by the exceptions of the library's HTTP client
FAULTS = {
    "ConnectError": "no connection",
    "ConnectTimeout": "no connection in time",
    "ReadTimeout": "no answer in time",
    "RemoteProtocolError": "a broken connection",
    "ReadError": "a broken connection",
    "TooManyRedirects": "redirects without an end",
}


@dataclass(frozen=True)
class RetryPolicy:
    """When to repeat a failed request, and when to give up."""

    attempts: int = 8  # in each, the library resumes a lost transfer up to five times in a row
    first_wait: float = 1.0  # seconds before the second attempt, doubled for each further one
    longest_wait: float = 60.0
    longest_pause: float = 900.0  # seconds that the hub may ask to wait; a longer pause ends the download


@dataclass(frozen=True)
class RemoteFile:
    """Path, hash and size in bytes of a file on the hub."""

    path: str
    etag: str
    size: int

    def matches(self, file: Path) -> bool:
        """Return whether a local file has this size and hash."""
        return file.is_file() and file.stat().st_size == self.size and content_hash(file, self.etag) == self.etag


def fetch_sample(
    repo: str,
    revision: str,
    sample: str,
    files: Sequence[str],
    root: str | Path,
    token: str | None = None,
    endpoint: str | None = None,
    policy: RetryPolicy = RetryPolicy(),
) -> list[dict]:
    """Download the files of a sample, verify them, and write their manifest.

    Files that match the sample's manifest need no hub; others are compared with the hub's hash and kept if it agrees.
    The files move into place together once all are verified; a failure changes none.

    Parameters
    ----------
    repo, revision
        The dataset, ``MahmoodLab/hest``, and its commit (40 hex digits).
    sample
        Name of the manifest.
    files
        Paths in the repository, and below ``root``, the data folder.
    token
        Access token; ``None`` for that of ``HF_TOKEN``, read only if the hub is needed; ``""`` for none.
    endpoint
        Address of the hub or a mirror; ``None`` for the library's (``HF_ENDPOINT``).

    Returns
    -------
    The manifest, see :func:`~spotwise.data.manifest.read_manifest`.

    Raises
    ------
    InputError
        If the revision is no commit, or the repository lacks it or a file.
    SetupError
        If the token has no access, the hub fails, a file arrives damaged, or the disk is full or read-only.
    """
    if not COMMIT.fullmatch(revision):
        raise InputError(repo, "revision", repr(revision), "a commit: 40 hex digits (branches and tags can move)")
    root, manifest = Path(root), manifest_path(root, revision, sample)
    staging = root / STAGING / sample
    try:
        staging.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(staging.with_name(f"{sample}.lock")):  # a second process waits, and then finds the files
            records = _known_records(root, manifest)
            if unknown := [path for path in files if path not in records]:
                hub = Hub(repo, revision, token_from_environment() if token is None else token, endpoint, policy)
                records |= _fetch(hub, unknown, root, staging)
            result = [records[path] for path in files]
            write_json(manifest, result)
    except OSError as error:
        where = error.filename or root
        raise SetupError(f"{where}: {error.strerror}: data.root needs free space and permission to write") from None
    return result


def fetch_folder(
    repo: str,
    revision: str,
    folder: str,
    wanted: re.Pattern[str],
    root: str | Path,
    token: str | None = None,
    endpoint: str | None = None,
    policy: RetryPolicy = RetryPolicy(),
) -> list[dict]:
    """Download the files below a folder of a dataset as `fetch_sample` does, with a manifest named as the folder.

    ``wanted`` matches the paths below the folder. The hub is asked for their list unless every file of the folder's
    manifest is unchanged.

    Raises
    ------
    InputError, SetupError
        As `fetch_sample`, and if the folder holds no such file.
    """
    manifest = manifest_path(root, revision, folder)
    records = _known_records(Path(root), manifest)
    if records and len(records) == len(read_manifest(manifest)):
        return list(records.values())
    hub = Hub(repo, revision, token_from_environment() if token is None else token, endpoint, policy)
    listed = hub.files_below(folder)
    files = [path for path in listed if wanted.fullmatch(path.removeprefix(f"{folder}/"))]
    if not files:
        expected = f"the files of {folder}, among {len(listed)} files of {hub.page(folder)}"
        raise InputError(f"{repo} at {revision}", folder, "none of the files that are needed", expected)
    return fetch_sample(repo, revision, folder, files, root, hub.token, endpoint, policy)


def _known_records(root: Path, manifest: Path) -> dict[str, dict]:
    try:
        records = read_manifest(manifest) if manifest.exists() else []
    except InputError as error:
        logger.warning("%s", error)
        return {}
    return {record["path"]: record for record in records if not difference(root / record["path"], record)}


def _fetch(hub: Hub, paths: Sequence[str], root: Path, staging: Path) -> dict[str, dict]:
    """Bring unlisted files into place and return their records by path."""
    remote = [hub.remote_file(path, root / path) for path in paths]
    missing = [file for file in remote if not file.matches(root / file.path)]
    for file in missing:
        if (root / file.path).exists():
            logger.warning("%s: the local file is not the hub's: it is replaced", file.path)
    shutil.rmtree(staging / ".cache", ignore_errors=True)  # the library's unfinished files of a killed process
    pending = [file for file in missing if not file.matches(staging / file.path)]
    _require_space(root, pending)
    for file in pending:
        hub.download(file, staging)
    for file in missing:
        with atomic(root / file.path) as temporary:
            shutil.move(staging / file.path, temporary)  # the target's folder may be a link to another disk
    shutil.rmtree(staging, ignore_errors=True)
    return {file.path: new_record(root, file.path, file.etag, hub.revision) for file in remote}


def _require_space(root: Path, files: Sequence[RemoteFile]) -> None:
    needed, free = sum(file.size for file in files), shutil.disk_usage(root).free
    if needed > free:
        raise SetupError(
            f"{root}: {needed / 1e9:.3f} GB needed for {', '.join(file.path for file in files)} and "
            f"{free / 1e9:.3f} GB free: make room, or set data.root to a larger disk"
        )


def content_hash(path: Path, etag: str) -> str:
    """Hash a file as the hub does, as git's blob (sha1) if small."""
    if len(etag) != 40:
        return sha256(path)
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class Hub:
    """A dataset on the hub at one commit."""

    repo: str
    revision: str
    token: str = field(repr=False)
    endpoint: str | None
    policy: RetryPolicy

    def remote_file(self, path: str, local: Path) -> RemoteFile:
        """Ask for the hash and size of a file."""
        url = hf_hub_url(self.repo, path, repo_type="dataset", revision=self.revision, endpoint=self.endpoint)
        timeout = constants.HF_HUB_ETAG_TIMEOUT
        try:
            answer = self._retry(path, get_hf_file_metadata, url, token=self.token or False, timeout=timeout)
        except SetupError as error:
            if local.exists():
                raise SetupError(f"{error}; {local} exists, but no manifest lists it") from None
            raise
        about = f"{self.repo}: {path}"
        if answer.commit_hash is None:
            raise SetupError(f"{about}: {self._address} is not the hub: a login page or a proxy answers")
        if answer.commit_hash != self.revision:
            raise InputError(self.repo, f"revision of {path}", answer.commit_hash, self.revision)
        if not HASH.fullmatch(answer.etag or "") or answer.size is None:
            raise SetupError(f"{about}: the hub states no hash and size to verify it by: is a mirror in between?")
        if answer.size > constants.MAX_HTTP_DOWNLOAD_SIZE:
            raise SetupError(f"{about}: {answer.size / 1e9:.0f} GB are too much for one request: download it by hand")
        return RemoteFile(path, answer.etag, answer.size)

    def files_below(self, folder: str) -> list[str]:
        """List the paths of all files below a folder."""
        api = HfApi(endpoint=self.endpoint)
        where = {"repo_type": "dataset", "revision": self.revision, "token": self.token or False}

        def listed() -> list[str]:
            entries = api.list_repo_tree(self.repo, folder, recursive=True, **where)
            return [entry.path for entry in entries if isinstance(entry, RepoFile)]

        return self._retry(folder, listed)

    def page(self, folder: str) -> str:
        """Return the address of a folder's page."""
        return f"{self._address}/datasets/{self.repo}/tree/{self.revision}/{folder}"

    def download(self, file: RemoteFile, folder: Path) -> None:
        """Download a file to its path below a folder and verify it."""
        logger.info("%s: %d bytes", file.path, file.size)
        self._retry(file.path, self._transfer, file.path, folder)
        found = content_hash(folder / file.path, file.etag)
        if found != file.etag:
            (folder / file.path).unlink()
            remedy = "the file was damaged on the way, start the download again"
            raise SetupError(f"{self.repo}: {file.path}: found hash {found}, expected {file.etag}: {remedy}")
        logger.info("%s: complete", file.path)

    def _transfer(self, path: str, folder: Path) -> None:
        target = {"repo_type": "dataset", "revision": self.revision, "endpoint": self.endpoint, "local_dir": folder}
        try:
            hf_hub_download(self.repo, path, **target, token=self.token or False, force_download=True)
        except ValueError as error:  # so the library wraps what failed before the transfer
            raise error.__cause__ or error from None

    @property
    def _address(self) -> str:
        return self.endpoint or constants.ENDPOINT

    def _retry(self, path: str, request: Callable, *args: Any, **kwargs: Any) -> Any:
        """Repeat a request while its fault may pass, or explain the fault."""
        policy = self.policy
        backoff = tenacity.wait_exponential(policy.first_wait, max=policy.longest_wait)

        def may_pass(error: BaseException) -> bool:
            return _fault(error)[1] and _requested_pause(error) <= policy.longest_pause

        def log(state: tenacity.RetryCallState) -> None:
            fault, _ = _fault(state.outcome.exception())
            logger.warning("%s: %s: next attempt in %.1f s", path, fault, state.next_action.sleep)

        retrying = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(policy.attempts),
            retry=tenacity.retry_if_exception(may_pass),
            wait=lambda state: max(backoff(state), _requested_pause(state.outcome.exception())),
            before_sleep=log,
            reraise=True,
        )
        try:
            return retrying(request, *args, **kwargs)
        except (errors.HTTPError, OSError) as error:
            if getattr(error, "errno", None) is not None:  # of the disk
                raise
            # `from None`: the library's errors hold the request, and with it the token
            raise self._user_error(error, path, retrying.statistics["attempt_number"]) from None

    def _user_error(self, error: Exception, path: str, attempts: int) -> InputError | SetupError:
        page, status = f"{self._address}/datasets/{self.repo}", _status(error)
        if isinstance(error, errors.RevisionNotFoundError):
            return InputError(self.repo, "revision", self.revision, f"a commit of {page}")
        if isinstance(error, errors.RemoteEntryNotFoundError):
            right = f"one of {page}/tree/{self.revision}, where it may have another name"
            return InputError(f"{self.repo} at {self.revision}", path, "no such file", right)
        if isinstance(error, errors.RepositoryNotFoundError) and status == 404:
            return InputError(self.repo, "repository", "no such dataset", f"one that {page} shows")
        message = self._refusal(error, page) if status in (401, 403) else self._error_message(error, attempts)
        return SetupError(f"{self.repo}: {path}: {message}")

    def _refusal(self, error: Exception, page: str) -> str:
        status, url = _status(error), error.response.url
        if url.netloc.decode() != urlsplit(self._address).netloc:
            return f"the hub refers to {url.host}, which refuses (status {status}): is that host blocked here?"
        if not self.token:
            return f"access needs a token: set {TOKEN_VARIABLE} and accept the terms at {page}"
        if isinstance(error, errors.GatedRepoError) and status == 403:
            return f"your account has not been granted access: accept the terms at {page}"
        remedy = "a fine-grained one needs read access to public gated repositories"
        return f"the hub refuses the token in {TOKEN_VARIABLE}: make a new one that may read {page} ({remedy})"

    def _error_message(self, error: Exception, attempts: int) -> str:
        if isinstance(error, errors.OfflineModeIsEnabled):
            return "HF_HUB_OFFLINE is set: unset it, or copy the files to a local folder"
        fault, _ = _fault(error)
        if (pause := _requested_pause(error)) > self.policy.longest_pause:
            return f"the hub asks to wait {pause:.0f} s ({fault}): start again after that"
        times = f"{attempts} attempts" if attempts > 1 else "one attempt"
        return f"{fault} at {self._address}, after {times}: check the connection and start again"


def _status(error: BaseException) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _requested_pause(error: BaseException) -> float:
    """Return the seconds that the hub asks to wait, or 0."""
    headers = getattr(getattr(error, "response", None), "headers", {})
    after = headers.get("Retry-After", "").strip()
    limit = parse_ratelimit_headers(headers)
    exceeded = _status(error) == 429 and limit is not None and limit.remaining == 0
    return float(max(limit.reset_in_seconds if exceeded else 0, int(after) if after.isdigit() else 0))


def _fault(error: BaseException) -> tuple[str, bool]:
    """Describe a fault without the hub's words, and whether it may pass."""
    status, name = _status(error), type(error).__name__
    if status is not None:
        return f"status {status}", status in (408, 429) or status >= 500
    if type(error) is OSError:  # the library has no class of its own for a wrong length
        return "contents of another size than stated (a login page or a proxy may answer)", error.errno is None
    return FAULTS.get(name, name), isinstance(error, errors.HTTPError) and name != "TooManyRedirects"
