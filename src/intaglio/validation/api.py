"""The public listener's application: OCSP, CRLs, CA certificates."""

from __future__ import annotations

from intaglio.authority.context import Authority
from intaglio.db.listen import Watch
from intaglio.validation.conditional import NOT_FOUND, Receive, Scope, Send
from intaglio.validation.ocsp.app import OcspApp
from intaglio.validation.ocsp.health import HealthApp
from intaglio.validation.ocsp.responder import Responder
from intaglio.validation.publication import PublicationApp

_HEALTH = "/eva/health"


class PublicApp:
    """ASGI application of one process. ``close`` (or the end of the ASGI lifespan) gives its connection back."""

    def __init__(self, authority: Authority, watch: Watch) -> None:
        self._ocsp = OcspApp(authority, watch)
        self._health = HealthApp(authority, self._ocsp.responder)
        self._publication = PublicationApp(authority, watch)

    def at_once(self, scope: Scope, body: bytes) -> tuple[int, tuple[tuple[bytes, bytes], ...], bytes] | None:
        """Status, headers and body of an OCSP answer that can be given without waiting; None: call."""
        route = _ocsp_route(scope["path"])
        if not route or scope["path"] == _HEALTH:
            return None
        scope["intaglio.route"] = route
        return self._ocsp.at_once(scope, body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path: str = scope["path"]
            if route := _ocsp_route(path):
                scope["intaglio.route"] = route  # for the metrics of the listener
                await (self._health if path == _HEALTH else self._ocsp)(scope, receive, send)
            elif path.startswith(("/crl/", "/aia/")):
                scope["intaglio.route"] = path[:4]
                await self._publication(scope, receive, send)
            else:
                await NOT_FOUND.send(send, 404, head=scope["method"] == "HEAD")
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)

    @property
    def responder(self) -> Responder:
        return self._ocsp.responder

    @property
    def running(self) -> int:
        """Requests about status that are being answered, or still arriving."""
        return self._ocsp.running

    @property
    def held(self) -> int:
        """Requests that wait until a certificate is known."""
        return self._ocsp.held

    async def close(self) -> None:
        await self._ocsp.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.close()
        await send({"type": "lifespan.shutdown.complete"})


def _ocsp_route(path: str) -> str:
    """How the metrics call a path below which status is asked for; empty for others."""
    if path.startswith("/ocsp") and path[5:6] in ("", "/"):
        return "/ocsp"
    return "/eva" if path.startswith("/eva") and path[4:5] in ("", "/") else ""


def public_app(authority: Authority, watch: Watch) -> PublicApp:
    """The application for the public listener. ``watch`` must be running; without it every answer is made anew."""
    return PublicApp(authority, watch)
