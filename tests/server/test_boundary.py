"""What holds for every request, whatever the application does."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tests.support.eventually import eventually

from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.logging import correlation_id
from intaglio.core.settings import Settings
from intaglio.server.access_log import AccessLog
from intaglio.server.middleware import Boundary, Draining, Limits
from intaglio.server.problems import render
from intaglio.server.prompt import Answered


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "access.log", os.O_RDWR | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


class Listening:
    """A boundary round an application, asked without a network."""

    def __init__(self, app: ASGIApp, log_file: int, **options: Any) -> None:
        self.draining = Draining()
        self.access_log = AccessLog(Settings(data_dir=Path("/nowhere")), descriptor=log_file)
        self.boundary = Boundary(
            app,
            listener="test",
            secure=options.pop("secure", False),
            limits=Limits(body=10, time=options.pop("time", 5.0)),
            draining=self.draining,
            access_log=self.access_log,
            **options,
        )

    async def ask(
        self, *parts: bytes, headers: tuple[tuple[bytes, bytes], ...] = (), method: str = "POST"
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        """Status, headers and body of the answer to a request whose body arrives in ``parts``."""
        waiting = list(parts)
        sent: list[Message] = []

        async def receive() -> Message:
            if not waiting and parts:
                await asyncio.Event().wait()
            body = waiting.pop(0) if waiting else b""
            return {"type": "http.request", "body": body, "more_body": bool(waiting)}

        async def send(message: Message) -> None:
            sent.append(message)

        scope = {"type": "http", "method": method, "path": "/x", "headers": list(headers), "client": ("192.0.2.1", 1)}
        await asyncio.create_task(_call(self.boundary, scope, receive, send))
        return sent[0]["status"], dict(sent[0]["headers"]), b"".join(m.get("body", b"") for m in sent[1:])


async def _call(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, send)


async def ok(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": correlation_id.get().encode()})


async def reads(scope: Scope, receive: Receive, send: Send) -> None:
    while (await receive()).get("more_body"):
        pass
    await ok(scope, receive, send)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    await asyncio.Event().wait()


async def raises(scope: Scope, receive: Receive, send: Send) -> None:
    raise NotFound("Not there.", retry_after=7)


async def test_correlation_id_is_known_inside_the_application(log_file: int) -> None:
    status, headers, body = await Listening(ok, log_file).ask(headers=((b"x-correlation-id", b"abc"),))
    assert (status, headers[b"x-correlation-id"], body) == (200, b"abc", b"abc")


async def test_draining_server_refuses_and_closes(log_file: int) -> None:
    listening = Listening(ok, log_file)
    listening.draining.active = True
    status, headers, body = await listening.ask()
    assert (status, headers[b"connection"], headers[b"retry-after"]) == (503, b"close", b"1")
    assert json.loads(body)["code"] == "shutting-down"


async def test_refusals_of_a_plain_application_are_rendered(log_file: int) -> None:
    status, headers, body = await Listening(raises, log_file).ask()
    assert (status, headers[b"retry-after"], headers[b"content-type"]) == (404, b"7", b"application/problem+json")
    assert json.loads(body)["detail"] == "Not there."


async def test_refusals_follow_the_wire_format_of_the_listener(log_file: int) -> None:
    def own(error: IntaglioError) -> tuple[bytes, bytes]:
        return b"application/json", json.dumps({"type": "ErrorResponse", "error": {"message": error.detail}}).encode()

    for app in (raises, never):
        _, headers, body = await Listening(app, log_file, renderer=own, time=0.01).ask()
        assert headers[b"content-type"] == b"application/json"
        assert json.loads(body)["type"] == "ErrorResponse"


async def test_time_limit_counts_from_part_to_part_of_an_answer(log_file: int) -> None:
    async def slow_but_moving(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        started = asyncio.get_running_loop().time()
        while asyncio.get_running_loop().time() - started < 1.2:
            await send({"type": "http.response.body", "body": b".", "more_body": True})
            await asyncio.sleep(0.01)
        await send({"type": "http.response.body", "body": b"!"})

    status, _, body = await Listening(slow_but_moving, log_file, time=0.4).ask()
    assert (status, body[-1:]) == (200, b"!")


async def test_answer_that_stops_moving_is_broken_off(log_file: int) -> None:
    async def stuck(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await asyncio.Event().wait()

    with pytest.raises(IntaglioError, match="not answered within"):
        await Listening(stuck, log_file, time=0.05).ask()


async def test_cancellation_from_outside_is_not_mistaken_for_a_timeout(log_file: int) -> None:
    listening = Listening(never, log_file)
    request = asyncio.create_task(listening.ask())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ((b"x" * 10,), ((b"content-length", b"10"),), 200),
        ((b"x" * 11,), ((b"content-length", b"11"),), 413),
        ((b"x" * 5, b"x" * 5), ((b"transfer-encoding", b"chunked"),), 200),
        ((b"x" * 5, b"x" * 6), ((b"transfer-encoding", b"chunked"),), 413),
    ],
)
async def test_bodies_beyond_the_limit_are_refused(
    log_file: int, parts: tuple[bytes, ...], headers: tuple[tuple[bytes, bytes], ...], status: int
) -> None:
    answered, given, _ = await Listening(reads, log_file).ask(*parts, headers=headers)
    assert answered == status
    assert (given.get(b"connection") == b"close") == (status == 413)


async def test_application_keeps_its_own_content_policy(log_file: int) -> None:
    async def own(scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(b"content-security-policy", b"default-src 'self'")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    _, headers, _ = await Listening(own, log_file, secure=True).ask()
    assert headers[b"content-security-policy"] == b"default-src 'self'"


async def test_metrics_name_route_and_role_and_never_the_path(log_file: int) -> None:
    async def routed(scope: Scope, receive: Receive, send: Send) -> None:
        scope["intaglio.route"], scope["intaglio.role"] = "/x/{id}", "auditor"
        await ok(scope, receive, send)

    await Listening(routed, log_file).ask(method="BREW")
    labels = {"listener": "test", "route": "/x/{id}", "method": "other", "status": "200", "role": "auditor"}
    await eventually(lambda: REGISTRY.get_sample_value("intaglio_requests_total", labels) == 1)


class Prompt:
    """An application that knows its answer at once, unless it fails."""

    def __init__(self, failure: Exception | None = None, *, status: int = 200) -> None:
        self.failure = failure
        self.status = status

    def at_once(self, scope: Scope, body: bytes) -> Answered | None:
        if self.failure is not None:
            raise self.failure
        scope["intaglio.route"] = "/prompt"
        return self.status, ((b"content-length", b"2"),), b"ok"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await ok(scope, receive, send)


def _scope(*headers: tuple[bytes, bytes]) -> Scope:
    return {"type": "http", "method": "POST", "path": "/x", "headers": list(headers), "client": ("192.0.2.1", 1)}


async def test_an_answer_at_once_has_the_headers_of_all_and_is_counted(log_file: int) -> None:
    boundary = Listening(Prompt(), log_file, log_successes=False).boundary
    answer = boundary.at_once(_scope(), b"1234567890")
    assert answer == (200, ((b"content-length", b"2"), (b"x-content-type-options", b"nosniff")), b"ok")
    labels = {"listener": "test", "route": "/prompt", "method": "POST", "status": "200", "role": ""}
    await eventually(lambda: REGISTRY.get_sample_value("intaglio_requests_total", labels) == 1)
    assert boundary.at_once(_scope(), b"") is not None
    await eventually(lambda: REGISTRY.get_sample_value("intaglio_requests_total", labels) == 2)


async def test_what_is_too_large_logged_or_followed_up_is_not_answered_at_once(log_file: int) -> None:
    boundary = Listening(Prompt(), log_file, log_successes=False).boundary
    assert boundary.at_once(_scope((b"x-correlation-id", b"abc")), b"") is None
    assert boundary.at_once(_scope(), b"12345678901") is None
    boundary.draining.active = True
    assert boundary.at_once(_scope(), b"") is None
    assert Listening(Prompt(), log_file).boundary.at_once(_scope(), b"") is None
    assert Listening(ok, log_file, log_successes=False).boundary.at_once(_scope(), b"") is None


async def test_a_refusal_at_once_is_logged(log_file: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    prompt = Prompt(status=429)
    listening = Listening(prompt, log_file, log_successes=False)
    assert listening.boundary.at_once(_scope(), b"") is not None
    prompt.status = 200
    assert listening.boundary.at_once(_scope(), b"") is not None
    listening.access_log.flush()
    (line,) = (tmp_path / "access.log").read_text().splitlines()
    assert (json.loads(line)["status"], json.loads(line)["octets"]) == (429, 2)


async def test_what_fails_at_once_is_answered_by_calling(log_file: int) -> None:
    boundary = Listening(Prompt(ValueError("no")), log_file, log_successes=False).boundary
    assert boundary.at_once(_scope(), b"") is None


async def test_access_log_cannot_be_forged(log_file: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    listening = Listening(ok, log_file)
    listening.access_log.add("test", "192.0.2.1", "GET", '/a"\n{"event":"forged"}', 200, 0.1, 5, "id")
    listening.access_log.flush()
    (line,) = (tmp_path / "access.log").read_text().splitlines()
    assert json.loads(line)["path"] == '/a"\n{"event":"forged"}'


async def test_access_log_says_who_asked(log_file: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def known(scope: Scope, receive: Receive, send: Send) -> None:
        scope["intaglio.caller"] = 'CN=al"ice,O=demo'
        await ok(scope, receive, send)

    caplog.set_level("INFO")
    for app in (known, ok):
        listening = Listening(app, log_file)
        await listening.ask()
        listening.access_log.flush()
    lines = (tmp_path / "access.log").read_text().splitlines()
    assert [json.loads(line)["caller"] for line in lines] == ['CN=al"ice,O=demo', ""]


async def test_access_log_is_silent_above_info(
    log_file: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("WARNING")
    listening = Listening(ok, log_file)
    await listening.ask()
    listening.access_log.flush()
    assert (tmp_path / "access.log").read_text() == ""


def test_rendered_problem_holds_no_empty_members() -> None:
    _, body = render(NotFound("Gone."))
    assert set(json.loads(body)) == {"type", "title", "status", "detail", "code"}
