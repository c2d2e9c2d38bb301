"""Files of a dataset on the Hugging Face hub: fetched at one commit, checked, and known again later.

The hub's own library looks at lengths only, takes damaged files from its cache, and since version 1 starts a broken
download over. Here every file is compared with the hash that the hub states for it; what has come of a file is kept
under that hash, and the next attempt goes on from there, in the same job or in another; and a manifest per sample tells
later runs which files were checked.

Below the data folder: ``downloads/<commit>/<sample>.json`` are the manifests, ``.partial/`` holds unfinished files.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urljoin, urlsplit

from spotwise.errors import InputError, SetupError
from spotwise.runtime.files import atomic, write_json

logger = logging.getLogger(__name__)
# The library's HTTP client logs every address it asks, signed ones among them, which let anyone in for a while
logging.getLogger("httpx2").setLevel(logging.WARNING)

TOKEN_VARIABLE = "HF_TOKEN"
COMMIT = re.compile(r"[0-9a-f]{40}")
SHA1 = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
BLOCK = 1 << 20  # bytes hashed at once
PARTIAL, LOCK = ".partial", "lock"
REMEDY = "delete the manifest, and its files are compared with the hub again"
PROGRESS_LINE = 60.0  # seconds between lines in the log about a file that is coming in

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long a download bears with a hub that fails.

    Attributes
    ----------
    attempts
        Failures in a row after which it gives up; ``new_bytes`` more of a file than ever before start the count again.
    first_wait, longest_wait
        Seconds before the second attempt, doubled from there up to the longest.
    longest_pause
        Seconds that the hub may ask for (``Retry-After``, or its rate limit's reset); more than that is told.
    timeout
        Seconds without a byte from the hub; ``None`` for the library's 10, or ``HF_HUB_ETAG_TIMEOUT`` (about a file)
        and ``HF_HUB_DOWNLOAD_TIMEOUT`` (its contents).
    new_bytes
        What counts as progress.
    """

    attempts: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_pause: float = 900.0
    timeout: float | None = None
    new_bytes: int = BLOCK


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


# --- Manifests ------------------------------------------------------------------------------------------------------


def manifest_path(root: str | Path, revision: str, sample: str) -> Path:
    """Where the manifest of a sample's files at a commit lies below the data folder."""
    return Path(root) / "downloads" / revision / f"{sample}.json"


def read_manifest(path: str | Path) -> list[dict]:
    """Read a manifest: per file ``path``, ``size``, ``sha256``, ``etag``, ``commit`` and ``modified_ns``.

    Raises
    ------
    InputError
        Where it is missing or damaged.
    """
    path = Path(path)
    expected = f"the manifest of a download: {REMEDY}"
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(path, "manifest", error.strerror, expected) from None
    except ValueError:  # no UTF-8 or no JSON
        raise InputError(path, "manifest", "no JSON", expected) from None
    kinds = {"path": str, "size": int, "sha256": str, "etag": str, "commit": str, "modified_ns": int}
    if not isinstance(records, list) or not records:
        raise InputError(path, "manifest", "no list of files", expected)
    for number, record in enumerate(records):
        for key, kind in kinds.items():
            if not isinstance(record, dict) or not isinstance(record.get(key), kind):
                raise InputError(path, f"file {number}", f"no {key}", expected)
        if record["commit"] != path.parent.name:
            raise InputError(
                path,
                f"file {number}",
                f"commit {record['commit']}",
                f"{path.parent.name}, as its folder is named: {REMEDY}",
            )
    return records


