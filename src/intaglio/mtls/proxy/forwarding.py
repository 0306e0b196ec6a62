"""One exchange: decide, then pass the request on and the answer back, as they come."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from base64 import b64encode
from http import HTTPStatus

import h11

from intaglio.core.clock import monotonic
from intaglio.core.logging import get_logger
from intaglio.mtls.proxy import metrics
from intaglio.mtls.proxy.connections import Connection
from intaglio.mtls.proxy.decisions import Asked, Caller, Source, Verdict
from intaglio.mtls.proxy.exchange import ClientGone, Downstream, Malformed, RequestHead, ResponseHead, TooMuch
from intaglio.mtls.proxy.forwarded import request_headers, response_headers
from intaglio.mtls.proxy.tunnel import join
from intaglio.mtls.proxy.upstream import Upstream, UpstreamConnection, UpstreamFailed, request_event

log = get_logger(__name__)

_REPEATABLE = frozenset({b"GET", b"HEAD", b"OPTIONS"})
_BODILESS = frozenset({b"GET", b"HEAD", b"OPTIONS", b"DELETE"})
_WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Forwarder:
    """Answers the exchanges of all connections of a gateway."""

    def __init__(self, source: Source, upstream: Upstream, *, keep_host: bool = True) -> None:
        self._source = source
        self._upstream = upstream
        self._authority = None if keep_host else upstream.address.authority

    async def answer(self, downstream: Downstream, client: Connection) -> None:
        """Answer one request. Raises ClientGone when the client does not wait for it."""
        head = downstream.head
        asked = Asked(head.method.decode("ascii"), head.path, head.authority.decode("ascii"))
        with client.answering(asked):
            await self._answer(downstream, client.caller, asked)

    async def _answer(self, downstream: Downstream, caller: Caller, asked: Asked) -> None:
        verdict = await self._source.decide(caller, asked)
        version = downstream.head.version
        if not verdict.passes:
            self._source.record(caller, asked, verdict, status=verdict.status)
            metrics.requests.labels(version, str(verdict.status)).inc()
            await refuse(downstream, verdict.status, verdict.reason, verdict.detail)
            return
        if verdict.reason:
            metrics.observed.labels(verdict.reason).inc()
        status: int | None = None
        began = monotonic()
        try:
            status = await self._pass_on(downstream, caller, verdict)
        except UpstreamFailed as failure:
            log.warning("the service behind the gateway failed", reason=failure.detail)
            metrics.upstream_failures.labels(failure.code).inc()
            status = await _failed(downstream, failure.status, failure.code, failure.detail)
        except TooMuch:
            status = await _failed(downstream, 413, "too-large", "The request body exceeds the limit.")
        except Malformed as error:
            status = await _failed(downstream, error.status, error.code, error.detail)
        finally:
            self._source.record(caller, asked, verdict, status=status)
            metrics.requests.labels(version, str(status or metrics.CLIENT_GONE)).inc()
            metrics.seconds.labels(version).observe(monotonic() - began)

    async def _pass_on(self, downstream: Downstream, caller: Caller, verdict: Verdict) -> int:
        head = downstream.head
        headers = request_headers(head, caller.source, verdict, authority=self._authority)
        headers += _framing(head)
        request = request_event(head.method, head.target, headers)
        connection, answer, upload = await self._begin(downstream, request)
        try:
            if isinstance(answer, h11.InformationalResponse):
                await self._switch(downstream, connection, answer)
                return 101
            await _relay(downstream, connection, answer)
            if await _ended(upload) and not _is_bound(head):
                self._upstream.release(connection)
                return answer.status_code
        except BaseException:
            await _ended(upload)
            connection.close()
            raise
        connection.close()
        return answer.status_code

    async def _begin(
        self, downstream: Downstream, request: h11.Request
    ) -> tuple[UpstreamConnection, h11.Response | h11.InformationalResponse, asyncio.Task[None]]:
        """Send the request and wait for the head of the answer; once more when a kept connection turns out dead."""
        head = downstream.head
        for fresh in (False, True):
            connection = await self._upstream.connection(fresh=fresh)
            upload = asyncio.create_task(_upload(downstream, connection, request))
            try:
                answer = await connection.head()
            except UpstreamFailed as failure:
                connection.close()
                await _ended(upload)
                _raise_cause(upload)
                stale = not connection.fresh and failure.status == 502
                if stale and head.method in _REPEATABLE and not head.has_body:
                    continue
                raise
            except BaseException:
                connection.close()
                await _ended(upload)
                raise
            return connection, answer, upload
        raise AssertionError("unreachable: a fresh connection either answers or fails")

    async def _switch(
        self, downstream: Downstream, connection: UpstreamConnection, answer: h11.InformationalResponse
    ) -> None:
        if not downstream.head.protocol:
            raise UpstreamFailed("The service switches protocols without being asked.")
        _check_switch(downstream.head, answer)
        kept = [*response_headers(answer.headers), (b"connection", b"upgrade"), (b"upgrade", downstream.head.protocol)]
        client = await downstream.upgrade(ResponseHead(101, kept))
        await join(client, connection)


async def refuse(downstream: Downstream, status: int, code: str, detail: str) -> None:
    """Answer with a problem document (RFC 9457)."""
    metrics.refusals.labels("request", code).inc()
    members = {"type": "about:blank", "title": _title(status), "status": status, "detail": detail, "code": code}
    body = json.dumps(members).encode()
    headers = [(b"content-type", b"application/problem+json"), (b"cache-control", b"no-store")]
    await downstream.respond(ResponseHead(status, headers, len(body)))
    if downstream.head.method != b"HEAD":
        await downstream.send(body)
    await downstream.end()


def _title(status: int) -> str:
    with contextlib.suppress(ValueError):
        return HTTPStatus(status).phrase
    return "Refused"


async def _failed(downstream: Downstream, status: int, code: str, detail: str) -> int:
    if downstream.responded:
        downstream.abort()
    else:
        await refuse(downstream, status, code, detail)
    return status


def _framing(head: RequestHead) -> list[tuple[bytes, bytes]]:
    """The fields that end the body. After one that some services do not expect and so do not read, nothing may follow
    on the same connection: they would take it for a request, with whatever it says about who is calling."""
    last = [(b"connection", b"close")] if head.has_body and head.method in _BODILESS else []
    if lengths := head.values(b"content-length"):
        return [(b"content-length", lengths[0]), *last]
    return [(b"transfer-encoding", b"chunked"), *last] if head.has_body else []


def _is_bound(head: RequestHead) -> bool:
    """Whether this request makes its connection to the service the caller's own: NTLM and Negotiate authenticate
    connections, not requests (RFC 4559 section 6)."""
    schemes = (value.split(None, 1)[:1] for value in head.values(b"authorization"))
    return any(each and each[0].lower() in (b"ntlm", b"negotiate") for each in schemes)


def _check_switch(head: RequestHead, answer: h11.InformationalResponse) -> None:
    """Raise UpstreamFailed unless the service agrees to the very switch that was asked for.

    A status alone may be that of a page it fetched for somebody, and behind it the service would go on reading
    requests: with the client's own word for who is calling. Sources: RFC 9110 section 7.8, RFC 6455 section 4.1.
    """
    told = dict(answer.headers)
    if told.get(b"upgrade", b"").strip().lower() != head.protocol:
        raise UpstreamFailed("The service switches to another protocol than was asked for.")
    if head.protocol == b"websocket":
        key = b"".join(head.values(b"sec-websocket-key"))
        proof = b64encode(hashlib.sha1(key + _WEBSOCKET, usedforsecurity=False).digest())
        if told.get(b"sec-websocket-accept", b"") != proof:
            raise UpstreamFailed("The service does not prove that it speaks websocket.")


async def _upload(downstream: Downstream, connection: UpstreamConnection, request: h11.Request) -> None:
    try:
        await connection.send(request)
        async for data in downstream.body():
            await connection.send(h11.Data(data=data))
        await connection.send(h11.EndOfMessage())
    except (ClientGone, TooMuch, Malformed):
        connection.close()  # a request that will never be whole
        raise


async def _relay(downstream: Downstream, connection: UpstreamConnection, answer: h11.Response) -> None:
    lengths = [value for name, value in answer.headers if name == b"content-length"]
    length = int(lengths[0]) if lengths and answer.status_code != 204 else None  # RFC 9110 section 8.6
    headers = [(name, value) for name, value in response_headers(answer.headers) if name != b"content-length"]
    await downstream.respond(ResponseHead(answer.status_code, headers, length))
    async for data in connection.body():
        await downstream.send(data)
    await downstream.end()


async def _ended(upload: asyncio.Task[None]) -> bool:
    """Stop an upload the service no longer waits for. Returns whether it had been complete."""
    upload.cancel()
    await asyncio.wait({upload})  # which raises nothing of the upload's
    return not upload.cancelled() and upload.exception() is None


def _raise_cause(upload: asyncio.Task[None]) -> None:
    """What went wrong with the upload matters more than that the service then ended the connection."""
    if not upload.cancelled() and isinstance(error := upload.exception(), ClientGone | TooMuch | Malformed):
        raise error
