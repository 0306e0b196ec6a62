"""One line in the log per timestamp request, written in batches because a structured record costs more than a token.

The names are those that monitoring of timestamp services looks for: ``ProcessTimeStampRequest.Granted`` and
``ProcessTimeStampRequest.Failed``, ``endpoint``, ``tsa-timestampresponse-encoded``.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sys
from datetime import UTC, datetime

from intaglio.core import clock
from intaglio.timestamping.rejections import Failure
from intaglio.timestamping.service import Reply

_FLUSH_AFTER = 0.1  # seconds a line may wait
_FLUSH_AT = 200  # lines
_ZONE = len("+00:00")

_logger = logging.getLogger("intaglio.timestamping")

#: How a failure is called in the log.
_STRINGS = {
    Failure.BAD_ALGORITHM: "BadAlgTSError",
    Failure.BAD_REQUEST: "BadRequestTSError",
    Failure.BAD_DATA_FORMAT: "BadDataFormatTSError",
    Failure.TIME_NOT_AVAILABLE: "TimeNotAvailableTSError",
    Failure.UNACCEPTED_POLICY: "UnacceptedPolicyTSError",
    Failure.UNACCEPTED_EXTENSION: "UnacceptedExtensionTSError",
    Failure.INFORMATION_NOT_AVAILABLE: "AddInfoNotAvailableTSError",
    Failure.SYSTEM_FAILURE: "SystemFailureTSError",
}


class RequestLog:
    """The request log of one process; writes nothing at log levels above INFO."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = descriptor
        self._waiting: list[tuple[str, str, float, datetime, str, str]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._second = datetime.min.replace(tzinfo=UTC)
        self._second_written = ""

    def add(self, endpoint: str, peer: str, reply: Reply, seconds: float, *, successes: bool, encoded: bool) -> None:
        """One answered request: ``endpoint`` is the issuer's name, ``seconds`` how long it took. With ``encoded`` the
        answer itself is written too; without ``successes`` and that, tokens that were given leave no line."""
        if reply.failure is None and not successes and not encoded:
            return
        more = "" if reply.failure is None and not encoded else _more(reply, encoded=encoded)
        outcome = "Granted" if reply.failure is None else "Failed"
        self._waiting.append((endpoint, peer, seconds, clock.now(), outcome, more))
        if len(self._waiting) >= _FLUSH_AT:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_FLUSH_AFTER, self.flush)

    def _line(self, endpoint: str, peer: str, seconds: float, at: datetime, outcome: str, more: str) -> str:
        return (
            f'{{"event":"ProcessTimeStampRequest.{outcome}","msg":"ProcessTimeStampRequest.{outcome}",'
            f'"endpoint":"{endpoint}","peer":"{peer}","milliseconds":{seconds * 1000:.2f}{more},'
            f'"logger":"intaglio.timestamping","level":"info","timestamp":"{self._written(at)}Z"}}\n'
        )

    def _written(self, at: datetime) -> str:
        """A moment to the millisecond, without zone; what stands before the fraction is written once per second."""
        since = at - self._second
        if since.days or since.seconds:
            self._second = at.replace(microsecond=0)
            self._second_written = self._second.isoformat(timespec="seconds")[:-_ZONE]
        return f"{self._second_written}.{at.microsecond // 1000:03d}"

    def flush(self) -> None:
        """Write what is waiting."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting, self._waiting = self._waiting, []
        if not _logger.isEnabledFor(logging.INFO):
            return
        data = "".join([self._line(*each) for each in waiting]).encode()
        try:
            descriptor = sys.stderr.fileno() if self._descriptor is None else self._descriptor
            while data:
                data = data[os.write(descriptor, data) :]
        except (OSError, ValueError):
            return  # nobody reads our log any more; answering goes on


def _more(reply: Reply, *, encoded: bool) -> str:
    """Members of a line that only some have, each with a comma before it."""
    failed = "" if reply.failure is None else f",{_failure(reply.failure, reply)}"
    response = f',"tsa-timestampresponse-encoded":"{base64.b64encode(reply.body).decode()}"' if encoded else ""
    return failed + response


def _failure(failure: Failure, reply: Reply) -> str:
    """The members of a line that say why; the innermost cause is what went wrong."""
    innermost, _, detail = reply.cause.partition(": ") if reply.cause.startswith("BadClock") else (reply.cause, "", "")
    cause = {"msg": failure.label, "cause": {"msg": detail or reply.detail, "cause": {"msg": innermost}}}
    log = {"tsa-pkistatus-string": _STRINGS[failure]}
    return f'"tsa-log":{json.dumps(log)},"cause":{json.dumps(cause)}'
