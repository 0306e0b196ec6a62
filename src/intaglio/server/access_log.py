"""The access log: one line per request, written in batches because a structured log record costs more than an answer.

Lines have the same shape as every other log record. The query string is left out: it may hold secrets.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys

from intaglio.core import clock
from intaglio.core.settings import Settings

_FLUSH_AFTER = 0.1  # seconds a line may wait
_FLUSH_AT = 200  # lines
_SHOWN = 256  # characters

_logger = logging.getLogger("intaglio.access")


class AccessLog:
    """Access log of one process. At log levels above INFO it writes nothing."""

    def __init__(self, settings: Settings, *, descriptor: int | None = None) -> None:
        self._json = settings.log_format == "json"
        self._descriptor = sys.stderr.fileno() if descriptor is None else descriptor
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None

    @property
    def enabled(self) -> bool:
        return _logger.isEnabledFor(logging.INFO)

    def add(
        self,
        listener: str,
        peer: str,
        method: str,
        path: str,
        status: int,
        seconds: float,
        octets: int,
        request_id: str,
        caller: str = "",
    ) -> None:
        """One answered request: duration in seconds, length of the answer's body in octets, who asked if it is known.

        Only ``path`` and ``caller`` may hold anything; the others are of known alphabets.
        """
        shown, asked = json.dumps(path[:_SHOWN]), json.dumps(caller[:_SHOWN])
        at = clock.now().isoformat(timespec="milliseconds").replace("+00:00", "Z")
        if self._json:
            line = (
                f'{{"event":"request","listener":"{listener}","peer":"{peer}","method":"{method}",'
                f'"path":{shown},"caller":{asked},"status":{status},"milliseconds":{seconds * 1000:.2f},'
                f'"octets":{octets},"correlation_id":"{request_id}","logger":"intaglio.access","level":"info","timestamp":"{at}"}}\n'
            )
        else:
            took = f"{seconds * 1000:.2f} ms"
            line = f"{at} {listener:8} {peer} {method} {shown} {status} {took} {octets} {request_id} {asked}\n"
        self._lines.append(line)
        if len(self._lines) >= _FLUSH_AT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self.flush)

    def flush(self) -> None:
        """Write what is waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if not lines:
            return
        data = "".join(lines).encode()
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            return  # nobody reads our log any more; answering goes on
