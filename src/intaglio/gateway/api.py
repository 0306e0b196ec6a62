"""The gateway's REST API as an ASGI application. What a route does stands in the use cases; this is only the wire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, Final
from uuid import UUID

from intaglio import __version__
from intaglio.authority.context import Authority
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound, NotSupported
from intaglio.core.identifiers import serial_from_hex
from intaglio.core.logging import correlation_id, get_logger
from intaglio.core.principal import ANONYMOUS, Principal
from intaglio.gateway import documentation, openapi, views
from intaglio.gateway.actions import act_on_certificate, act_on_subject
from intaglio.gateway.callers import Caller
from intaglio.gateway.capabilities import describe
from intaglio.gateway.enrollment import enroll, preview
from intaglio.gateway.errors import CATALOGUE, catalogue_entry, error_body
from intaglio.gateway.event_feed import EventQuery, event_page
from intaglio.gateway.fields import FieldSelection
from intaglio.gateway.http import (
    Disconnected,
    MethodNotAllowed,
    RateLimiter,
    Receive,
    Request,
    Response,
    Route,
    Router,
    Scope,
    Send,
    path_segments,
    read_body,
)
from intaglio.gateway.inspection import ca_properties, ca_status
from intaglio.gateway.roles import GatewayPermission
from intaglio.gateway.schemas import ActionRequest, EnrollmentRequest
from intaglio.gateway.schemas import read_body as parse_body
from intaglio.gateway.search import list_page, subject_page
from intaglio.gateway.service import Gateway, RefusalSink
from intaglio.gateway.subjects import read_name

log = get_logger(__name__)

Handler = Callable[["GatewayApp", Request, Caller], Awaitable[Response]]

_CA: Final = "/cagw/v1/certificate-authorities/{caId}"
_UNEXPECTED: Final = CATALOGUE["cagw-5000"]


def gateway_app(
    authority: Authority,
    *,
    refusals: RefusalSink | None = None,
    is_current: Callable[[], bool] | None = None,
) -> GatewayApp:
    """The application of the gateway listener. Arguments: those of :class:`Gateway`."""
    return GatewayApp(Gateway(authority, refusals=refusals, is_current=is_current))


class GatewayApp:
    """ASGI application. Every answer, whatever happened, is JSON of a known ``type`` (pages for people apart)."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.body_limit = gateway.authority.settings.request_limit
        self._limiter = RateLimiter()
        self._router = Router(ROUTES)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"the gateway does not speak {scope['type']}")
        try:
            response = await self._respond(scope, receive)
        except Disconnected:
            return
        await response.send(send, with_body=scope["method"] != "HEAD")

    async def _respond(self, scope: Scope, receive: Receive) -> Response:
        method: str = scope["method"]
        request = Request(scope, method)
        principal, action = ANONYMOUS, ""
        try:
            route, path = self._router.find("GET" if method == "HEAD" else method, path_segments(scope))
            request.path, action = path, _ACTIONS.get(route.handler, "")
            scope["intaglio.route"] = route.pattern  # for the metrics of the listener, as is the role
            request.about = path.get("caId", "")
            if route.handler in _PUBLIC:
                return await route.handler(self, request, Caller(ANONYMOUS))
            principal = Principal("anonymous", "anonymous", source=request.source)
            snapshot = await self.gateway.snapshot()
            caller = self.gateway.callers.caller(snapshot, request.client_certificate, request.source)
            principal = caller.principal
            scope["intaglio.role"], scope["intaglio.caller"] = principal.kind, principal.name
            settings = self.gateway.settings(snapshot)
            if settings.requests_per_second is not None:
                self._limiter.take(principal.name, settings.requests_per_second, settings.burst)
            if method == "POST":
                _check_content_type(request)
                request.body = await read_body(receive, self.body_limit)
            return await route.handler(self, request, caller)
        except IntaglioError as error:
            return self._refusal(request, principal, action, error)
        except (asyncio.CancelledError, Disconnected):
            raise
        except Exception:
            log.exception("unexpected error", method=method, about=request.about)
            return _unexpected()

    def _refusal(self, request: Request, principal: Principal, action: str, error: IntaglioError) -> Response:
        entry = catalogue_entry(error)
        headers = []
        if isinstance(error, MethodNotAllowed):
            headers.append((b"allow", error.allowed.encode("ascii")))
        if error.retry_after is not None:
            headers.append((b"retry-after", b"%d" % error.retry_after))
        if action:
            # Somebody unknown could fill the audit trail with names he makes up; equal refusals are counted instead.
            about = request.about if principal.kind != "anonymous" else ""
            self.gateway.refused(principal, action, "certificate" if "/" in about else "ca", about, error)
        body = json.dumps(error_body(error, entry), separators=(",", ":")).encode()
        return Response(entry.status, body, headers=tuple(headers))

    def fields(self, request: Request, *roots: str) -> FieldSelection:
        """The ``$fields`` of a request, also written ``$field``."""
        values = [*request.query.get("$fields", ()), *request.query.get("$field", ())]
        return FieldSelection.parse(values, roots) if values else _NO_SELECTION


