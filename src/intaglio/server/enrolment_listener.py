"""The application of the enrolment listener: the host to which people come with their certificates.

Any client certificate gets through the handshake; whether it counts is decided here, and told with a reason. Pages of
the console of this host may speak to it with the certificate of their visitor; other pages may not.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from intaglio.core.clock import rfc3339
from intaglio.core.errors import Forbidden, IntaglioError, Unauthenticated
from intaglio.core.principal import ANONYMOUS, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import (
    answers,
    bodies,
    callers,
    certificate_login,
    policy,
    renewal,
    self_service,
    trust_files,
)
from intaglio.mtls.enrolment.callers import Presented, Seen
from intaglio.mtls.enrolment.sessions import Visitor
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.platform import live_settings
from intaglio.server import problems

_PREFLIGHT_SECONDS = b"600"


def enrolment_app(mtls: Mtls, more: Sequence[BaseRoute] = ()) -> ASGIApp:
    """The application. ``more`` are routes of other protocols on this listener."""
    app = Starlette(routes=[*_routes(), *more])
    app.state.mtls = mtls
    problems.install(app)
    app.add_exception_handler(IntaglioError, _refuse)
    return _OwnPages(app, mtls)


def _routes() -> list[BaseRoute]:
    return [
        Route("/whoami", _whoami, methods=["GET"]),
        Route("/enrol/v1/renew", _begin_renewal, methods=["GET"]),
        Route("/enrol/v1/renew", _renew, methods=["POST"]),
        Route("/enrol/v1/revoke", _revoke, methods=["POST"]),
        Route("/enrol/v1/login", _log_in, methods=["POST"]),
        Route("/enrol/v1/login/link", _link, methods=["POST"]),
        Route("/enrol/v1/ca.pem", _ca_file(trust_files.as_pem, trust_files.PEM_TYPE, "ca.pem")),
        Route("/enrol/v1/ca.cer", _ca_file(trust_files.as_der, trust_files.DER_TYPE, "ca.cer")),
        Route(
            "/enrol/v1/ca.mobileconfig",
            _ca_file(trust_files.as_mobileconfig, trust_files.MOBILECONFIG_TYPE, "ca.mobileconfig"),
        ),
    ]


async def _whoami(request: Request) -> Response:
    """Who the server takes the caller for, or the reason code."""
    return _json(callers.whoami(await _seen(request)))


async def _begin_renewal(request: Request) -> Response:
    mtls = _mtls(request)
    identity, binding = await callers.registered(mtls, await _seen(request))
    opened, settings = await renewal.begin_renewal(mtls, identity, binding, _visitor(request))
    return _json(answers.renewal(opened, settings.key_algorithms[0]))


async def _renew(request: Request) -> Response:
    mtls = _mtls(request)
    identity, binding = await callers.registered(mtls, await _seen(request))
    body = await bodies.screened(mtls, request.state.principal, await request.body(), at="renew", identity=identity)
    csr = bodies.read_csr(body, request.headers.get("content-type", ""))
    return _json(answers.certificate(await renewal.renew(mtls, binding, csr, _visitor(request))))


async def _revoke(request: Request) -> Response:
    """Revoke the certificate one came with; with ``?every=true`` all of one's own."""
    mtls = _mtls(request)
    identity, binding = await callers.registered(mtls, await _seen(request))
    every = request.query_params.get("every", "").lower() == "true"
    count = await self_service.revoke_by_certificate(mtls, identity, binding.id, _visitor(request), every=every)
    return _json({"revoked": count})


async def _log_in(request: Request) -> Response:
    """A session of the account that the certificate is linked with; its token is good for `/api/v1`."""
    mtls = _mtls(request)
    identity, binding = await callers.registered(mtls, await _seen(request))
    found = await certificate_login.log_in(mtls, identity, binding, _visitor(request))
    shown = {"user": found.user.name, "token": found.secret.get_secret_value()}
    return _json(shown | {"expires_at": rfc3339(found.expires_at)})


