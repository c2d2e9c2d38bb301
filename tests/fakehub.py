"""A stand-in for the Hugging Face hub: one gated dataset, one commit, served from memory on 127.0.0.1.

It answers what a download of named files asks for (HEAD and GET of ``/datasets/<repo>/resolve/<commit>/<path>``) with
the headers of the real one, and misbehaves on request.
"""

from __future__ import annotations

import hashlib
import re
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "MahmoodLab/hest"
TOKEN = "hf_secretOfTheTests"
LARGE_FILES = (".h5", ".h5ad", ".tif")  # kept by git LFS, known by their sha256

# what may go wrong with a file
CORRUPT = "corrupt"  # right length, one byte changed
SHORT = "short"  # half the bytes, and a header that says so
DROPPED_ONCE = "dropped once"  # the connection closes half way, the first time
DROPPED = "dropped"  # the connection closes before the first byte, always
UNAVAILABLE = "unavailable"  # status 503
UNAVAILABLE_BYTES = "unavailable bytes"  # status 503 for the contents, while the headers are served
SILENT = "silent"  # no answer at all
NO_HASH = "no hash"  # an ETag that is no hash, as a caching proxy may send


class FakeHub:
    """Serve ``files`` (path to bytes, or a folder) while used as a context manager.

    Attributes
    ----------
    url
        The address to pass as endpoint, or to set as ``HF_ENDPOINT``.
    faults
        Path to one of the faults above; may be changed while running.
    storage
        Another hub that large files are redirected to, as the real hub does to its storage.
    requests
        Method, path and ``Authorization`` header (or ``None``) of everything asked for.
    """

    def __init__(self, files: Mapping[str, bytes] | Path, token: str | None = TOKEN, repo: str = REPO):
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        self.files = dict(files)
        self.token = token
        self.repo = repo
        self.faults: dict[str, str] = {}
        self.storage: FakeHub | None = None
        self.requests: list[tuple[str, str, str | None]] = []
        self.closing = threading.Event()
        self.connections: list[socket.socket] = []

    def __enter__(self) -> FakeHub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()
        for connection in self.connections:  # kept alive, they would go on being answered
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def etag(self, path: str) -> str:
        """What the hub states as the hash of a file."""
        content = self.files[path]
        if path.endswith(LARGE_FILES):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def setup(self) -> None:
        super().setup()
        self.hub.connections.append(self.connection)

    def log_message(self, *_) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = self.hub
        url_path = unquote(urlsplit(self.path).path)
        authorization = self.headers.get("Authorization")
        hub.requests.append((self.command, url_path, authorization))
        asked = re.fullmatch(rf"/datasets/{re.escape(hub.repo)}/resolve/([^/]+)/(.+)", url_path)
        if asked is None:
            return self.refuse(404, "RepoNotFound")
        if hub.token is not None and authorization != f"Bearer {hub.token}":
            return self.refuse_access(authorization)
        commit, path = asked.groups()
        if commit != COMMIT:
            return self.refuse(404, "RevisionNotFound")
        if path not in hub.files:
            return self.refuse(404, "EntryNotFound")
        fault = hub.faults.get(path)
        if fault == SILENT:
            hub.closing.wait()
            self.close_connection = True
            return None
        if fault == UNAVAILABLE or (fault == UNAVAILABLE_BYTES and self.command == "GET"):
            return self.refuse(503)
        return self.serve(path, fault)

    def refuse_access(self, authorization: str | None) -> None:
        if authorization is None:
            return self.refuse(401, "GatedRepo")
        if authorization.startswith("Bearer hf_"):  # of an account that has not accepted the terms
            return self.refuse(403, "GatedRepo")
        return self.refuse(401)

    def refuse(self, status: int, code: str | None = None) -> None:
        # the real hub's messages quote nothing of the request; an echo here is what a careless client would print
        echo = {"X-Error-Message": f"refused {self.headers.get('Authorization')}"}
        self.answer(status, echo | ({"X-Error-Code": code} if code else {}))

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve(self, path: str, fault: str | None) -> None:
        content = self.hub.files[path]
        etag = "proxy-1" if fault == NO_HASH else self.hub.etag(path)
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if path.endswith(LARGE_FILES):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            # Xet transfer is offered as by the real hub; who takes the offer up here finds nothing at that address
            headers |= {"X-Xet-Hash": self.hub.etag(path), "X-Xet-Refresh-Route": f"{self.hub.url}/api/xet-token"}
            if self.hub.storage is not None:
                location = f"{self.hub.storage.url}/datasets/{self.hub.repo}/resolve/{COMMIT}/{path}"
                return self.answer(302, headers | {"Location": location})
        if self.command == "HEAD":
            return self.answer(200, headers | {"Content-Length": str(len(content))})
        if fault == CORRUPT:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == SHORT:
            content = content[: len(content) // 2]
        if fault in (DROPPED, DROPPED_ONCE):
            if fault == DROPPED_ONCE:
                del self.hub.faults[path]
            self.close_connection = True
            sent = content[: len(content) // 2] if fault == DROPPED_ONCE else b""
            return self.answer(200, headers | {"Content-Length": str(len(content))}, sent)
        start = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if start:
            first = int(start[1])
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
            return self.answer(206, headers, content[first:])
        return self.answer(200, headers, content)