_NO_SELECTION: Final = FieldSelection()


# ---- about the API ---------------------------------------------------------------------------------------------------


async def _version(app: GatewayApp, request: Request, caller: Caller) -> Response:
    caller.check(await app.gateway.snapshot())
    return Response.json(
        {
            "type": "VersionResponse",
            "name": "Intaglio CA gateway",
            "version": __version__,
            "apiVersion": "v1",
            "certificateAuthorities": "/cagw/v1/certificate-authorities",
            "documentation": "/cagw/doc",
            "openapi": "/cagw/openapi.json",
        }
    )


async def _openapi(app: GatewayApp, request: Request, caller: Caller) -> Response:
    return Response(200, openapi.document_json())


async def _documentation(app: GatewayApp, request: Request, caller: Caller) -> Response:
    return await _page(app, documentation.reference_page)


async def _explorer(app: GatewayApp, request: Request, caller: Caller) -> Response:
    host = request.header(b"host") or ""
    return await _page(app, lambda: documentation.explorer_page(host))


async def _page(app: GatewayApp, render: Callable[[], str]) -> Response:
    if not app.gateway.settings(await app.gateway.snapshot()).documentation:
        raise NotFound("The documentation pages are switched off.", code="route-unknown")
    return Response(200, render().encode(), b"text/html; charset=utf-8", documentation.SECURITY_HEADERS)


# ---- certificate authorities -----------------------------------------------------------------------------------------


async def _list_cas(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "caList", "ca")
    cas = [
        views.ca_view(access.ca, app.gateway.connector(access.ca).name, fields)
        for access in caller.accesses(await app.gateway.snapshot())
    ]
    return Response.json({"type": "CAListResponse", "caList": cas})


async def _get_ca(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "ca", "caList")
    access, connector = await app.gateway.access(caller, request.path["caId"])
    return Response.json({"type": "CAResponse", "ca": views.ca_view(access.ca, connector.name, fields)})


async def _capabilities(app: GatewayApp, request: Request, caller: Caller) -> Response:
    access, connector = await app.gateway.access(caller, request.path["caId"])
    described = describe(connector.capabilities, access.ca, access.role)
    return Response.json({"type": "CACapabilitiesResponse", "role": access.role, "capabilities": described})


async def _status(app: GatewayApp, request: Request, caller: Caller) -> Response:
    return Response.json(await ca_status(app.gateway, caller, request.path["caId"]))


async def _properties(app: GatewayApp, request: Request, caller: Caller) -> Response:
    names = [name.strip() for value in request.query.get("fields", ()) for name in value.split(",") if name.strip()]
    return Response.json(await ca_properties(app.gateway, caller, request.path["caId"], names))


async def _profiles(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "profiles", "profile")
    access, _ = await app.gateway.access(caller, request.path["caId"])
    found = [fields.prune(views.profile_view(profile)) for profile in access.ca.profiles]
    return Response.json({"type": "ProfilesResponse", "profiles": found})


async def _profile(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "profile", "profiles")
    access, _ = await app.gateway.access(caller, request.path["caId"])
    profile = access.ca.profile(request.path["profileId"])
    return Response.json({"type": "ProfileResponse", "profile": fields.prune(views.profile_view(profile))})


async def _crl(app: GatewayApp, request: Request, caller: Caller) -> Response:
    access, connector = await app.gateway.access(caller, request.path["caId"])
    crl = await connector.crl(access.ca)
    return Response(200, crl.der, b"application/pkix-crl")


