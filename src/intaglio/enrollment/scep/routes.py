"""Where SCEP is served: by HTTP, one URL per endpoint. Source: RFC 8894 section 4.1, and what clients make of it."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, NotSupported, TooLarge
from intaglio.core.logging import get_logger
from intaglio.enrollment import pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.endpoints import EndpointUnknown
from intaglio.enrollment.scep.errors import http_status
from intaglio.enrollment.scep.messages import MAX_MESSAGE_OCTETS
from intaglio.enrollment.scep.service import Scep
from intaglio.enrollment.urls import source_of
from intaglio.enrollment.values import Endpoint, Protocol

log = get_logger(__name__)

_MESSAGE: Final = "application/x-pki-message"
_CA_RA: Final = "application/x-x509-ca-ra-cert"
_NEXT_CA: Final = "application/x-x509-next-ca-cert"
#: Last words of URLs under which SCEP means something else, with challenges of its own.
_VARIANTS: Final = frozenset({"mdm", "intune"})
#: Base64 of the longest message, with line breaks.
_LONGEST_BODY: Final = MAX_MESSAGE_OCTETS * 3 // 2
_NOT_CACHED: Final = {"cache-control": "no-store"}


def routes(enrollment: Enrollment) -> list[BaseRoute]:
    """Everything below the place of an endpoint: clients append a slash, ``pkiclient.exe``, or ``nop/``."""
    app = ScepApp(enrollment)
    place = "/scep/{tenant}/{ca}/{profile}"
    return [
        Route(place, app.handle, methods=["GET", "POST"]),
        Route(place + "/{rest:path}", app.handle, methods=["GET", "POST"]),
    ]


class _Reply(NamedTuple):
    body: bytes
    media_type: str
    operation: str
    outcome: str


class ScepApp:
    """SCEP over HTTP in one process."""

    def __init__(self, enrollment: Enrollment) -> None:
        self._enrollment = enrollment
        self._scep = Scep(enrollment)
        self._operations: Mapping[str, Callable[[Endpoint, Request, str], Awaitable[_Reply]]] = {
            "getcacaps": self._capabilities,
            "getcacert": self._ca_certificates,
            "getnextcacert": self._next_ca,
            "pkioperation": self._message,
        }

    async def handle(self, request: Request) -> Response:
        """The answer to one request."""
        started, endpoint, source = monotonic(), None, ""
        asked = _parameter(request, "operation").decode("ascii", "replace").lower()
        try:
            endpoint = await self._endpoint(request)
            source = source_of(self._enrollment.endpoints.settings, request.scope)
            endpoint.require_admitted(source)
            reply = await self._operation(asked)(endpoint, request, source)
        except IntaglioError as error:
            known = asked if asked in self._operations else "unknown"
            pipeline.refused(self._enrollment, endpoint, None, known, error, protocol=Protocol.SCEP, source=source)
            outcome = "failed" if error.status >= 500 else "refused"
            pipeline.served(Protocol.SCEP, endpoint, known, outcome, monotonic() - started)
            return _refusal(error)
        pipeline.served(Protocol.SCEP, endpoint, reply.operation, reply.outcome, monotonic() - started)
        return Response(reply.body, media_type=reply.media_type, headers=_NOT_CACHED)

    async def _endpoint(self, request: Request) -> Endpoint:
        """The endpoint of the URL. Raises EndpointUnknown."""
        place = request.path_params
        last = place.get("rest", "").strip("/").rpartition("/")[2].lower()
        if last in _VARIANTS:
            raise EndpointUnknown(f'The variant "{last}" of SCEP is not offered here.', target="path")
        return await self._enrollment.endpoints.at(Protocol.SCEP, place["tenant"], place["ca"], place["profile"])

    def _operation(self, asked: str) -> Callable[[Endpoint, Request, str], Awaitable[_Reply]]:
        found = self._operations.get(asked)
        if found is not None:
            return found
        if not asked:
            raise InvalidInput(
                "The URL names no operation.",
                code="scep-operation-missing",
                remedy="This is the URL of a SCEP service, for clients of SCEP; append ?operation=GetCACaps to try it.",
            )
        raise NotSupported(
            f'SCEP has no operation "{asked[:40]}".',
            code="scep-operation-unknown",
            remedy="Use GetCACaps, GetCACert, GetNextCACert or PKIOperation.",
        )

    async def _capabilities(self, endpoint: Endpoint, request: Request, source: str) -> _Reply:
        found = await self._scep.capabilities(endpoint)
        return _Reply("".join(f"{each}\n" for each in found).encode(), "text/plain", "capabilities", "answered")

    async def _ca_certificates(self, endpoint: Endpoint, request: Request, source: str) -> _Reply:
        return _Reply(await self._scep.ca_certificates(endpoint), _CA_RA, "ca-certificates", "answered")

    async def _next_ca(self, endpoint: Endpoint, request: Request, source: str) -> _Reply:
        return _Reply(await self._scep.next_ca_certificates(endpoint), _NEXT_CA, "next-ca-certificates", "answered")

    async def _message(self, endpoint: Endpoint, request: Request, source: str) -> _Reply:
        answer = await self._scep.answer(endpoint, await _message_of(request), source)
        return _Reply(answer.message, _MESSAGE, answer.operation, answer.outcome)


async def _message_of(request: Request) -> bytes:
    """The octets of a message: the body of POST, or the parameter ``message`` of GET, in base64.

    Raises InvalidInput (``scep-message-missing``, ``scep-base64``), TooLarge.
    """
    if request.method == "GET":
        return _from_base64(_parameter(request, "message"))
    body = await _body(request)
    # A SEQUENCE starts with 0x30, which is "0" in text; no message in base64 does, since it would be of another type.
    return body if body[:1] == b"\x30" and body[1:2] >= b"\x80" else _from_base64(body)


async def _body(request: Request) -> bytes:
    """The body, as far as a message can be long. Raises TooLarge."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            size += len(part)
            if size > _LONGEST_BODY:
                raise TooLarge(f"A message has at most {MAX_MESSAGE_OCTETS} octets.", code="cms-too-large")
            parts.append(part)
    except ClientDisconnect:
        raise _missing() from None
    return b"".join(parts)