def require(root: str | Path, revision: str, files: Mapping[str, Sequence[str]]) -> None:
    """Before a run: check what is there against its manifests, and look for a token where something is not there.

    Parameters
    ----------
    root
        The data folder.
    revision
        The commit that the run pins.
    files
        Paths in the repository that the run needs, by sample.

    Raises
    ------
    InputError
        Where a file is not what was downloaded, or a manifest is damaged or silent about a file that is there.
    SetupError
        Where a file or manifest is missing and so is the token.
    """
    root = Path(root)
    complete = True
    for sample, paths in files.items():
        manifest = manifest_path(root, revision, sample)
        there = [path for path in paths if (root / path).exists()]
        complete &= manifest.exists() and there == list(paths)
        if manifest.exists():
            listed = [record["path"] for record in check(root, manifest)]
            for path in there:
                if path not in listed:
                    raise InputError(manifest, path, "nothing", f"its hash: {REMEDY}")
    if not complete:
        token_from_environment()


def check(root: str | Path, manifest: str | Path, by_hash: bool = False) -> list[dict]:
    """Check files against their manifest: by size and time of change, and by content where the time differs.

    A file that was copied or touched and holds what it should gets its time back, so that the next check is quick.

    Parameters
    ----------
    root
        The data folder.
    manifest
        One of its manifests.
    by_hash
        Read every file, and let none be missing. Otherwise a missing one passes: it is fetched again.

    Returns
    -------
    The manifest, as :func:`read_manifest`.

    Raises
    ------
    InputError
        Naming the file that differs, or the manifest where that is damaged.
    """
    again = "as downloaded: delete the file, and it is fetched again"
    records = read_manifest(manifest)
    for record in records:
        path = Path(root) / record["path"]
        if not by_hash and not path.exists():
            continue
        if not path.is_file():
            raise InputError(path, "file", "nothing", f"{record['size']} bytes, as downloaded (see {manifest})")
        if path.stat().st_size != record["size"]:
            raise InputError(path, "size", f"{path.stat().st_size} bytes", f"{record['size']}, {again}")
        if not _unchanged(path, record, by_hash):
            raise InputError(path, "sha256", _hashes(path)[0], f"{record['sha256']}, {again}")
    return records


def _unchanged(path: Path, record: Mapping, by_hash: bool = False) -> bool:
    """Whether a file is what was downloaded; one that is, but for its time of change, gets that back."""
    if not path.is_file() or path.stat().st_size != record["size"]:
        return False
    if path.stat().st_mtime_ns == record["modified_ns"] and not by_hash:
        return True
    if _hashes(path)[0] != record["sha256"]:
        return False
    with suppress(PermissionError):  # in a folder that others share for reading, it is read each time
        os.utime(path, ns=(record["modified_ns"], record["modified_ns"]))
    return True


def _hashes(path: Path) -> tuple[str, str]:
    """sha256 of a file, as the hub states for large ones, and the sha1 of its git blob, as for small ones."""
    sha256 = hashlib.sha256()
    git_sha1 = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as handle:
        while block := handle.read(BLOCK):
            sha256.update(block)
            git_sha1.update(block)
    return sha256.hexdigest(), git_sha1.hexdigest()


def _matches(path: Path, stated: Stated) -> bool:
    """Whether a file has the length and the hash that the hub states."""
    return path.is_file() and path.stat().st_size == stated.size and stated.etag in _hashes(path)


# --- Download -------------------------------------------------------------------------------------------------------


