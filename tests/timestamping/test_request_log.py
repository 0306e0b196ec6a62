"""The log of timestamp requests, as those who watch it read it."""

from __future__ import annotations

import base64
import json
import logging
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from intaglio.core import clock
from intaglio.timestamping.rejections import Failure
from intaglio.timestamping.request_log import RequestLog
from intaglio.timestamping.service import Reply


@pytest.fixture(autouse=True)
def _at_level_info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="intaglio.timestamping")


async def written(reply: Reply, *, successes: bool = True, encoded: bool = False) -> list[dict[str, Any]]:
    reading, writing = os.pipe()
    log = RequestLog(writing)
    log.add("standard", "192.0.2.1", reply, 0.0012, successes=successes, encoded=encoded)
    log.flush()
    os.close(writing)
    with os.fdopen(reading) as lines:
        return [json.loads(line) for line in lines]


async def test_a_token_leaves_one_line() -> None:
    (line,) = await written(Reply(b"token"))
    assert line["msg"] == "ProcessTimeStampRequest.Granted"
    assert (line["endpoint"], line["peer"], line["milliseconds"]) == ("standard", "192.0.2.1", 1.2)


async def test_every_line_has_the_time_of_its_own() -> None:
    reading, writing = os.pipe()
    log, start = RequestLog(writing), datetime(2026, 12, 31, 23, 59, 58, 999_900, tzinfo=UTC)
    with clock.frozen(start) as advance:
        for step in (0, 1_100, 900_000, 200_000, 86_400_000_000, -1):
            advance(timedelta(microseconds=step))
            log.add("standard", "192.0.2.1", Reply(b"token"), 0.001, successes=True, encoded=False)
    log.flush()
    os.close(writing)
    with os.fdopen(reading) as lines:
        assert [json.loads(line)["timestamp"] for line in lines] == [
            "2026-12-31T23:59:58.999Z",
            "2026-12-31T23:59:59.001Z",
            "2026-12-31T23:59:59.901Z",
            "2027-01-01T00:00:00.101Z",
            "2027-01-02T00:00:00.101Z",
            "2027-01-02T00:00:00.100Z",
        ]


async def test_tokens_may_leave_no_line_but_refusals_always_do() -> None:
    assert await written(Reply(b"token"), successes=False) == []
    refused = Reply(b"", Failure.BAD_ALGORITHM, 'sha1 "is" bad', 'sha1 "is" bad')
    (line,) = await written(refused, successes=False)
    assert line["msg"] == "ProcessTimeStampRequest.Failed"
    assert line["tsa-log"] == {"tsa-pkistatus-string": "BadAlgTSError"}


async def test_a_bad_clock_is_told_in_the_documented_fields() -> None:
    reply = Reply(b"", Failure.TIME_NOT_AVAILABLE, "BadClock: chronyd is gone", "The time is not available.")
    (line,) = await written(reply)
    assert line["level"] == "info"
    assert line["tsa-log"]["tsa-pkistatus-string"] == "TimeNotAvailableTSError"
    assert line["cause"]["cause"]["cause"]["msg"] == "BadClock"
    assert line["cause"]["cause"]["msg"] == "chronyd is gone"


async def test_a_response_is_written_when_that_is_wanted() -> None:
    (line,) = await written(Reply(b"\x30\x03abc"), successes=False, encoded=True)
    assert base64.b64decode(line["tsa-timestampresponse-encoded"]) == b"\x30\x03abc"
