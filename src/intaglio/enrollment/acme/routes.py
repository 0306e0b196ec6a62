"""Where ACME is served."""

from __future__ import annotations

from starlette.routing import BaseRoute, Route

from intaglio.enrollment.acme.app import AcmeApp
from intaglio.enrollment.context import Enrollment


def routes(enrollment: Enrollment) -> list[BaseRoute]:
    """Everything below the place of an endpoint, and an answer for whoever misses it."""
    app = AcmeApp(enrollment)
    return [Route("/acme/{tenant}/{ca}/{profile}/{resource:path}", app), Route("/{elsewhere:path}", app)]