def download(
    repo: str,
    revision: str,
    sample: str,
    files: Sequence[str],
    root: str | Path,
    token: str | None = None,
    endpoint: str | None = None,
    patience: Patience = Patience(),
) -> list[dict]:
    """Fetch the files of a sample at one commit, check their hashes, and write their manifest.

    What is there already and known from a manifest needs no hub. What is there otherwise is compared with the hub's
    hash and kept where it agrees. Files move into place together, once all of them are right; a failure changes none.

    Parameters
    ----------
    repo
        The dataset, ``MahmoodLab/hest``.
    revision
        A commit (40 hex digits), as branches move.
    sample
        The manifest's name.
    files
        Paths in the repository, each to land at the same path below ``root``.
    root
        The folder in the HEST layout.
    token
        Access token; ``None`` for that of ``HF_TOKEN``, asked for only where the hub has to be; ``""`` for none.
    endpoint
        Address of the hub or of a mirror; ``None`` for the library's own (variable ``HF_ENDPOINT``).
    patience
        When to give up.

    Returns
    -------
    The manifest: per file ``path``, ``size`` in bytes, ``sha256``, ``etag`` (what it was checked against: the sha256 of
    a large file, the git blob's sha1 of a small one), ``commit``, and ``modified_ns``, its time of change.

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
    root = Path(root)
    with ExitStack() as locks:
        for path in sorted(files):
            locks.enter_context(_locked(root, path))
        records = _vouched_for(root, manifest_path(root, revision, sample))
        unknown = [path for path in files if path not in records]
        if unknown:
            hub = Hub(repo, revision, token_from_environment() if token is None else token, endpoint, patience)
            records |= _fetched(hub, unknown, root)
    manifest = [records[path] for path in files]
    write_json(manifest_path(root, revision, sample), manifest)
    return manifest


def _vouched_for(root: Path, manifest: Path) -> dict[str, dict]:
    """Records of a manifest, by path, with which the files agree; none where it is damaged or missing."""
    try:
        records = read_manifest(manifest) if manifest.exists() else []
    except InputError as error:
        logger.warning("%s", error)
        return {}
    return {record["path"]: record for record in records if _unchanged(root / record["path"], record)}


def _fetched(hub: Hub, files: Sequence[str], root: Path) -> dict[str, dict]:
    """Records of files that the hub had to be asked about, all of them in place."""
    stated = {}
    for path in files:
        try:
            stated[path] = hub.stated(path)
        except SetupError as error:
            if (root / path).exists():
                raise SetupError(f"{error}; {root / path} is there, but no manifest vouches for it") from None
            raise
    wanted = {}
    for path, said in stated.items():
        if _matches(root / path, said):
            logger.info("%s: already there, with the hash that the hub states", path)
            continue
        if (root / path).exists():
            logger.warning("%s: what is there is not the hub's file: it is replaced", path)
        wanted[path] = said
    partials = {path: _partial(root, path, said.etag) for path, said in wanted.items()}
    _require_space(root, {path: said.size - _size(partials[path]) for path, said in wanted.items()})
    for path, said in wanted.items():
        hub.fetch(path, said, partials[path])
    for path in wanted:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        _move(partials[path], root / path)
    return {path: _record(root / path, path, said.etag, hub.revision) for path, said in stated.items()}


def _move(file: Path, target: Path) -> None:
    """Give a file its name, on another disk too: a folder below the data folder may be a link."""
    try:
        os.replace(file, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        with atomic(target) as temporary:
            shutil.copyfile(file, temporary)
        file.unlink()


def _record(file: Path, path: str, etag: str, commit: str) -> dict:
    """The manifest's entry for a file whose content has been checked."""
    sha256 = etag if SHA256.fullmatch(etag) else _hashes(file)[0]
    size, modified = file.stat().st_size, file.stat().st_mtime_ns
    return {"path": path, "size": size, "sha256": sha256, "etag": etag, "commit": commit, "modified_ns": modified}


def _unfinished(root: Path, path: str, suffix: str) -> Path:
    """A file about an unfinished one, in a single folder that stays: a process that waits may be about to use it."""
    return root / PARTIAL / f"{quote(path, safe='')}.{suffix}"


def _partial(root: Path, path: str, etag: str) -> Path:
    """Where what has come of a file is kept; what has come of its other versions goes."""
    partial = _unfinished(root, path, etag)
    for other in partial.parent.glob(_unfinished(root, path, "*").name):
        if other != partial and other.suffix != f".{LOCK}":
            other.unlink(missing_ok=True)
    return partial


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


