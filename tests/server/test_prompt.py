"""Answers that are known at once, as clients of one connection get them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.server import ServerState

from intaglio.server.prompt import Answered, encoded
from intaglio.server.protocol import HttpProtocol

_POST = b"POST /%b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


class _Application:
    """Knows at once what it is asked at ``/now``; everything else takes until ``go_on``."""

    def __init__(self) -> None:
        self.called: list[str] = []
        self.go_on = asyncio.Event()

    def at_once(self, scope: Scope, body: bytes) -> Answered | None:
        if scope["path"] != "/now":
            return None
        return 200, ((b"content-length", b"%d" % (len(body) + 5)),), b"now: " + body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.called.append(scope["path"])
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        await self.go_on.wait()
        headers = [(b"content-length", b"%d" % (len(body) + 7))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"later: " + body})


class _Wire(asyncio.Transport):
    """What was written, and whether the connection was closed."""

    def __init__(self) -> None:
        super().__init__({"sockname": ("192.0.2.1", 80), "peername": ("192.0.2.2", 1)})
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    abort = close

    def pause_reading(self) -> None:
        return None

    resume_reading = pause_reading

    def get_write_buffer_size(self) -> int:
        return 0


class _Connection:
    """A connection to the application."""

    def __init__(self, *, keep_alive: int = 10) -> None:
        self.app = _Application()
        config = Config(
            self.app, ws="none", lifespan="off", interface="asgi3", log_config=None, access_log=False,
            proxy_headers=False, timeout_keep_alive=keep_alive,
        )  # fmt: skip
        self.wire = _Wire()
        self.protocol = HttpProtocol(config, ServerState(), {}, asyncio.get_running_loop())
        self.protocol.connection_made(self.wire)

    async def send(self, *parts: bytes) -> bytes:
        """Send the parts one after the other; what is answered to them by now."""
        before = len(self.wire.written)
        for part in parts:
            if not self.wire.closed:
                self.protocol.data_received(part)
            for _ in range(5):
                await asyncio.sleep(0)
        return self.wire.written[before:]

    async def finish(self) -> bytes:
        """Let the application go on; what is answered from now on."""
        self.app.go_on.set()
        return await self.send(b"")


def _bodies(answers: bytes) -> list[bytes]:
    """The bodies of several answers, in their order."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        found.append(rest[:length])
        answers = rest[length:]
    return found


async def test_what_is_known_at_once_is_answered_without_calling_the_application() -> None:
    connection = _Connection()
    answer = await connection.send(_POST % b"now")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n")
    assert _bodies(answer) == [b"now: abc"]
    assert connection.app.called == []
    assert _bodies(await connection.send(_POST % b"now")) == [b"now: abc"]


async def test_what_is_not_known_at_once_is_left_to_the_application() -> None:
    connection = _Connection()
    assert await connection.send(_POST % b"other") == b""
    assert _bodies(await connection.finish()) == [b"later: abc"]


async def test_an_answer_to_head_has_no_body() -> None:
    connection = _Connection()
    connection.app.go_on.set()
    answer = await connection.send(b"HEAD /now HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


async def test_a_body_that_arrives_later_is_read_by_the_application() -> None:
    connection = _Connection()
    connection.app.go_on.set()
    request = _POST % b"now"
    assert _bodies(await connection.send(request[:-2], request[-2:])) == [b"later: abc"]


async def test_a_client_that_waits_to_be_told_to_continue_is_told_so() -> None:
    connection = _Connection()
    request = b"POST /now HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    assert await connection.send(request) == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize("order", [(b"now", b"other", b"now"), (b"other", b"now", b"now"), (b"now", b"now", b"now")])
async def test_requests_that_come_together_are_answered_in_their_order(order: tuple[bytes, ...]) -> None:
    connection = _Connection(keep_alive=5)
    connection.app.go_on.set()
    answers = await connection.send(b"".join(_POST % path for path in order), *[b""] * len(order))
    first = b"now: abc" if order[0] == b"now" else b"later: abc"
    assert _bodies(answers) == [first, b"later: abc", b"later: abc"]


@pytest.mark.parametrize(
    "request_line", [b"POST /now HTTP/1.0\r\nHost: a\r\n", b"POST /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\n"]
)
async def test_the_last_answer_of_a_connection_says_so_and_ends_it(request_line: bytes) -> None:
    connection = _Connection()
    answer = await connection.send(request_line + b"Content-Length: 3\r\n\r\nabc")
    assert b"\r\nconnection: close\r\n" in answer
    assert answer.endswith(b"\r\n\r\nnow: abc")
    assert connection.wire.closed


async def test_nothing_is_done_behind_the_last_answer_of_a_connection() -> None:
    connection = _Connection()
    last = b"POST /now HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc"
    assert _bodies(await connection.send(last + _POST % b"other")) == [b"now: abc"]
    assert connection.app.called == []


def test_a_header_cannot_bring_others_with_it() -> None:
    with pytest.raises(ValueError, match="several lines"):
        encoded((200, ((b"etag", b"a\r\nset-cookie: b"),), b""), (), close=False)


async def test_a_client_that_does_not_read_has_to_wait() -> None:
    connection = _Connection()
    connection.protocol.pause_writing()
    assert await connection.send(_POST % b"now") == b""
    connection.app.go_on.set()
    connection.protocol.resume_writing()
    assert _bodies(await connection.send(b"")) == [b"later: abc"]


async def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    idle, busy = _Connection(keep_alive=10), _Connection(keep_alive=10)
    await idle.send(_POST % b"now")
    await busy.send(_POST % b"now", _POST % b"other")
    now = asyncio.get_running_loop().time()
    for connection in (idle, busy):
        connection.protocol.close_if_slow(now + 5)
        assert not connection.wire.closed
        connection.protocol.close_if_slow(now + 11)
    assert (idle.wire.closed, busy.wire.closed) == (True, False)


async def test_a_request_behind_one_answered_at_once_does_not_count_as_idle() -> None:
    connection = _Connection(keep_alive=10)
    await connection.send(_POST % b"now" + _POST % b"other")
    connection.protocol.close_if_slow(asyncio.get_running_loop().time() + 60)
    assert not connection.wire.closed
    assert _bodies(await connection.finish()) == [b"later: abc"]


@given(st.lists(st.binary(max_size=100) | st.sampled_from([_POST % b"now", _POST % b"other", b"\r\n"]), max_size=6))
def test_whatever_arrives_is_answered_in_http_or_not_at_all(parts: list[bytes]) -> None:
    async def fed() -> bytes:
        connection = _Connection()
        connection.app.go_on.set()
        return await connection.send(*parts)

    answer = asyncio.run(fed())
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
