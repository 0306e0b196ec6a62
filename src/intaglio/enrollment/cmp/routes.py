"""CMP over HTTP. Source: RFC 9811, RFC 9483 section 6.1.

``/.well-known/cmp`` is the endpoint named default, ``/.well-known/cmp/p/{label}`` any other, either with an operation
behind it, which says nothing that the message does not; ``/cmp/{tenant}/{ca}/{profile}`` names it by what it issues.
Every CMP message is answered with status 200, as clients expect; 400 means that there was no message.
"""

from __future__ import annotations

import secrets
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from intaglio.asn1 import cmp
from intaglio.asn1.cmp import MAX_MESSAGE_OCTETS, Body
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, TooLarge
from intaglio.enrollment import pipeline, urls
from intaglio.enrollment.cmp.context import Cmp
from intaglio.enrollment.cmp.errors import rejection
from intaglio.enrollment.cmp.exchange import NONCE_OCTETS, Answer
from intaglio.enrollment.cmp.protection import unprotected
from intaglio.enrollment.cmp.service import respond
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import EndpointUnknown
from intaglio.enrollment.values import Endpoint, Protocol

MEDIA_TYPE: Final = "application/pkixcmp"
_DEFAULT: Final = "default"
#: What may stand behind the path of an endpoint. Source: RFC 9483 section 6.1.
_OPERATIONS: Final = frozenset(
    {
        "initialization",
        "certification",
        "keyupdate",
        "pkcs10",
        "revocation",
        "getcacerts",
        "getrootupdate",
        "getcertreqtemplate",
        "getcrls",
        "nested",
    }
)
_NOT_CACHED: Final = {"cache-control": "no-store"}


def routes(enrollment: Enrollment) -> list[BaseRoute]:
    """All paths of CMP."""
    app = CmpApp(enrollment)
    return [
        Route(path, app.handle, methods=["GET", "HEAD", "POST"])
        for path in (
            "/.well-known/cmp",
            "/.well-known/cmp/p/{label}",
            "/.well-known/cmp/p/{label}/{operation}",
            "/.well-known/cmp/{operation}",
            "/cmp/{tenant}/{ca}/{profile}",
        )
    ]


class CmpApp:
    """CMP over HTTP in one process."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._cmp = Cmp(enrollment)

    async def handle(self, request: Request) -> Response:
        """The answer to one request. What goes wrong before there is a message has a CMP error message, too."""
        started, endpoint = monotonic(), None
        try:
            if request.method != "POST":
                return Response("Send a CMP message by POST.\n", 405, {"allow": "POST"}, media_type="text/plain")
            endpoint = await self._endpoint(request)
            source = urls.source_of(self._enrollment.endpoints.settings, request.scope)
            reply = await respond(self._cmp, endpoint, await _message_of(request), source)
        except IntaglioError as error:
            source = urls.source_of(self._enrollment.endpoints.settings, request.scope)
            pipeline.refused(self._enrollment, endpoint, None, "message", error, protocol=Protocol.CMP, source=source)
            outcome = "failed" if error.status >= 500 else "refused"
            pipeline.served(Protocol.CMP, endpoint, "message", outcome, monotonic() - started)
            return _refusal(error)
        return Response(reply.body, 200 if reply.understood else 400, _NOT_CACHED, media_type=MEDIA_TYPE)

    async def _endpoint(self, request: Request) -> Endpoint:
        """The endpoint of the URL. Raises EndpointUnknown."""
        place, endpoints = request.path_params, self._enrollment.endpoints
        if "tenant" in place:
            return await endpoints.at(Protocol.CMP, place["tenant"], place["ca"], place["profile"])
        operation = place.get("operation")
        if operation is not None and operation not in _OPERATIONS:
            raise EndpointUnknown(f'CMP has no operation "{operation[:40]}".', target="path")
        return await endpoints.named(Protocol.CMP, place.get("label", _DEFAULT))


async def _message_of(request: Request) -> bytes:
    """The octets of a message, as far as one can be long. Raises InvalidInput (``cmp-media-type``), TooLarge."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise InvalidInput(
            "This is no CMP message.", code="cmp-media-type", remedy=f"Send it with Content-Type: {MEDIA_TYPE}."
        )
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > MAX_MESSAGE_OCTETS:
                raise TooLarge(f"A CMP message has at most {MAX_MESSAGE_OCTETS} octets.", code="cmp-too-large")
            parts.append(part)
    except ClientDisconnect:
        raise InvalidInput("The message was broken off.", code="request-malformed") from None
    return b"".join(parts)


def _refusal(error: IntaglioError) -> Response:
    """What went wrong before there was a message or an endpoint, for programs and, in its texts, for people."""
    answer = Answer(Body.ERROR, cmp.error(rejection(error)))
    body = unprotected(None, answer, secrets.token_bytes(NONCE_OCTETS), clock.now().replace(microsecond=0))
    headers = dict(_NOT_CACHED)
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    status = 415 if error.code == "cmp-media-type" else error.status
    return Response(body, status, headers, media_type=MEDIA_TYPE)