@contextmanager
def _locked(root: Path, path: str) -> Iterator[None]:
    """Keep other processes from downloading the same file; they wait, and then find it there."""
    from filelock import FileLock, Timeout

    lock = _unfinished(root, path, LOCK)
    held = FileLock(lock)
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held.acquire(blocking=False)
    except PermissionError as error:
        raise SetupError(
            f"{error.filename or lock}: {error.strerror}: downloads need a data.root to write to"
        ) from None
    except Timeout:
        logger.info("%s: another process downloads it: waiting", path)
        held.acquire()
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)  # whoever waits for it makes a new one
        held.release()


def _require_space(root: Path, needs: Mapping[str, int]) -> None:
    """Refuse what does not fit on the disk, before its first byte is asked for."""
    needed, free = sum(needs.values()), shutil.disk_usage(root).free
    if needed > free:
        raise SetupError(
            f"{root}: {needed / 1e9:.3f} GB needed for {', '.join(needs)} and {free / 1e9:.3f} GB free: "
            "make room, or set data.root to a larger disk"
        )


# --- The hub --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stated:
    """What the hub says about a file: its hash, its length in bytes, and where its contents lie just now."""

    etag: str
    size: int
    location: str


class _ShortError(Exception):
    """The contents ended early."""


class _StaleError(Exception):
    """What had come before does not belong to the rest."""


