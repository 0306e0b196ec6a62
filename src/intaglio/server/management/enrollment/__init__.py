"""Enrolment protocols in the management API: endpoints and tenants, credentials, requests that wait."""

from __future__ import annotations

from typing import Final

from intaglio.server.management.rooms import Room

_PREFIX = "/api/v1"
#: All rooms in the order of the documentation. A room is imported when it is first asked.
ROOMS: Final = tuple(
    Room(f"{__name__}.{module}", tuple(_PREFIX + path for path in paths), _PREFIX)
    for module, paths in (
        ("endpoints", ("/enrollment/endpoints", "/enrollment/options", "/enrollment/tenants", "/enrollment/urls")),
        ("credentials", ("/enrollment/endpoints",)),
        ("requests", ("/enrollment/requests",)),
        ("acme", ("/enrollment/acme",)),
        ("scep", ("/enrollment/scep",)),
    )
)
