"""Serve the built site to this machine alone."""

from __future__ import annotations

import functools
import gzip
import io
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, BinaryIO

from mlx_velocity.errors import InputError

HOST = "127.0.0.1"
DEFAULT_PORT = 8321
NAMES = (HOST, "localhost")
"""What this server may be called: a page from elsewhere could point a name of its own to this machine."""
COMPRESSED = (".html", ".css", ".js", ".json", ".xml", ".svg")


class _Handler(SimpleHTTPRequestHandler):
    def list_directory(self, path: Any) -> None:
        """No listings: only the site's own pages are served."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address was printed."""

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """As the standard library's, and compressed where that helps: histories are long lists of numbers."""
        if self.headers.get("Host", HOST).partition(":")[0] not in NAMES:
            self.send_error(HTTPStatus.MISDIRECTED_REQUEST)
            return None
        path = Path(self.translate_path(self.path))
        if not path.resolve().is_relative_to(Path(self.directory).resolve()):
            self.send_error(HTTPStatus.NOT_FOUND)
            return None
        if path.is_dir() and self.path.partition("?")[0].endswith("/"):
            path = path / "index.html"
        if (
            path.suffix not in COMPRESSED
            or not path.is_file()
            or "gzip" not in self.headers.get("Accept-Encoding", "")
        ):
            return super().send_head()
        data = gzip.compress(path.read_bytes(), 5, mtime=0)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", self.guess_type(str(path)))
        self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        return io.BytesIO(data)

    def end_headers(self) -> None:
        """A rebuilt site is seen at once, and no file is taken for what it is not."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()


def server(html_dir: Path, port: int) -> ThreadingHTTPServer:
    """A server of the site on 127.0.0.1; port 0 takes a free one.

    Raises InputError where there is no site, or the port is taken.
    """
    if not (html_dir / "index.html").is_file():
        raise InputError("there is no site yet", "build it first: mlx-velocity publish")
    try:
        return ThreadingHTTPServer((HOST, port), functools.partial(_Handler, directory=str(html_dir)))
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"port {port} can't be used: {reason}", "choose another with --port, or 0 for a free one"
        ) from error