# ---- enrolment -------------------------------------------------------------------------------------------------------


async def _enroll(app: GatewayApp, request: Request, caller: Caller) -> Response:
    ca_id = request.path["caId"]
    # Who may not even see the CA learns nothing from how his body is judged.
    caller.access(await app.gateway.snapshot(), ca_id)
    wanted = parse_body(EnrollmentRequest, request.body)
    request.about = f"{ca_id}/{wanted.profileId}"
    if request.query and request.flag("validateOnly"):
        previewed = await preview(app.gateway, caller, ca_id, wanted)
        answer = {"type": "EnrollmentResponse", "enrollment": views.preview_view(previewed)}
        return Response.json(answer | views.message(previewed.warnings))
    enrolled = await enroll(
        app.gateway, caller, ca_id, wanted, idempotency_key=request.header(b"idempotency-key")
    )
    answer = {"type": "EnrollmentResponse", "enrollment": views.enrollment_view(enrolled)}
    return Response.json(answer | views.message(enrolled.warnings))


async def _get_enrollment(app: GatewayApp, request: Request, caller: Caller) -> Response:
    access, connector = await app.gateway.access(caller, request.path["caId"])
    access.role.require(GatewayPermission.SEARCH, "enrollments")
    try:
        wanted = UUID(request.path["enrollmentId"])
    except ValueError:
        raise NotFound("There is no such enrolment.", code="enrollment-unknown", target="id") from None
    found = await connector.certificate_by_id(access.ca, wanted)
    fields = app.fields(request, "enrollment")
    view = views.recorded_enrollment_view(found, access.ca, fields)
    return Response.json({"type": "EnrollmentResponse", "enrollment": view})


# ---- certificates and subjects ---------------------------------------------------------------------------------------


async def _list_certificates(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "certificates", "certificate")
    return Response.json(await list_page(app.gateway, caller, request.path["caId"], request.query, fields))


async def _get_certificate(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "certificate")
    serial = _serial(request)
    access, connector = await app.gateway.access(caller, request.path["caId"])
    access.role.require(GatewayPermission.SEARCH, "certificates")
    certificate = await connector.certificate(access.ca, serial)
    answer: dict[str, Any] = {
        "type": "CertificateResponse",
        "certificate": fields.prune(views.certificate_view(certificate)),
        "chain": views.certificate_data(access.ca.chain) if fields.wants("chain") else [],
    }
    return Response.json(answer)


async def _act_on_certificate(app: GatewayApp, request: Request, caller: Caller) -> Response:
    ca_id, serial = request.path["caId"], _serial(request)
    request.about = f"{ca_id}/{serial.hex().upper()}"
    caller.access(await app.gateway.snapshot(), ca_id)
    action = parse_body(ActionRequest, request.body).action
    result = await act_on_certificate(app.gateway, caller, ca_id, serial, action)
    answer: dict[str, Any] = {"type": "ActionResponse", "action": views.action_view(result)}
    if result.enrollment is not None:
        answer["enrollment"] = views.enrollment_view(result.enrollment)
        answer |= views.message(result.enrollment.warnings)
    return Response.json(answer)


async def _get_subject(app: GatewayApp, request: Request, caller: Caller) -> Response:
    fields = app.fields(request, "subject")
    subject = read_name(request.path["dn"], target="dn")
    return Response.json(
        await subject_page(app.gateway, caller, request.path["caId"], subject, request.query, fields)
    )


async def _act_on_subject(app: GatewayApp, request: Request, caller: Caller) -> Response:
    ca_id = request.path["caId"]
    request.about = f"{ca_id}/{request.path['dn']}"
    caller.access(await app.gateway.snapshot(), ca_id)
    subject = read_name(request.path["dn"], target="dn")
    action = parse_body(ActionRequest, request.body).action
    result = await act_on_subject(app.gateway, caller, ca_id, subject, action)
    return Response.json({"type": "ActionResponse", "action": views.action_view(result)})


async def _events(app: GatewayApp, request: Request, caller: Caller) -> Response:
    query = EventQuery.parse(
        request.parameter("startDate"), request.parameter("nextPageIndex"), request.parameter("preferredPageSize")
    )
    fields = app.fields(request, "events")
    return Response.json(await event_page(app.gateway, caller, request.path["caId"], query, fields))


