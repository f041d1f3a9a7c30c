"""Apple's powermetrics as a stream: watts by part, and thermal pressure, where it may be run."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import IO, Any

from mlx_velocity import macos

EVERY_MS = 1000
"""Its own sampling takes time too."""
START_S = 0.5
"""Without rights it says so and ends well within this."""


class Powermetrics:
    """One process for the whole time. It may be run by root, or by whoever sudo lets run it without a password."""

    def __init__(self, words: list[str] | None = None) -> None:
        rights = [] if os.geteuid() == 0 else ["sudo", "--non-interactive"]
        self._words = words or [*rights, *macos.POWERMETRICS, "--sample-rate", str(EVERY_MS)]
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._latest: dict[str, Any] = {}
        self._lock = threading.Lock()

    def start(self) -> bool:
        """Whether it runs."""
        try:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True, errors="replace", start_new_session=True,
            )  # fmt: skip
        except OSError:
            return False
        assert self._process.stdout is not None
        self._reader = threading.Thread(target=self._follow, args=(self._process.stdout,), daemon=True)
        self._reader.start()
        end = time.monotonic() + START_S
        while time.monotonic() < end:
            if self._process.poll() is not None:
                self.stop()
                return False
            time.sleep(START_S / 20)
        return True

    def read(self) -> dict[str, Any]:
        """What its newest block says, once."""
        with self._lock:
            latest, self._latest = self._latest, {}
        return latest

    def stop(self) -> None:
        """End it; sudo passes the signal on."""
        if self._process is None or self._reader is None:
            return
        if self._process.poll() is None:
            with contextlib.suppress(OSError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(START_S)
        # The reader closes the stream when it ends.
        self._reader.join(START_S)

    def _follow(self, stream: IO[str]) -> None:
        block = ""
        with stream:
            for line in stream:
                if line.startswith(macos.POWERMETRICS_END):
                    self._take(block)
                    block = ""
                block += line
                # The last value of a block: it need not wait for the next one to begin.
                if line.startswith("Current pressure level"):
                    self._take(block)
                    block = ""
        self._take(block)

    def _take(self, block: str) -> None:
        found = macos.power(block)
        if found:
            with self._lock:
                self._latest = found
