"""The enrolment protocols in a serving process, and the pages that tell of them: which path is whose, and each imported
when it is first asked."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Final

from sqlalchemy import text
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send

from intaglio.authority.directory import Snapshot
from intaglio.core.settings import Settings
from intaglio.db.engine import Transaction
from intaglio.server.deferred import DeferredApp
from intaglio.server.health import Health, HealthRegistry
from intaglio.server.services import Services

#: Where the paths of each protocol begin, whole segments; and whether it is also spoken without TLS.
_PATHS: Final = {
    "acme": (("/acme",), False),
    "est": (("/.well-known/est", "/est"), False),
    "scep": (("/scep",), True),
    "cmp": (("/.well-known/cmp", "/cmp"), True),
    "pages": (("/urls",), False),
}
_ANY: Final = text("SELECT EXISTS (SELECT FROM enrollment_endpoint WHERE enabled)")
_ANY_EST: Final = text("SELECT EXISTS (SELECT FROM enrollment_endpoint WHERE protocol = 'est' AND enabled)")


class EnrollmentProtocols:
    """The applications of the protocols on one listener; ``plain`` leaves those that need no TLS."""

    def __init__(self, services: Services, *, plain: bool) -> None:
        self._apps = [
            (path, f"{path}/", _deferred(services, protocol))
            for protocol, (paths, without_tls) in _PATHS.items()
            if without_tls or not plain
            for path in paths
        ]

    def of(self, scope: Scope) -> ASGIApp | None:
        """Whose request this is; None: none of theirs."""
        if scope["type"] != "http":
            return None
        asked: str = scope["path"]
        for path, below, app in self._apps:
            if asked == path or asked.startswith(below):
                scope["intaglio.route"] = path  # for the metrics of the listener
                return app
        return None


class WithProtocols:
    """An application in front of which the protocols stand."""

    def __init__(self, services: Services, rest: ASGIApp) -> None:
        self._protocols = EnrollmentProtocols(services, plain=False)
        self._rest = rest

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._protocols.of(scope) or self._rest)(scope, receive, send)


def is_wanted(settings: Settings) -> bool:
    """Whether this server offers enrolment at all."""
    return not settings.only or "enroll" in settings.only


def _deferred(services: Services, protocol: str) -> ASGIApp:
    """One application of a protocol for all listeners of a process."""
    return services.shared(f"enrollment.{protocol}", lambda: DeferredApp(_maker(services, protocol)))


def _maker(services: Services, protocol: str) -> Callable[[], ASGIApp]:
    def make() -> ASGIApp:
        name = f"intaglio.enrollment.{protocol}" + ("" if protocol == "pages" else ".routes")
        return Starlette(routes=importlib.import_module(name).routes(services.enrollment))

    return make


async def client_anchors(view: Transaction, snapshot: Snapshot) -> list[bytes]:
    """Certificates of the CAs (DER) whose certificates clients of EST endpoints come with."""
    if not await view.scalar(_ANY_EST):
        return []
    from intaglio.enrollment.storage import load_endpoints
    from intaglio.enrollment.values import Protocol
    from intaglio.x509.certificates import read_certificates

    found: list[bytes] = []
    for endpoint in await load_endpoints(view, Protocol.EST):
        ca = snapshot.cas.get(endpoint.ca_id)
        if not endpoint.enabled or ca is None:
            continue
        found += [key.certificate.der for key in ca.keys.values() if key.certificate is not None]
        found += [each.der for text in endpoint.options.trusted for each in read_certificates(text)]
    return found


def register(services: Services, registry: HealthRegistry) -> None:
    """Report the endpoints. Not critical: the trouble of one CA must not take the others out of service."""

    async def endpoints() -> Health:
        async with services.database.read() as view:
            if not await view.scalar(_ANY):
                return Health(True, {"endpoints": {}})
        from intaglio.enrollment.health import READY, examine

        found = await examine(services.enrollment)
        return Health(all(state == READY for state in found.values()), {"endpoints": found})

    registry.register("enrollment", endpoints, critical=False)
