"""http-01 against servers of all manners."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.core.clock import monotonic
from intaglio.core.outgoing import PUBLIC_ONLY, Guard
from intaglio.enrollment.acme.validation import Target, ValidationFailed, ValidationOptions, Validator

LOCAL = Guard.of(["127.0.0.0/8", "::1/128"])
KEY_AUTHORIZATION = "LoqXcYV8q5ONbJQxbmR7SCTNo3tiAXDfowyjxAjEuX0.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
TARGET = Target(
    "ip", "127.0.0.1", False, KEY_AUTHORIZATION.partition(".")[0], KEY_AUTHORIZATION, "https://acme.example/acct/1",
    "http-01",
)  # fmt: skip
Reply = Callable[[bytes, int], bytes]


@contextlib.asynccontextmanager
async def answering(reply: Reply, *, hold: bool = False) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A server that answers the n-th request as told; its port, and the heads it was sent."""
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(reply(heads[-1], len(heads)))
            await writer.drain()
            if hold:
                await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], heads


def ok(body: str | bytes = KEY_AUTHORIZATION) -> bytes:
    octets = body.encode() if isinstance(body, str) else body
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(octets) + octets


def moved(where: str, status: int = 302) -> bytes:
    return f"HTTP/1.1 {status} Moved\r\nlocation: {where}\r\ncontent-length: 0\r\n\r\n".encode()


async def prove(port: int, target: Target = TARGET, guard: Guard = LOCAL, **options: object) -> None:
    made = ValidationOptions.model_validate({"http_port": port, "http_timeout": 2, "http_redirects": True} | options)
    await Validator(made, guard).validate(target)


async def failing(port: int, target: Target = TARGET, guard: Guard = LOCAL, **options: object) -> ValidationFailed:
    with pytest.raises(ValidationFailed) as caught:
        await prove(port, target, guard, **options)
    return caught.value


@pytest.mark.parametrize("body", [KEY_AUTHORIZATION, KEY_AUTHORIZATION + "\r\n", KEY_AUTHORIZATION + " \n"])
async def test_the_key_authorization_is_taken(body: str) -> None:
    async with answering(lambda head, number: ok(body)) as (port, heads):
        await prove(port)
    asked, *headers = heads[0].decode().split("\r\n")
    assert asked == f"GET /.well-known/acme-challenge/{TARGET.token} HTTP/1.1"
    assert f"host: 127.0.0.1:{port}" in [line.lower() for line in headers]


async def test_an_answer_in_chunks_and_one_without_length_are_taken() -> None:
    chunks = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (
        len(KEY_AUTHORIZATION),
        KEY_AUTHORIZATION.encode(),
    )
    for answer in (chunks, b"HTTP/1.0 200 OK\r\n\r\n" + KEY_AUTHORIZATION.encode()):
        async with answering(lambda head, number, answer=answer: answer) as (port, _):  # type: ignore[misc]
            await prove(port)


