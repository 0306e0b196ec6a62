"""The application below ``/v1``: Vault's paths, methods and errors.

Its clients write with PUT or POST, whichever, and with any content type or none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from intaglio import __version__
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound
from intaglio.core.principal import ANONYMOUS
from intaglio.mtls.automation import proving
from intaglio.mtls.automation.issuer_keys import IssuerKeys
from intaglio.mtls.automation.vault import answers
from intaglio.mtls.automation.vault.auth import AuthRoutes
from intaglio.mtls.automation.vault.pki import PkiRoutes
from intaglio.mtls.context import Mtls

PREFIX = "/v1"
_Answer = Callable[[Request], Awaitable[Response]]
_READ, _WRITE = ["GET"], ["POST", "PUT"]


def vault_app(mtls: Mtls, keys: IssuerKeys) -> Starlette:
    """The application of one process, to be mounted at ``/v1``."""
    auth = AuthRoutes(mtls, keys)
    pki = PkiRoutes(mtls, auth)
    table: list[tuple[str, _Answer, list[str]]] = [
        ("/sys/health", _Health(mtls).answer, ["GET", "HEAD"]),
        ("/auth/cert/login", auth.by_certificate, _WRITE),
        ("/auth/approle/login", auth.by_secret, _WRITE),
        ("/auth/jwt/login", auth.by_identity_token, _WRITE),
        ("/auth/kubernetes/login", auth.by_identity_token, _WRITE),
        ("/auth/token/lookup-self", auth.lookup_self, _READ),
        ("/auth/token/renew-self", auth.renew_self, _WRITE),
        ("/auth/token/revoke-self", auth.revoke_self, _WRITE),
        ("/{mount}/sign/{role}", pki.sign, _WRITE),
        ("/{mount}/issue/{role}", pki.issue, _WRITE),
        ("/{mount}/sign-verbatim", pki.sign_verbatim, _WRITE),
        ("/{mount}/sign-verbatim/{role}", pki.sign_verbatim, _WRITE),
        ("/{mount}/revoke", pki.revoke, _WRITE),
        ("/{mount}/ca", pki.ca, _READ),
        ("/{mount}/ca/pem", pki.ca_pem, _READ),
        ("/{mount}/ca_chain", pki.ca_chain, _READ),
        ("/{mount}/cert/{which}", pki.cert, _READ),
        ("/{mount}/crl", pki.crl, _READ),
        ("/{mount}/crl/pem", pki.crl_pem, _READ),
    ]
    app = Starlette(routes=[Route(path, _named(path, answer), methods=methods) for path, answer, methods in table])
    app.state.mtls = mtls
    app.add_exception_handler(IntaglioError, _refuse)
    app.add_exception_handler(HTTPException, _refuse_path)
    app.add_exception_handler(UnicodeEncodeError, _refuse_text)
    return app


def _named(path: str, answer: _Answer) -> _Answer:
    """Every request is nobody's until it is proved; in metrics it goes by its route."""

    async def named(request: Request) -> Response:
        proving.nobody(request)
        request.scope["intaglio.route"] = PREFIX + path
        return await answer(request)

    return named


class _Health:
    """Whether certificates can be had at the moment, in the words that Vault has for it."""

    def __init__(self, mtls: Mtls) -> None:
        self._mtls = mtls

    async def answer(self, request: Request) -> Response:
        try:
            await self._mtls.database.ping()
        except IntaglioError:
            works = False
        else:
            works = True
        body = {
            "initialized": True,
            "sealed": not works,
            "standby": False,
            "performance_standby": False,
            "replication_performance_mode": "disabled",
            "replication_dr_mode": "disabled",
            "server_time_utc": int(clock.now().timestamp()),
            "version": f"{__version__}+intaglio",
            "cluster_name": "intaglio",
        }
        return JSONResponse(body, status_code=200 if works else 503, headers={"cache-control": "no-store"})


async def _refuse(request: Request, error: Exception) -> Response:
    """Answer a refusal and note it for the audit trail."""
    assert isinstance(error, IntaglioError)
    mtls: Mtls = request.app.state.mtls
    if mtls.refusals is not None:
        principal = getattr(request.state, "principal", ANONYMOUS)
        mtls.refusals.record(principal, "vault.refuse", "request", f"{request.method} {request.url.path}", error)
    return answers.refusal(error)


async def _refuse_path(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return answers.refusal(NotFound("no handler for route.", code="route-unknown"))
    return JSONResponse({"errors": ["unsupported operation"]}, status_code=error.status_code)


async def _refuse_text(request: Request, error: Exception) -> Response:
    return answers.refusal(InvalidInput("A text holds half of a character (a lone surrogate).", code="invalid-text"))
