"""What every route starts from: the services of the process, and who is asking."""

from __future__ import annotations

import pwd
from dataclasses import replace
from typing import Annotated, cast

from fastapi import Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from intaglio.core.errors import Unauthenticated
from intaglio.core.principal import ANONYMOUS, Principal, operator
from intaglio.db.listing import DEFAULT_LIMIT, LARGEST_LIMIT, ListQuery
from intaglio.identity import sessions
from intaglio.server.services import Services

_BEARER = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    description="An API token, or the session token of a login. On the unix socket none is needed: the account of the "
    "calling process is the proof.",
)


def services_of(request: Request) -> Services:
    """The services this application was made with."""
    return cast(Services, request.app.state.services)


Given = Annotated[Services, Depends(services_of)]
BearerToken = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


def source_of(request: Request) -> str:
    """The peer address for the audit trail; ``unix`` on the unix socket."""
    return request.client.host if request.client else "unix"


def visitor(request: Request) -> Principal:
    """Somebody who need not say who he is."""
    return _noted(request, replace(ANONYMOUS, source=source_of(request)))


async def principal_of(request: Request, services: Given, bearer: BearerToken) -> Principal:
    """Who is asking: a user by token, else the operator of this host by the credentials of the unix socket.

    Raises Unauthenticated, Forbidden (``password-change-required``).
    """
    return await _principal(request, services, bearer)


async def password_changer(request: Request, services: Given, bearer: BearerToken) -> Principal:
    """Like :func:`principal_of`, also for a user who must change his password first."""
    return await _principal(request, services, bearer, for_password_change=True)


async def _principal(
    request: Request,
    services: Services,
    bearer: HTTPAuthorizationCredentials | None,
    *,
    for_password_change: bool = False,
) -> Principal:
    visitor(request)
    if bearer is not None:
        found = await sessions.authenticate(
            services.database,
            bearer.credentials,
            source=source_of(request),
            for_password_change=for_password_change,
        )
        return _noted(request, found)
    peer = request.scope.get("extensions", {}).get("peer")
    if peer is not None:
        return _noted(request, operator(_account_name(int(peer["uid"]))))
    raise Unauthenticated(
        "This needs authentication.",
        code="token-missing",
        remedy="Send an API token as `Authorization: Bearer ...`; POST /api/v1/login gives one for a password.",
    )


def _noted(request: Request, principal: Principal) -> Principal:
    # A refusal is recorded outside the route and must say whom it met.
    request.state.principal = principal
    request.scope["intaglio.caller"] = principal.name  # for the access log
    return principal


def _account_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


Visitor = Annotated[Principal, Depends(visitor)]
Asker = Annotated[Principal, Depends(principal_of)]
PasswordChanger = Annotated[Principal, Depends(password_changer)]


def list_query(
    filter: Annotated[
        list[str] | None,
        Query(
            description="A condition `name OP value`; repeat it for more, all must hold. OP: `=` `!=` `>=` `<=` `>` "
            "`<` `~` (contains, whatever the case).",
            examples=["state=active"],
        ),
    ] = None,
    sort: Annotated[str | None, Query(description="Name to sort by; `-` in front for descending.")] = None,
    limit: Annotated[int, Query(ge=1, le=LARGEST_LIMIT, description="Items per page.")] = DEFAULT_LIMIT,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
    total: Annotated[bool, Query(description="Count all matching items.")] = False,
) -> ListQuery:
    """The parameters that every list takes."""
    return ListQuery(tuple(filter or ()), sort, limit, cursor, total)


Asked = Annotated[ListQuery, Depends(list_query)]
