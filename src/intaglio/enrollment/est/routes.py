"""The URLs of EST: under a label, under none (the endpoint called ``default``), and by tenant, CA and profile.

Sources: RFC 7030 section 3.2.2, RFC 8615.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.logging import get_logger
from intaglio.enrollment import pipeline
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.est import callers, cmc, encoding, errors, operations, server_keys
from intaglio.enrollment.est.callers import Call
from intaglio.enrollment.values import Endpoint, Protocol

log = get_logger(__name__)

DEFAULT_LABEL: Final = "default"
_Make = Callable[[Enrollment, Endpoint, Call, bytes], Awaitable[Response]]


@dataclass(frozen=True)
class Operation:
    """One operation: its method, and what answers."""

    method: str
    make: _Make

    @property
    def outcome(self) -> str:
        """What came of it when it succeeded, in the metrics."""
        return "granted" if self.method == "POST" else "answered"


async def _ca_certificates(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    return await operations.ca_certificates(enrollment, endpoint)


async def _attributes(enrollment: Enrollment, endpoint: Endpoint, call: Call, body: bytes) -> Response:
    return operations.attributes(endpoint)


OPERATIONS: Final[Mapping[str, Operation]] = {
    "cacerts": Operation("GET", _ca_certificates),
    "csrattrs": Operation("GET", _attributes),
    "simpleenroll": Operation("POST", operations.enroll),
    "simplereenroll": Operation("POST", operations.renew),
    "serverkeygen": Operation("POST", server_keys.generate),
    "fullcmc": Operation("POST", cmc.full),
}


def routes(enrollment: Enrollment) -> list[BaseRoute]:
    """Everything that answers under ``/.well-known/est`` and ``/est``."""

    async def answer(request: Request) -> Response:
        return await _answer(enrollment, request)

    paths = (
        "/.well-known/est/{operation}",
        "/.well-known/est/{label}/{operation}",
        "/est/{tenant}/{ca}/{profile}/{operation}",
    )
    return [Route(path, answer, methods=["GET", "POST"]) for path in paths]


async def _answer(enrollment: Enrollment, request: Request) -> Response:
    started, endpoint, call = monotonic(), None, None
    name: str = request.path_params["operation"]
    operation = OPERATIONS.get(name)
    spoken = name if operation is not None else "unknown"
    try:
        if operation is None:
            raise NotFound(
                f'EST has no operation "{name[:40]}".',
                code="est-operation-unknown",
                remedy=f"Use one of: {', '.join(OPERATIONS)}.",
            )
        endpoint = await _endpoint(enrollment, request)
        if request.method != operation.method:
            return Response(status_code=405, headers={"allow": operation.method})
        call = await Call.of(enrollment, request.scope)
        endpoint.require_admitted(call.source)
        body = await _body(request) if operation.method == "POST" else b""
        made = await operation.make(enrollment, endpoint, call, body)
    except IntaglioError as error:
        if callers.is_first_contact(error):
            log.debug("a client is asked for its password", endpoint=endpoint.address if endpoint else "")
        else:
            applicant, source = (None, _peer(request)) if call is None else (call.applicant, call.source)
            pipeline.refused(
                enrollment, endpoint, applicant, spoken, error, protocol=Protocol.EST, source=source
            )
        outcome = "failed" if error.status >= 500 else "refused"
        pipeline.served(Protocol.EST, endpoint, spoken, outcome, monotonic() - started)
        return errors.response(error, endpoint)
    outcome = "waiting" if made.status_code == operations.WAITING else operation.outcome
    pipeline.served(Protocol.EST, endpoint, spoken, outcome, monotonic() - started)
    return made


async def _endpoint(enrollment: Enrollment, request: Request) -> Endpoint:
    given = request.path_params
    if "tenant" in given:
        return await enrollment.endpoints.at(Protocol.EST, given["tenant"], given["ca"], given["profile"])
    return await enrollment.endpoints.named(Protocol.EST, given.get("label", DEFAULT_LABEL))


async def _body(request: Request) -> bytes:
    """The body, no longer than any request may be. Raises TooLarge."""
    parts, size = [], 0
    try:
        async for part in request.stream():
            parts.append(part)
            size += len(part)
            if size > encoding.MAX_BODY_OCTETS:
                raise encoding.too_large()
    except ClientDisconnect:
        return b""
    return b"".join(parts)


def _peer(request: Request) -> str:
    return request.client.host if request.client else ""
