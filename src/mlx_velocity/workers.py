"""The runner's end of a worker process: requests with a deadline, and what is left when it dies."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any, Protocol

from mlx_velocity.installer import without_folders

LAST_LINES = 20
"""How much of a dead worker's standard error is kept with the failure."""
LONGEST_LINE, LONGEST_ANSWER = 10_000, 100_000_000
"""Bytes of a line of output, and of an answer, beyond which what follows is taken for another one."""
_GRACE_S = 5.0


class WorkerError(Exception):
    """A worker that gave no usable answer. `outcome` is `failed` or `timeout`."""

    def __init__(
        self, reason: str, exit_code: int | None = None, last_lines: list[str] | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.exit_code = exit_code
        self.last_lines = last_lines or []
        self.outcome: Any = "failed"


class WorkerTimeout(WorkerError):
    """A worker that did not answer in time and was ended."""

    def __init__(self, timeout_s: float, last_lines: list[str]) -> None:
        super().__init__(f"timeout: no answer within {timeout_s:g} s", None, last_lines)
        self.outcome = "timeout"


class Place(Protocol):
    """Where a worker runs: an environment made for a commit, or a Python that is here."""

    @property
    def path(self) -> Path:
        """Its folder, which no message may show."""

    @property
    def overlay(self) -> Path | None:
        """A folder laid over it."""

    @property
    def python(self) -> Path:
        """Its interpreter."""

    @property
    def working_folder(self) -> Path:
        """Where the process runs; nobody else's code may lie there, for Python looks there first."""

    def variables(self) -> dict[str, str]:
        """The environment variables of the process."""


class Worker(Protocol):
    """What the scheduler needs of a worker, here or across a network."""

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a message; raises WorkerError, after which the worker is gone."""

    def close(self) -> None:
        """End the worker and everything it started."""


class LocalWorker:
    """A worker process on this machine, in a session of its own; WorkerError where it can't be started."""

    def __init__(
        self,
        environment: Place,
        extra_variables: dict[str, str],
        module: str = "mlx_velocity.probe.worker",
    ) -> None:
        self._places = (str(environment.path), str(environment.overlay or environment.path))
        try:
            self._process = subprocess.Popen(
                [str(environment.python), "-X", "faulthandler", "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                cwd=environment.working_folder,
                env={**environment.variables(), **extra_variables},
                start_new_session=True,
            )
        except OSError as error:
            raise WorkerError(f"the worker can't be started: {error.strerror}") from error
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        self._stderr: deque[str] = deque(maxlen=LAST_LINES)
        self._uncaught = ""
        self._readers = [
            threading.Thread(target=target, daemon=True) for target in (self._read, self._read_stderr)
        ]
        for reader in self._readers:
            reader.start()

    def request(self, message: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        """The answer to a message within wall-clock `timeout_s`; raises WorkerError, ending the worker."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            self.close()
            raise WorkerTimeout(timeout_s, self._last_lines()) from None
        except OSError:
            line = None
        if line is None:
            raise self._died()
        try:
            answer: dict[str, Any] = json.loads(line)
            ok = answer["ok"]
            last_lines = [] if ok else [self._hide(str(text)) for text in answer["last_lines"]]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.close()
            raise WorkerError("the worker's answer could not be read", None, self._last_lines()) from None
        if not ok:
            # The process is alive but what it measured failed: the next case starts afresh.
            self.close()
            raise WorkerError(self._hide(str(answer.get("error"))), None, last_lines)
        return answer

    def close(self) -> None:
        """End the process and its children; safe to call twice."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        until = time.monotonic() + _GRACE_S
        ended = [self._process.stdin]
        for reader, stream in zip(self._readers, (self._process.stdout, self._process.stderr), strict=True):
            reader.join(max(0.0, until - time.monotonic()))
            # A child that left the group may hold the other end for as long as it lives: then its reader keeps ours.
            ended += [] if reader.is_alive() else [stream]
        for stream in filter(None, ended):
            with contextlib.suppress(OSError):
                stream.close()

    def _died(self) -> WorkerError:
        try:
            code = self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            code = None
        self.close()
        name = (
            f" ({signal.Signals(-code).name})" if code is not None and -code in signal.valid_signals() else ""
        )
        return WorkerError(f"exit {code}{name}{self._last_words()}", code, self._last_lines())

    def _last_words(self) -> str:
        """What C++ said of an exception that nobody caught: MLX computes in threads of its own."""
        return f": {self._hide(self._uncaught)}" if self._uncaught else ""

    def _last_lines(self) -> list[str]:
        return [self._hide(line) for line in self._stderr]

    def _hide(self, text: str) -> str:
        """Without the folders of this machine: results are published."""
        for place in self._places:
            text = text.replace(place, "<environment>")
        return without_folders(text)[:2000]

    def _read(self) -> None:
        assert self._process.stdout is not None
        while line := self._process.stdout.readline(LONGEST_ANSWER):
            self._answers.put(line)
        self._answers.put(None)

    def _read_stderr(self) -> None:
        assert self._process.stderr is not None
        # Who prints without an end, or without lines, shall not fill the memory of the runner.
        while line := self._process.stderr.readline(LONGEST_LINE):
            text = line.decode("utf-8", "replace").rstrip()
            self._stderr.append(text)
            # The stacks of all threads follow, and push it out of the last lines.
            self._uncaught = text.partition("what():")[2].strip() or self._uncaught