async def _not_supported(app: GatewayApp, request: Request, caller: Caller) -> Response:
    access, _ = await app.gateway.access(caller, request.path["caId"])
    raise NotSupported(
        f'CA "{access.ca.full_id}" has neither domain validation nor key recovery.',
        code="capability-missing",
        remedy="GET .../capabilities says what it can do.",
    )


# ---- routes ----------------------------------------------------------------------------------------------------------

ROUTES: Final[tuple[Route[Handler], ...]] = (
    Route("POST", f"{_CA}/enrollments", _enroll),
    Route("GET", f"{_CA}/enrollments/{{enrollmentId}}", _get_enrollment),
    Route("GET", "/cagw", _openapi),
    Route("GET", "/cagw/openapi.json", _openapi),
    Route("GET", "/cagw/v1/openapi.json", _openapi),
    Route("GET", "/cagw/doc", _documentation),
    Route("GET", "/cagw/docs", _documentation),
    Route("GET", "/cagw/v1/doc", _documentation),
    Route("GET", "/cagw/v1/docs", _documentation),
    Route("GET", "/cagw/swagger-ui", _explorer),
    Route("GET", "/cagw/v1/swagger-ui", _explorer),
    Route("GET", "/cagw/v1", _version),
    Route("GET", "/cagw/v1/certificate-authorities", _list_cas),
    Route("GET", _CA, _get_ca),
    Route("GET", f"{_CA}/capabilities", _capabilities),
    Route("GET", f"{_CA}/status", _status),
    Route("GET", f"{_CA}/properties", _properties),
    Route("GET", f"{_CA}/profiles", _profiles),
    Route("GET", f"{_CA}/profiles/{{profileId}}", _profile),
    Route("GET", f"{_CA}/crl", _crl),
    Route("GET", f"{_CA}/certificates", _list_certificates),
    Route("GET", f"{_CA}/certificates/{{serialNumber}}", _get_certificate),
    Route("POST", f"{_CA}/certificates/{{serialNumber}}/actions", _act_on_certificate),
    Route("POST", f"{_CA}/certificates/{{serialNumber}}/recoveries", _not_supported),
    Route("GET", f"{_CA}/subjects/{{dn}}", _get_subject),
    Route("POST", f"{_CA}/subjects/{{dn}}/actions", _act_on_subject),
    Route("POST", f"{_CA}/subjects/{{dn}}/recoveries", _not_supported),
    Route("GET", f"{_CA}/certificate-events", _events),
    Route("GET", f"{_CA}/domains", _not_supported),
    Route("POST", f"{_CA}/domains", _not_supported),
    Route("GET", f"{_CA}/domains/{{name}}", _not_supported),
    Route("POST", f"{_CA}/domains/{{name}}/verifications", _not_supported),
)

#: Open to whoever the listener let in: they say nothing about CAs or callers.
_PUBLIC: Final = frozenset({_openapi, _documentation, _explorer})

#: What a refusal is recorded as. Reading is recorded too: a probe for CAs consists of refused reads.
_ACTIONS: Final = {route.handler: "certificate.read" for route in ROUTES if route.handler not in _PUBLIC} | {
    _enroll: "certificate.issue",
    _act_on_certificate: "certificate.act",
    _act_on_subject: "subject.act",
}


def _serial(request: Request) -> bytes:
    try:
        return serial_from_hex(request.path["serialNumber"])
    except InvalidInput as error:
        raise InvalidInput(error.detail, code="request-malformed", target="serialNumber") from None


def _check_content_type(request: Request) -> None:
    kind = (request.header(b"content-type") or "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise InvalidInput(
            f"A body of type {kind[:60]} is not understood.",
            code="media-type-unsupported",
            remedy="Send JSON with Content-Type: application/json.",
            target="Content-Type",
        )


def _unexpected() -> Response:
    details = [{"code": "correlation-id", "message": correlation_id.get()}]
    error = {"code": _UNEXPECTED.code, "message": "The gateway failed to answer.", "details": details}
    return Response.json({"type": "ErrorResponse", "error": error}, _UNEXPECTED.status)