async def _link(request: Request) -> Response:
    """Let the certificate log in to the account whose session token comes with it."""
    mtls = _mtls(request)
    identity, binding = await callers.registered(mtls, await _seen(request))
    scheme, _, bearer = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthenticated(
            "Linking needs a session of the account besides the certificate.",
            code="token-missing",
            remedy="Send `Authorization: Bearer ...` with the token of a login.",
        )
    made = await certificate_login.link(mtls, identity, binding, bearer.strip(), _visitor(request))
    return _json({"identity": made.identity, "user": made.user, "linked_at": rfc3339(made.linked_at)})


def _ca_file(
    write: Callable[[trust_files.TrustFiles], bytes | str], media_type: str, name: str
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        files = await policy.trust_files(_mtls(request), request.query_params.get("domain"))
        headers = {"content-disposition": f'attachment; filename="{name}"', "cache-control": "no-cache"}
        return Response(write(files), media_type=media_type, headers=headers)

    return answer


async def _seen(request: Request) -> Seen:
    """Whom the certificate proves. Raises Unauthenticated, Forbidden with the reason code."""
    presented = Presented.of(request.scope)
    request.state.principal = replace(ANONYMOUS, source=presented.source)
    mtls = _mtls(request)
    seen = callers.require(await callers.judge(mtls, presented), presented)
    request.state.principal = Principal("identity", seen.certified.uri, source=presented.source)
    request.scope["intaglio.caller"] = seen.certified.uri  # for the access log
    return seen


def _mtls(request: Request) -> Mtls:
    found: Mtls = request.app.state.mtls
    return found


def _visitor(request: Request) -> Visitor:
    return Visitor(request.client.host if request.client else "", request.headers.get("user-agent", ""))


def _json(value: dict[str, Any]) -> Response:
    return JSONResponse(value, headers={"cache-control": "no-store"})


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a refusal and note it for the audit trail."""
    assert isinstance(error, IntaglioError)
    recorder = _mtls(request).refusals
    if recorder is not None:
        principal = getattr(request.state, "principal", ANONYMOUS)
        recorder.record(principal, "enrolment.refuse", "request", f"{request.method} {request.url.path}", error)
    return problems.response(error, {"cache-control": "no-store"})


class _OwnPages:
    """Cross-origin rules: the pages of this host's own console may ask with the certificate of their visitor.

    A change that another page asks for is refused before it is looked at: the browser would send the certificate along
    (a simple request needs no leave). Source: Fetch Standard, section 3.2.
    """

    def __init__(self, app: ASGIApp, mtls: Mtls) -> None:
        self._app = app
        self._mtls = mtls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(scope.get("headers", ()))
        origin = headers.get(b"origin")
        if scope["type"] != "http" or origin is None:
            await self._app(scope, receive, send)
            return
        allowed = origin.decode("latin-1").lower() in await self._origins(headers.get(b"host", b"").decode("latin-1"))
        if allowed and scope["method"] == "OPTIONS":
            await _preflight(origin)(scope, receive, send)
        elif not allowed and scope["method"] not in ("GET", "HEAD"):
            await problems.response(_foreign_page())(scope, receive, send)
        else:
            await self._app(scope, receive, _with(origin, send) if allowed else send)

    async def _origins(self, host: str) -> frozenset[str]:
        try:
            async with self._mtls.database.read() as view:
                settings = await live_settings.current(view, EnrolmentSettings)
        except IntaglioError:  # the page must be able to read why nothing works
            settings = EnrolmentSettings()
        return policy.page_origins(self._mtls.settings, settings, host)


def _preflight(origin: bytes) -> Response:
    headers = {
        "access-control-allow-origin": origin.decode("latin-1"),
        "access-control-allow-credentials": "true",
        "access-control-allow-methods": "GET, POST",
        "access-control-allow-headers": "authorization, content-type",
        "access-control-max-age": _PREFLIGHT_SECONDS.decode(),
        "vary": "Origin",
    }
    return Response(status_code=204, headers=headers)


def _with(origin: bytes, send: Send) -> Send:
    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            more = [
                (b"access-control-allow-origin", origin),
                (b"access-control-allow-credentials", b"true"),
                (b"vary", b"Origin"),
            ]
            message = {**message, "headers": [*message["headers"], *more]}
        await send(message)

    return sending


def _foreign_page() -> IntaglioError:
    return Forbidden(
        "A page of another site asked for this; only the console of this host may.",
        code="origin-not-allowed",
        remedy="Open the enrolment page of this host, or set enrolment.page_url.",
    )
