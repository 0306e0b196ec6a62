"""What mTLS gateways on other machines ask: settings, decisions and changes, with the token of their ingress."""

from __future__ import annotations

import asyncio
import contextlib
from base64 import b64encode
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Query, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from intaglio.core.errors import Unauthenticated
from intaglio.mtls.access.configuration import IngressView
from intaglio.mtls.access.decision import event_of
from intaglio.mtls.access.tokens import token_hash
from intaglio.mtls.context import Mtls
from intaglio.mtls.proxy.sources.platform import facts_of, verdict_of
from intaglio.mtls.proxy.wire import LONGEST_WAIT, Changes, DecisionAnswer, DecisionRequest, GatewaySettings
from intaglio.server.management.mtls.given import GivenMtls

router = APIRouter(prefix="/mtls/v1/gateway", tags=["mTLS gateway"])

_BEARER = HTTPBearer(auto_error=False, scheme_name="ingress token", description="The token of a registered ingress.")
_Token = Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)]


async def ingress_of(request: Request, mtls: GivenMtls, bearer: _Token) -> IngressView:
    """The ingress whose token was sent. Raises Unauthenticated."""
    hashed = token_hash(bearer.credentials) if bearer is not None else None
    configuration = await mtls.decider.configuration()
    found = configuration.by_token.get(hashed) if hashed is not None else None
    if found is None:
        raise Unauthenticated(
            "This needs the token of an ingress.",
            code="ingress-token-invalid",
            remedy="Make one with: intaglio mtls ingress token",
        )
    request.scope["intaglio.caller"] = found.id.name  # for the access log
    return found


_Ingress = Annotated[IngressView, Depends(ingress_of)]


@router.get("/settings")
async def gateway_settings(ingress: _Ingress) -> GatewaySettings:
    """Mode and trust anchors of the ingress."""
    anchors = [b64encode(anchor.der).decode() for anchor in ingress.trust.anchors]
    return GatewaySettings(ingress=ingress.id.name, mode=ingress.mode, trusted=anchors)


@router.post("/decisions")
async def gateway_decision(mtls: GivenMtls, ingress: _Ingress, body: DecisionRequest) -> DecisionAnswer:
    """Decide about a connection or request that a gateway of this ingress saw."""
    facts = facts_of(ingress, body.caller, body.asked)
    decision = await mtls.decider.decide_at(ingress, facts)
    if body.record:
        kind: Literal["request", "handshake"] = "request" if body.method else "handshake"
        mtls.events.record(event_of(facts, decision, kind=kind, recorder="gateway"))
    return DecisionAnswer.of(verdict_of(decision, ingress))


@router.get("/changes")
async def gateway_changes(
    mtls: GivenMtls,
    ingress: _Ingress,
    since: Annotated[str, Query(max_length=64)] = "",
    wait: Annotated[float, Query(ge=0, le=LONGEST_WAIT)] = 0,
) -> Changes:
    """Wait, at most ``wait`` seconds, until something is other than in the state ``since``."""
    changed = asyncio.Event()
    unsubscribe = mtls.decider.subscribe(changed.set)
    try:
        if wait and _state(mtls) == since:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await changed.wait()
        state = _state(mtls)
        return Changes(state=state, changed=changed.is_set() or state != since)
    finally:
        unsubscribe()


def _state(mtls: Mtls) -> str:
    return f"{mtls.watch.epoch}.{mtls.watch.event_seq}"