def _parameter(request: Request, name: str) -> bytes:
    """A parameter of the query, percent-decoded; "+" stays what it is, for in base64 it is a digit.

    Names are compared without regard to case, the first one counts.
    """
    for part in request.scope.get("query_string", b"").split(b"&"):
        key, _, value = part.partition(b"=")
        if key.lower() == name.encode():
            return unquote_to_bytes(value)
    return b""


def _from_base64(text: bytes) -> bytes:
    """Base64 as clients send it in a URL.

    Cisco IOS leaves "+" as it is and some proxies turn it into a space; OpenSSL breaks lines; Java's URL encoder has an
    alphabet of its own; padding gets lost.
    """
    if not text:
        raise _missing()
    if len(text) > _LONGEST_BODY:
        raise TooLarge(f"A message has at most {MAX_MESSAGE_OCTETS} octets.", code="cms-too-large")
    digits = text.translate(_ALPHABET, b"\r\n\t").rstrip(b"=")
    try:
        return base64.b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except binascii.Error:
        raise InvalidInput(
            "The message is not base64.", code="scep-base64", remedy="Encode it, and escape it for the URL."
        ) from None


_ALPHABET: Final = bytes.maketrans(b" -_", b"++/")


def _missing() -> InvalidInput:
    return InvalidInput(
        "There is no message.",
        code="scep-message-missing",
        remedy="Send it as the body of POST, or in base64 as the parameter message of GET.",
    )


def _refusal(error: IntaglioError) -> Response:
    headers = dict(_NOT_CACHED)
    if error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    text = f"{error.detail} {error.remedy}".strip() + "\n"
    return Response(text, status_code=http_status(error), media_type="text/plain", headers=headers)
