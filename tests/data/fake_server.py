"""A local web server that stands in for hosts of datasets and for the hub."""

from __future__ import annotations

import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from rsbench.data.card import Asset


class Server(ThreadingHTTPServer):
    """Serves ``files``; answers ``break_after`` bytes of a body and hangs up, once per entry."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.ranges: list[str | None] = []
        self.asked: list[str] = []
        self.errors: dict[str, int] = {}
        self.ignore_range = False

    def asset(self, name: str, content: bytes | None = None, **facts: object) -> Asset:
        if content is not None:
            self.files[name] = content
        return Asset(f"http://127.0.0.1:{self.server_port}/{name}", name, **facts)


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_HEAD(self) -> None:
        """The hub's client asks for these facts first."""
        self.server.asked.append(self.path)
        body = self.server.files.get(self.path[1:])
        error = next(iter(self.server.errors), None if body is not None else "EntryNotFound")
        self.send_response(self.server.errors.get(str(error), 404) if error else 200)
        if error:
            self.send_header("X-Error-Code", error)
        self.send_header("Content-Length", str(len(body or b"")))
        self.send_header("ETag", f'"{hashlib.md5(body or b"").hexdigest()}"')
        self.send_header("X-Repo-Commit", "0" * 40)
        self.end_headers()

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        asked = self.headers.get("Range")
        self.server.ranges.append(asked)
        body = self.server.files.get(self.path[1:].partition("?")[0])
        if body is None:
            return self.send_error(404)
        start = int(asked[6:].split("-")[0]) if asked and not self.server.ignore_range else 0
        if start and start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        stop = self.server.break_after.pop(0) if self.server.break_after else len(body)
        self.wfile.write(body[start : start + stop])

    def log_message(self, *_: object) -> None:
        """Quiet."""