@dataclass(frozen=True)
class Hub:
    """A dataset at one commit on the hub, asked with patience."""

    repo: str
    revision: str
    token: str = field(repr=False)
    endpoint: str | None
    patience: Patience

    def stated(self, path: str) -> Stated:
        """What the hub says about a file, or the error to show."""
        return self._patiently(path, lambda: self._ask(path))

    def fetch(self, path: str, stated: Stated, partial: Path) -> None:
        """Complete ``partial`` to the file that the hub states, or raise the error to show."""
        logger.info("%s: %d bytes, %d of them here", path, stated.size, _size(partial))
        started, before = time.monotonic(), _size(partial)
        self._patiently(path, lambda: self._complete(path, stated, partial), lambda: _size(partial))
        took = time.monotonic() - started
        logger.info("%s: complete, %.1f MB in %.1f s", path, max(stated.size - before, 0) / 1e6, took)

    def _ask(self, path: str) -> Stated:
        """Ask once about a file."""
        huggingface_hub = _library()
        url = huggingface_hub.hf_hub_url(
            self.repo, path, repo_type="dataset", revision=self.revision, endpoint=self.endpoint
        )
        timeout = self.patience.timeout or huggingface_hub.constants.HF_HUB_ETAG_TIMEOUT
        # False: no token; None would make the library look for one on this machine
        answer = huggingface_hub.get_hf_file_metadata(url, token=self.token or False, timeout=timeout)
        if answer.commit_hash is None:
            raise SetupError(f"{self._about(path)}: {self._address()} is not the hub: a login page or a proxy answers")
        if answer.commit_hash != self.revision:
            raise InputError(self.repo, f"revision of {path}", answer.commit_hash, self.revision)
        etag = answer.etag or ""
        if not (SHA256.fullmatch(etag) or SHA1.fullmatch(etag)) or answer.size is None:
            raise SetupError(
                f"{self._about(path)}: the hub states no hash and size to check it against: is a mirror in between?"
            )
        return Stated(etag, answer.size, urljoin(url, answer.location))

    def _complete(self, path: str, stated: Stated, partial: Path) -> None:
        """Get the rest of a file over one connection, and compare it with its hash."""
        before = _size(partial)
        if before < stated.size:
            # asked again, as a location is signed for a short time
            self._receive(path, stated.size, self._ask(path).location, partial)
        elif stated.size == 0:
            partial.touch()
        if _size(partial) < stated.size:
            raise _ShortError
        if _matches(partial, stated):
            with partial.open("rb") as file:
                os.fsync(file.fileno())
            return
        found = _hashes(partial)[0 if SHA256.fullmatch(stated.etag) else 1]
        size = _size(partial)
        partial.unlink()
        if before:
            raise _StaleError
        raise SetupError(
            f"{self._about(path)}: found hash {found} ({size} bytes), expected {stated.etag} ({stated.size} bytes): "
            "the file was damaged on the way, start the download again"
        )

    def _receive(self, path: str, size: int, location: str, partial: Path) -> None:
        """Append what one connection gives."""
        from huggingface_hub import constants, get_session
        from huggingface_hub.utils import build_hf_headers, hf_raise_for_status
        from tqdm import tqdm

        # the library's client takes the token off a request that is redirected to another host
        token = self.token if self.token and _is_hub(location, self._address()) else False
        headers = build_hf_headers(token=token) | {"Accept-Encoding": "identity"}
        if start := _size(partial):
            headers["Range"] = f"bytes={start}-"
        timeout = self.patience.timeout or constants.HF_HUB_DOWNLOAD_TIMEOUT
        with get_session().stream("GET", location, headers=headers, timeout=timeout) as response:
            if response.status_code == 416:  # there is no more of it than has come
                return
            if response.status_code in (401, 403) and not _is_hub(str(response.url), self._address()):
                raise SetupError(
                    f"{self._about(path)}: the hub refers to {response.url.host}, which refuses (status "
                    f"{response.status_code}): is that host blocked on this network?"
                )
            hf_raise_for_status(response)
            if response.headers.get("Content-Type", "").startswith("text/html"):
                raise SetupError(f"{self._about(path)}: a web page came in its place: a login page or a proxy answers")
            resumed = response.status_code == 206
            with (
                partial.open("ab" if resumed else "wb", buffering=0) as file,
                # no bar without a terminal
                tqdm(total=size, initial=file.tell(), desc=path, unit="B", unit_scale=True, disable=None) as bar,
            ):
                told = time.monotonic()
                for block in response.iter_bytes():
                    bar.update(len(block))
                    rest = memoryview(block)
                    while rest:  # a disk that is filling up takes a part
                        rest = rest[file.write(rest) :]
                    if file.tell() > size:
                        return  # too much: the hash will tell
                    if time.monotonic() - told > PROGRESS_LINE:
                        told = time.monotonic()
                        logger.info("%s: %.0f of %.0f MB", path, file.tell() / 1e6, size / 1e6)

    def _patiently(self, path: str, attempt: Callable[[], T], reached: Callable[[], int] = lambda: 0) -> T:
        """Repeat an attempt while its failures may pass; ``reached`` is how much of a file there is."""
        from huggingface_hub.errors import HTTPError

        failures, mark = 0, reached()
        while True:
            try:
                return attempt()
            except (HTTPError, OSError, _ShortError, _StaleError) as error:
                failures += 1
                if reached() - mark >= self.patience.new_bytes:
                    failures, mark = 1, reached()
                asked, final = _asked_pause(error), failures >= self.patience.attempts
                if final or not _may_pass(error) or asked > self.patience.longest_pause:
                    # `from None`: the library's errors carry the request, and with it the token
                    raise self._told(error, path, failures, asked) from None
                wait = min(self.patience.first_wait * 2 ** (failures - 1), self.patience.longest_wait)
                what = _in_short(error)
            logger.warning("%s: %s: next attempt in %.1f s", path, what, max(wait, asked))
            time.sleep(max(wait, asked))

    def _address(self) -> str:
        from huggingface_hub import constants

        return self.endpoint or constants.ENDPOINT

    def _about(self, path: str) -> str:
        return f"{self.repo}: {path}"

    def _told(self, error: Exception, path: str, failures: int, asked: float) -> InputError | SetupError:
        """What went wrong at the hub, in one line that says what to do and holds nothing of the request."""
        from huggingface_hub import errors

        page, about = f"{self._address()}/datasets/{self.repo}", self._about(path)
        status = _status(error)
        if isinstance(error, errors.RevisionNotFoundError):
            return InputError(self.repo, "revision", self.revision, f"a commit of {page}")
        if isinstance(error, errors.RemoteEntryNotFoundError):
            return InputError(
                f"{self.repo} at {self.revision}",
                path,
                "no such file",
                f"one of {page}/tree/{self.revision}, where it may have another name",
            )
        if isinstance(error, errors.GatedRepoError) and status == 403:
            return SetupError(f"{self.repo}: your account has not been granted access: accept the terms at {page}")
        if status in (401, 403) and not self.token:
            return SetupError(f"{self.repo}: access needs a token: set {TOKEN_VARIABLE} and accept the terms at {page}")
        if status in (401, 403):
            return SetupError(
                f"{self.repo}: the hub refuses the token in {TOKEN_VARIABLE}: make a new one that may read {page} (a "
                "fine-grained one needs read access to public gated repositories)"
            )
        if isinstance(error, errors.RepositoryNotFoundError):
            return InputError(self.repo, "repository", "no such dataset", f"one that {page} shows")
        if isinstance(error, errors.OfflineModeIsEnabled):
            return SetupError(f"{about}: HF_HUB_OFFLINE is set: unset it, or copy the files to a local folder")
        if asked > self.patience.longest_pause:
            return SetupError(f"{about}: the hub asks to wait {asked:.0f} s (status {status}): start again after that")
        if isinstance(error, OSError) and error.errno is not None and not isinstance(error, ConnectionError):
            return SetupError(
                f"{about}: {error.strerror}: {error.filename or 'while writing'}; what has come so far is kept"
            )
        times = f"{failures} attempts" if failures > 1 else "one attempt"
        return SetupError(
            f"{about}: {_in_short(error)} at {self._address()}, after {times}: check the connection and start again; "
            "what has come so far is kept"
        )


