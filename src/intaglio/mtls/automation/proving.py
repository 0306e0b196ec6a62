"""Who comes to the enrolment listener, and counting those who fail to prove it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace

from starlette.requests import Request

from intaglio.core.errors import Forbidden, Unauthenticated
from intaglio.core.principal import ANONYMOUS, Principal
from intaglio.mtls.automation import errors
from intaglio.mtls.automation.settings import AutomationSettings
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import callers, limits
from intaglio.mtls.enrolment.callers import Presented
from intaglio.mtls.identities.bindings import Binding
from intaglio.mtls.identities.values import Identity, Kind
from intaglio.platform import live_settings


def source_of(request: Request) -> str:
    """The address of the peer."""
    return request.client.host if request.client else ""


def nobody(request: Request) -> None:
    """Say in the trail that nobody is asking, until somebody proves to be somebody."""
    request.state.principal = replace(ANONYMOUS, source=source_of(request))


def proved(request: Request, identity: Identity) -> None:
    """Say in the trail and in the access log who is asking."""
    request.state.principal = Principal("identity", identity.uri, source=source_of(request))
    request.scope["intaglio.caller"] = identity.uri


def bearer_of(request: Request) -> str | None:
    """The token of an Authorization header, None without one. Raises Unauthenticated for another scheme."""
    given = request.headers.get("authorization")
    if given is None:
        return None
    scheme, _, token = given.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise Unauthenticated(
            "Only bearer tokens are taken in Authorization.", remedy="Send: Authorization: Bearer TOKEN"
        )
    return token.strip()


async def holder(mtls: Mtls, request: Request) -> tuple[Identity, Binding]:
    """Which machine the client certificate of a connection proves.

    Raises Unauthenticated with the reason code, Forbidden for one that is suspended, retired or not bound, or a person.
    """
    presented = Presented.of(request.scope)
    seen = callers.require(await callers.judge(mtls, presented), presented)
    identity, binding = await callers.registered(mtls, seen)
    proved(request, identity)
    if identity.kind is Kind.USER:
        raise errors.person(identity.name)
    return identity, binding


@contextlib.asynccontextmanager
async def failures_counted(mtls: Mtls, request: Request) -> AsyncIterator[None]:
    """Count what fails inside against the address it comes from. Raises RateLimited instead beyond the limit."""
    try:
        yield
    except (Unauthenticated, Forbidden):
        async with mtls.database.read() as view:
            limit = (await live_settings.current(view, AutomationSettings)).failures_per_minute
        await limits.count_request(mtls.database, source_of(request), limit, kind="proof")
        raise
