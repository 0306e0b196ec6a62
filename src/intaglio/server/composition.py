"""Which application answers on which listener, and what else a server of this kind runs.

This is the one place that knows all floors. An application is a plain ASGI callable made from the services of its
process; it has no lifespan of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp

from intaglio.core.settings import Settings
from intaglio.server.health import HealthRegistry, health_app, standard_contributors
from intaglio.server.problems import Renderer, render
from intaglio.server.services import AuthorityFactory, Services
from intaglio.transport.contexts import ServerIdentity

#: The services of the ``only`` setting that each listener carries. Health belongs to every server.
CARRIES: Mapping[str, tuple[str, ...]] = {
    "public": ("ocsp", "crl", "tsa", "enroll"),
    "public_tls": ("ocsp", "crl", "tsa", "enroll"),
    "console": ("api",),
    "enroll": ("enroll",),
    "gateway": ("gateway",),
    "access": ("access",),
    "admin": ("api",),
}


@dataclass(frozen=True)
class Application:
    """The application of one listener.

    ``renderer`` writes the refusals that the boundary itself utters (too large, too late, shutting down, unexpected) in
    the application's wire format.
    """

    make: Callable[[Services], ASGIApp]
    renderer: Renderer = render


async def _nothing(services: Services) -> None:
    """No server certificate of our own making, no jobs."""


async def _no_identity(services: Services, listener: str) -> ServerIdentity | None:
    return None


async def _no_trust(services: Services, listener: str) -> Sequence[bytes]:
    return ()


def _no_contributors(services: Services, registry: HealthRegistry) -> None:
    """Only the standard contributors."""


@dataclass(frozen=True)
class Composition:
    """Everything the processes of a server are made of.

    ``identity`` returns the stored server certificate of a listener; ``ensure_identity`` makes or renews it when due
    (called before the first listener opens and hourly by the jobs process; idempotent, safe in several processes at
    once). ``trust`` returns the client CAs of a listener (DER). ``jobs`` runs until it is cancelled. ``health``
    registers further contributors.
    """

    applications: Mapping[str, Application]
    make_authority: AuthorityFactory | None = None
    identity: Callable[[Services, str], Awaitable[ServerIdentity | None]] = _no_identity
    ensure_identity: Callable[[Services], Awaitable[None]] = _nothing
    trust: Callable[[Services, str], Awaitable[Sequence[bytes]]] = _no_trust
    jobs: Callable[[Services], Awaitable[None]] | None = None
    health: Callable[[Services, HealthRegistry], None] = _no_contributors

    def listeners(self, settings: Settings) -> list[str]:
        """Names of the listeners to open, by what is composed, enabled and asked for."""
        wanted = set(settings.only)
        named = [
            name
            for name in self.applications
            if not wanted or wanted.intersection(CARRIES.get(name, (name,)))
        ]
        return [*named, "health"]

    def application(self, name: str, services: Services, registry: HealthRegistry) -> ASGIApp:
        """The application of a listener, not yet wrapped in the boundary."""
        if name == "health":
            standard_contributors(services, registry)
            self.health(services, registry)
            return health_app(services, registry)
        return self.applications[name].make(services)

    def renderer(self, name: str) -> Renderer:
        return self.applications[name].renderer if name in self.applications else render

    def runs_jobs(self, settings: Settings) -> bool:
        return self.jobs is not None and (not settings.only or "jobs" in settings.only)