def _library():
    """huggingface_hub without what it tells and asks the hub, and writes in the user's home, for its own purposes."""
    import huggingface_hub
    from huggingface_hub import constants

    # what the variable of this name sets, which is read once, at import
    constants.HF_HUB_DISABLE_TELEMETRY = True
    return huggingface_hub


def _is_hub(location: str, endpoint: str) -> bool:
    """Whether a location is the hub itself, which may see the token, and not some other host that stores its files."""
    from huggingface_hub import constants

    origins = [urlsplit(url)[:2] for url in (endpoint, constants.HUGGINGFACE_CO_URL_HOME)]
    return urlsplit(location)[:2] in origins


def _status(error: Exception) -> int | None:
    return getattr(getattr(error, "response", None), "status_code", None)


def _asked_pause(error: Exception) -> float:
    """Seconds that the hub asks to wait; 0 where it does not."""
    from huggingface_hub.utils import parse_ratelimit_headers

    headers = getattr(getattr(error, "response", None), "headers", {})
    after = headers.get("Retry-After", "").strip()
    limit = parse_ratelimit_headers(headers)
    if _status(error) == 429 and limit is not None and limit.remaining == 0:
        return max(float(limit.reset_in_seconds), float(after) if after.isdigit() else 0.0)
    return float(after) if after.isdigit() else 0.0


def _may_pass(error: Exception) -> bool:
    """Whether the same question may be answered later: overload, a lost connection, silence, a short answer."""
    from huggingface_hub.errors import HTTPError

    status = _status(error)
    if status is not None:
        return status in (408, 429) or status >= 500
    circle = type(error).__name__ == "TooManyRedirects"  # a class of the library's HTTP client, not of its own
    return isinstance(error, _ShortError | _StaleError | HTTPError) and not circle


def _in_short(error: Exception) -> str:
    """A failure in a few words, none of them the hub's own."""
    if _status(error) is not None:
        return f"status {_status(error)}"
    name = type(error).__name__
    known = {
        "_ShortError": "fewer bytes than stated",
        "_StaleError": "contents that do not go on from what had come",
        "TooManyRedirects": "redirects without an end",
        "ConnectError": "no connection",
        "ConnectTimeout": "no connection in time",
        "ReadTimeout": "no answer in time",
        "RemoteProtocolError": "a broken connection",
        "ReadError": "a broken connection",
    }
    return known.get(name, name)
