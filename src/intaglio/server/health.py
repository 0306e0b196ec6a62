"""The health listener: is the process alive, can it serve, and what do the numbers say.

``/livez`` never touches anything outside the process; ``/readyz`` asks every contributor and answers 503 while a
critical one is down. Below ``/cagw/management/actuator`` the same is offered in the shape that gateway clients expect,
as far as the settings expose it.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from intaglio.authority.context import MAX_CLOCK_OFFSET
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.logging import get_logger
from intaglio.server import problems
from intaglio.server.metrics import CONTENT_TYPE, component_up, exposition
from intaglio.server.services import Services

log = get_logger(__name__)

ACTUATOR = "/cagw/management/actuator"
DISK_THRESHOLD = 10 * 1024 * 1024  # octets that must be free under the data folder
_CHECK_TIME = 2.0  # seconds a contributor may take


@dataclass(frozen=True)
class Health:
    """What a contributor found; ``details`` are JSON-safe and hold no secrets."""

    up: bool
    details: Mapping[str, Any] = field(default_factory=dict)


Contributor = Callable[[], Awaitable[Health]]


class HealthRegistry:
    """Contributors by name. Critical ones decide whether the process is ready; the others only inform."""

    def __init__(self) -> None:
        self._contributors: dict[str, tuple[Contributor, bool]] = {}

    def register(self, name: str, contributor: Contributor, *, critical: bool = True) -> None:
        """Add a contributor; one that raises or takes longer than two seconds counts as down."""
        self._contributors[name] = (contributor, critical)

    async def examine(self) -> tuple[bool, dict[str, Any]]:
        """Ask everyone at once. Returns whether all critical ones are up, and what each said."""
        names = list(self._contributors)
        found = await asyncio.gather(*(_ask(name, self._contributors[name][0]) for name in names))
        for name, health in zip(names, found, strict=True):
            component_up.labels(name).set(health.up)
        ready = all(health.up for name, health in zip(names, found, strict=True) if self._contributors[name][1])
        components = {
            name: {"status": _word(health.up), "details": dict(health.details)}
            for name, health in zip(names, found, strict=True)
        }
        return ready, components


def standard_contributors(services: Services, registry: HealthRegistry) -> None:
    """Register what every process has: database, change watch, keystore, disk."""

    async def database() -> Health:
        await services.database.ping()
        return Health(True)

    async def watch() -> Health:
        return Health(services.watch.current, {"epoch": services.watch.epoch, "lagSeconds": round(services.lag, 3)})

    async def keystore() -> Health:
        probe = services.master_key.seal(b"probe", purpose="health")
        return Health(services.master_key.open(probe, purpose="health") == b"probe")

    async def disk() -> Health:
        details = disk_space(services)
        return Health(details["free"] >= DISK_THRESHOLD, details)

    async def clock() -> Health:
        offset = services.watch.clock_offset
        return Health(abs(offset) <= MAX_CLOCK_OFFSET, {"offsetSeconds": round(offset, 1)})

    registry.register("clock", clock)
    registry.register("database", database)
    registry.register("watch", watch)
    registry.register("keystore", keystore)
    registry.register("diskSpace", disk)


def disk_space(services: Services) -> dict[str, Any]:
    """Octets in total and free on the file system of the data folder."""
    usage = shutil.disk_usage(services.settings.data_dir)
    return {"total": usage.total, "free": usage.free, "threshold": DISK_THRESHOLD, "exists": True}


def health_app(services: Services, registry: HealthRegistry) -> ASGIApp:
    """The application of the health listener."""

    groups = services.settings.health_groups

    async def livez(request: Request) -> Response:
        return JSONResponse({"status": "UP"})

    async def readyz(request: Request) -> Response:
        ready, components = await registry.examine()
        return JSONResponse({"status": _word(ready), "components": components}, 200 if ready else 503)

    async def health(request: Request) -> Response:
        ready, _ = await registry.examine()
        return JSONResponse({"status": _word(ready), "groups": groups}, 200 if ready else 503)

    async def ping(request: Request) -> Response:
        _require_group(request, groups)
        return JSONResponse({"status": "UP"})

    async def disk(request: Request) -> Response:
        _require_group(request, groups)
        details = disk_space(services)
        up = details["free"] >= DISK_THRESHOLD
        return JSONResponse({"status": _word(up), "details": details}, 200 if up else 503)

    async def prometheus(request: Request) -> Response:
        await registry.examine()
        return Response(exposition(), media_type=CONTENT_TYPE)

    endpoints: dict[str, Callable[[Request], Awaitable[Response]]] = {
        "/livez": livez,
        "/readyz": readyz,
        "/metrics": prometheus,
        "/prometheus": prometheus,
    }
    if "health" in services.settings.actuator:
        endpoints[f"{ACTUATOR}/health"] = health
        endpoints[f"{ACTUATOR}/health/{{group}}/ping"] = ping
        endpoints[f"{ACTUATOR}/health/{{group}}/diskSpace"] = disk
    if "prometheus" in services.settings.actuator:
        endpoints[f"{ACTUATOR}/prometheus"] = prometheus
    routes = [Route(path, _named(path, endpoint), methods=["GET"]) for path, endpoint in endpoints.items()]
    app = Starlette(routes=routes)
    problems.install(app)
    return app


def _named(path: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def call(request: Request) -> Response:
        request.scope["intaglio.route"] = path
        return await endpoint(request)

    return call


def _require_group(request: Request, groups: Sequence[str]) -> None:
    group = request.path_params["group"]
    if group not in groups:
        raise NotFound(f'There is no health group "{group}".', remedy=f"Groups: {', '.join(groups)}.")


async def _ask(name: str, contributor: Contributor) -> Health:
    try:
        async with asyncio.timeout(_CHECK_TIME):
            return await contributor()
    except IntaglioError as error:
        return Health(False, {"code": error.code, "reason": error.detail})
    except TimeoutError:
        return Health(False, {"code": "timeout", "reason": f"No answer within {_CHECK_TIME:g} seconds."})
    except Exception as error:
        log.error("health contributor failed", contributor=name, exc_info=error)
        return Health(False, {"code": "internal-error", "reason": "See the log."})


def _word(up: bool) -> str:
    return "UP" if up else "DOWN"
