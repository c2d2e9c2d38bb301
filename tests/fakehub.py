"""A stand-in for the Hugging Face hub: one gated dataset, one commit, served from memory on 127.0.0.1.

It answers the requests for named files (HEAD and GET of ``/datasets/<repo>/resolve/<commit>/<path>``) with
the headers of the real one, and those for the list of a folder's files. It keeps account of every request and
byte, and misbehaves on request.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import socket
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO = "MahmoodLab/hest"
TOKEN = "hf_secretOfTheTests"
LARGE_FILES = (".h5", ".h5ad", ".tif")  # kept by git LFS, known by their sha256
PIECE = 1 << 14  # bytes sent at once

# what may go wrong with a file
CORRUPT = "corrupt"  # right length, one byte changed
SHORT = "short"  # half the bytes, and a header that says so
LONG = "long"  # a byte too many, and a header that says so
HALF = "half"  # the connection closes after half of what is left
DROPPED = "dropped"  # the connection closes before the first byte
UNAVAILABLE = "unavailable"  # status 503
UNAVAILABLE_BYTES = "unavailable bytes"  # status 503 for the contents, while the headers are served
BUSY = "busy"  # status 429, and `retry_after`
BUSY_BYTES = "busy bytes"  # so for the contents
RATE_LIMITED = "rate limited"  # status 429 with the hub's own header, `retry_after` in it
SILENT = "silent"  # no answer at all
STALLED = "stalled"  # the first half of the file, then nothing
NO_HASH = "no hash"  # an ETag that is no hash, as a caching proxy may send
CIRCLE = "circle"  # redirected to itself
CIRCLE_BYTES = "circle bytes"  # so for the contents
PAGE = "page"  # a login page instead of everything
PAGE_BYTES = "page bytes"  # a page instead of the contents
FORBIDDEN = "forbidden"  # status 403 without a code, as to a fine-grained token
OTHER_COMMIT = "other commit"  # says that the file belongs to another commit
SLOW = "slow"  # `PIECE` bytes at a time, ten milliseconds apart


class Request(NamedTuple):
    """One request."""

    method: str
    path: str
    authorization: str | None
    range: str | None


class FakeHub:
    """Serve ``files`` (path to bytes, or a folder) while used as a context manager.

    Attributes
    ----------
    url
        The address to pass as endpoint, or to set as ``HF_ENDPOINT``.
    faults
        Path to one of the faults above, or to a fault and how often it strikes; may be changed while running.
    storage
        Another hub that large files are redirected to, as the real hub does to its storage.
    late_redirect
        Redirect only who gets the contents, not who asks about the file.
    ranges
        Whether a part of a file can be asked for.
    listed_at_once
        Files on a page of the list of a folder.
    xet
        Whether Xet transfer is offered, as by the real hub.
    requests
        Everything that was asked for.
    served
        Bytes of contents sent, by path; compressed ones for a text.
    at_once
        Largest number of contents that were being sent at the same time.
    """

    def __init__(self, files: Mapping[str, bytes] | Path, token: str | None = TOKEN, repo: str = REPO):
        if isinstance(files, Path):
            files = {p.relative_to(files).as_posix(): p.read_bytes() for p in files.rglob("*") if p.is_file()}
        self.files = dict(files)
        self.token = token
        self.repo = repo
        self.commit = COMMIT
        self.faults: dict[str, str | tuple[str, int]] = {}
        self.retry_after = "1"
        self.storage: FakeHub | None = None
        self.late_redirect = False
        self.ranges = self.xet = True
        self.listed_at_once = 5
        self.requests: list[Request] = []
        self.served: Counter[str] = Counter()
        self.sending = self.at_once = 0
        self.lock = threading.Lock()
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
        """Return the hash that the hub states for a file."""
        content = self.files[path]
        if path.endswith(LARGE_FILES):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def fault(self, path: str, method: str) -> str | None:
        """Return the fault that strikes this request; most strike contents alone if counted."""
        fault = self.faults.get(path)
        if not isinstance(fault, tuple):
            return fault
        name, left = fault
        if method == "HEAD" and name not in (UNAVAILABLE, BUSY, RATE_LIMITED, SILENT):
            return None
        if left < 1:
            return None
        self.faults[path] = (name, left - 1)
        return name

    def count_anew(self) -> None:
        """Forget what was served, once nothing is being sent."""
        while self.sending:
            time.sleep(0.01)
        self.served.clear()

    def asked(self, method: str) -> int:
        """Count the requests of a kind."""
        return sum(request.method == method for request in self.requests)


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
        hub.requests.append(Request(self.command, url_path, authorization, self.headers.get("Range")))
        if listed := re.fullmatch(rf"/api/datasets/{re.escape(hub.repo)}/tree/([^/]+)/(.+)", url_path):
            return self.list_folder(*listed.groups(), authorization)
        asked = re.fullmatch(rf"/datasets/{re.escape(hub.repo)}/resolve/([^/]+)/(.+)", url_path)
        if asked is None:
            return self.refuse(404, "RepoNotFound")
        commit, path = asked.groups()
        fault = hub.fault(path, self.command)
        if fault == PAGE or (fault == PAGE_BYTES and self.command == "GET"):
            return self.answer(
                200, {"Content-Type": "text/html; charset=utf-8"}, b"<html>Sign in to the network</html>"
            )
        if hub.token is not None and authorization != f"Bearer {hub.token}":
            return self.refuse_access(authorization)
        if fault == FORBIDDEN:
            return self.refuse(403)
        if commit != hub.commit:
            return self.refuse(404, "RevisionNotFound")
        if path not in hub.files:
            return self.refuse(404, "EntryNotFound")
        if fault == SILENT:
            return self.fall_silent()
        if fault == BUSY or (fault == BUSY_BYTES and self.command == "GET"):
            return self.answer(429, {"Retry-After": hub.retry_after} if hub.retry_after else {})
        if fault == RATE_LIMITED:
            return self.answer(429, {"RateLimit": f'"resolvers";r=0;t={hub.retry_after}'})
        if fault == UNAVAILABLE or (fault == UNAVAILABLE_BYTES and self.command == "GET"):
            return self.refuse(503)
        if fault == CIRCLE or (fault == CIRCLE_BYTES and self.command == "GET"):
            return self.answer(302, {"Location": self.path})
        return self.serve(path, fault)

    def list_folder(self, commit: str, folder: str, authorization: str | None) -> None:
        """List the files below a folder, a few on each page, as the real hub does for a thousand."""
        hub = self.hub
        if hub.token is not None and authorization != f"Bearer {hub.token}":
            return self.refuse_access(authorization)
        if commit != hub.commit:
            return self.refuse(404, "RevisionNotFound")
        paths = sorted(path for path in hub.files if path.startswith(f"{folder}/"))
        if not paths:
            return self.refuse(404, "EntryNotFound")
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("cursor", ["0"])[0])
        entries = [{"type": "directory", "path": f"{folder}/patches", "oid": "0" * 40, "size": 0}]
        for path in paths[first : first + hub.listed_at_once]:
            entries.append({"type": "file", "path": path, "size": len(hub.files[path]), "oid": "0" * 40})
        headers = {"Content-Type": "application/json"}
        if first + hub.listed_at_once < len(paths):
            rest = f"{hub.url}{urlsplit(self.path).path}?recursive=true&cursor={first + hub.listed_at_once}"
            headers["Link"] = f'<{rest}>; rel="next"'
        body = json.dumps(entries).encode()
        return self.answer(200, headers | {"Content-Length": str(len(body))}, body)

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

    def fall_silent(self) -> None:
        self.hub.closing.wait()
        self.close_connection = True

    def answer(self, status: int, headers: Mapping[str, str], body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def serve(self, path: str, fault: str | None) -> None:
        hub = self.hub
        content = hub.files[path]
        etag = "proxy-1" if fault == NO_HASH else hub.etag(path)
        commit = "f" * 40 if fault == OTHER_COMMIT else hub.commit
        headers = {"X-Repo-Commit": commit, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if path.endswith(LARGE_FILES):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
            if hub.xet:  # a client that accepts finds nothing at that address
                headers |= {"X-Xet-Hash": hub.etag(path), "X-Xet-Refresh-Route": f"{hub.url}/api/xet-token"}
            if hub.storage is not None and (self.command == "GET" or not hub.late_redirect):
                location = f"{hub.storage.url}/datasets/{hub.repo}/resolve/{hub.commit}/{path}?signature=of-the-storage"
                return self.answer(302, headers | {"Location": location})
        if self.command == "HEAD":
            return self.answer(200, headers | {"Content-Length": str(len(content))})
        if fault == CORRUPT:
            content = content[:-1] + bytes([content[-1] ^ 1])
        if fault == SHORT:
            content = content[: len(content) // 2]
        if fault == LONG:
            content += b"\0"
        if "gzip" in self.headers.get("Accept-Encoding", "") and not path.endswith(LARGE_FILES):
            # the real hub compresses texts, and then states no length
            headers |= {"Content-Encoding": "gzip", "Content-Length": None, "Connection": "close"}
            return self.send(path, 200, headers, gzip.compress(content), fault)
        start, status = 0, 200
        asked = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
        if asked and hub.ranges:
            start, status = int(asked[1]), 206
            if start >= len(content):
                return self.answer(416, {"Content-Range": f"bytes */{len(content)}"})
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        return self.send(path, status, headers, content[start:], fault)

    def send(self, path: str, status: int, headers: Mapping[str, str | None], body: bytes, fault: str | None) -> None:
        """Send contents, as many bytes as the fault lets through."""
        hub = self.hub
        before_the_middle = max(len(body) - len(hub.files[path]) // 2, 0)
        sent = {HALF: len(body) // 2, STALLED: before_the_middle, DROPPED: 0}.get(fault, len(body))
        with hub.lock:
            hub.sending += 1
            hub.at_once = max(hub.at_once, hub.sending)
        try:
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | dict(headers)).items():
                if value is not None:
                    self.send_header(name, value)
            self.end_headers()
            for first in range(0, sent, PIECE):
                piece = body[first : min(first + PIECE, sent)]
                self.wfile.write(piece)
                hub.served[path] += len(piece)
                if fault == SLOW:
                    time.sleep(0.01)
        except OSError:  # whoever asked is gone
            self.close_connection = True
        finally:
            with hub.lock:
                hub.sending -= 1
        if fault in (HALF, DROPPED):
            self.close_connection = True
        if fault == STALLED:
            self.fall_silent()