@pytest.mark.parametrize(
    "answer",
    [ok("something else"), ok(""), ok(KEY_AUTHORIZATION[:-1]), ok("x" + KEY_AUTHORIZATION),
     b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"],
)  # fmt: skip
async def test_another_answer_is_unauthorized(answer: bytes) -> None:
    async with answering(lambda head, number: answer) as (port, _):
        error = await failing(port)
    assert error.problem == "unauthorized"


@pytest.mark.parametrize(
    "answer",
    [b"", b"hello\r\n\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\nx",
     b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 9999],
)  # fmt: skip
async def test_what_is_no_http_is_a_connection_problem(answer: bytes) -> None:
    async with answering(lambda head, number: answer) as (port, _):
        error = await failing(port)
    assert error.problem == "connection"


async def test_a_huge_answer_is_left_early() -> None:
    async with answering(lambda head, number: ok(b"x" * 5_000_000)) as (port, _):
        error = await failing(port)
    assert error.problem == "incorrectResponse"


async def test_an_endless_answer_ends_in_time() -> None:
    slow = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx"
    async with answering(lambda head, number: slow, hold=True) as (port, _):
        started = monotonic()
        error = await failing(port, http_timeout=0.3)
    assert error.problem == "connection"
    assert "0.3 s" in error.detail
    assert monotonic() - started < 5


async def test_nobody_at_the_port_is_a_connection_problem() -> None:
    async with answering(lambda head, number: b"") as (port, _):
        pass
    assert (await failing(port)).problem == "connection"


async def test_redirects_are_followed_up_to_fifty() -> None:
    def hops(most: int) -> Reply:
        return lambda head, number: moved(f"/hop/{number}?x=1", 307) if number <= most else ok()

    async with answering(hops(50)) as (port, heads):
        await prove(port)
        assert heads[1].startswith(b"GET /hop/1?x=1 ")
        assert len(heads) == 51
    async with answering(hops(51)) as (port, heads):
        error = await failing(port)
        assert len(heads) == 51
    assert "more than 50 times" in error.detail


async def test_a_redirect_fails_where_they_are_not_followed() -> None:
    async with answering(lambda head, number: moved("/next")) as (port, heads):
        error = await failing(port, http_redirects=False)
        assert len(heads) == 1
    assert error.problem == "unauthorized"


@pytest.mark.parametrize(
    "where",
    ["ftp://127.0.0.1/x", "http://127.0.0.1:22/", "http://user@127.0.0.1/", "http://[::1", "", "x" * 3000,
     "file:///etc/passwd", "gopher://127.0.0.1:80/x"],
)  # fmt: skip
async def test_odd_redirects_are_not_followed(where: str) -> None:
    async with answering(lambda head, number: moved(where)) as (port, heads):
        error = await failing(port)
        assert len(heads) == 1
    assert error.problem == "connection"


async def test_a_redirect_to_an_address_that_only_we_reach_is_not_followed() -> None:
    guard = Guard.of(["127.0.0.1/32"])
    async with answering(lambda head, number: moved(f"http://127.0.0.2:{port}/")) as (port, heads):
        error = await failing(port, guard=guard)
        assert len(heads) == 1
    assert error.problem == "connection"
    assert "not at a public address" in error.detail


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "fd00::1", "::ffff:10.0.0.1"])
async def test_private_addresses_are_not_asked(address: str) -> None:
    error = await failing(80, replace(TARGET, value=address), PUBLIC_ONLY)
    assert error.problem == "connection"
    assert "not at a public address" in error.detail


async def test_a_busy_server_is_asked_again() -> None:
    busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    async with answering(lambda head, number: busy if number <= 2 else ok()) as (port, heads):
        await prove(port, http_retry_interval=0.05)
        assert len(heads) == 3
    async with answering(lambda head, number: busy) as (port, heads):
        error = await failing(port, http_retry_interval=0.01, http_retry_count=4)
        assert len(heads) == 5
    assert "503" in error.detail


async def test_the_first_pause_is_one_second_and_the_others_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("intaglio.enrollment.acme.validation.http01.asyncio.sleep", sleep)
    busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    async with answering(lambda head, number: busy) as (port, _):
        await failing(port)
    assert pauses == [1, 2, 2, 2]


async def test_the_whole_takes_no_longer_than_it_may() -> None:
    def slow(head: bytes, number: int) -> bytes:
        return moved(f"/{number}")

    async with answering(slow) as (port, _):
        error = await failing(port, total_timeout=1, http_retry_interval=1)
        assert error.problem == "connection"
    busy = b"HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n"
    async with answering(lambda head, number: busy) as (port, _):
        error = await failing(port, total_timeout=1, http_retry_interval=2)
    assert "longer than 1 s" in error.detail


async def test_an_https_server_must_be_trusted() -> None:
    async with answering(lambda head, number: moved(f"https://127.0.0.1:{port}/")) as (port, _):
        assert (await failing(port)).problem in ("tls", "connection")


@settings(max_examples=50)
@given(st.binary(max_size=300), st.binary(max_size=60))
def test_no_answer_breaks_the_validation(answer: bytes, where: bytes) -> None:
    async def ask(said: bytes) -> None:
        async with answering(lambda head, number: said) as (port, _):
            error = await failing(port, http_timeout=1)
        assert error.problem in ("connection", "unauthorized", "incorrectResponse", "dns", "tls")

    asyncio.run(ask(answer))
    asyncio.run(ask(b"HTTP/1.1 301 Moved\r\ncontent-length: 0\r\nlocation: " + where + b"\r\n\r\n"))
