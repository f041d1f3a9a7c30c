"""Serve the built site to this machine alone."""

from __future__ import annotations

import functools
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mlx_velocity.errors import InputError

HOST = "127.0.0.1"
DEFAULT_PORT = 8321


class _Handler(SimpleHTTPRequestHandler):
    def list_directory(self, path: Any) -> None:
        """No listings: only the site's own pages are served."""
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: the address was printed."""


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
