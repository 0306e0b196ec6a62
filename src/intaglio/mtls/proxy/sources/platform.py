"""Decisions of the platform in the same process: a registered ingress, live status, policies, access events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, NotFound
from intaglio.core.logging import get_logger
from intaglio.mtls.access.configuration import IngressView
from intaglio.mtls.access.decision import CertifiedIdentity, Decision, Facts, event_of
from intaglio.mtls.context import Mtls
from intaglio.mtls.proxy.decisions import Asked, Caller, Mode, OnChange, Settings, Verdict
from intaglio.transport.contexts import ServerIdentity

log = get_logger(__name__)

#: The gateway's own certificate of this moment.
IdentitySource = Callable[[], Awaitable[ServerIdentity]]


class PlatformSource:
    """A :class:`intaglio.mtls.proxy.decisions.Source` on the access decisions of this process.

    Arguments: ``ingress`` is ``{organization}~{name}`` or an id.
    """

    def __init__(
        self, mtls: Mtls, ingress: str | UUID, identity: IdentitySource, *, refuse_in_handshake: bool = True
    ) -> None:
        self._mtls, self._ingress, self._identity = mtls, ingress, identity
        self._refuse = refuse_in_handshake
        self._unsubscribe: Callable[[], None] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self, on_change: OnChange) -> None:
        def changed() -> None:
            task = asyncio.ensure_future(on_change())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._unsubscribe = self._mtls.decider.subscribe(changed)

    async def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
        for task in list(self._tasks):
            task.cancel()

    async def settings(self) -> Settings:
        view = await ingress_view(self._mtls, self._ingress)
        return settings_of(view, await self._identity(), refuse_in_handshake=self._refuse)

    async def decide(self, caller: Caller, asked: Asked, *, again: bool = False) -> Verdict:
        try:
            view = await ingress_view(self._mtls, self._ingress)
            decision = await self._mtls.decider.decide_at(view, facts_of(view, caller, asked))
        except IntaglioError as error:
            log.warning("no access decision can be made", reason=str(error))
            return Verdict(False, False, "status_unavailable", "Nothing can be decided at the moment.", status=503)
        return verdict_of(decision, view)

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        match verdict.evidence:
            case (IngressView() as view, Decision() as decision):
                event = event_of(
                    facts_of(view, caller, asked),
                    decision,
                    kind="request" if asked.method else "handshake",
                    recorder="gateway",
                )
                self._mtls.events.record(event)


def verdict_of(decision: Decision, view: IngressView) -> Verdict:
    """What the gateway has to do by a decision."""
    identity, reason = decision.identity, str(decision.reason or "")
    return Verdict(
        allowed=decision.reason is None,
        passes=decision.allowed,
        reason=reason,
        detail=decision.detail or _WORDS.get(reason, ""),
        status=decision.status,
        identity=identity.uri if identity else "",
        chain=decision.chain if identity else (),
        attributes=_attributes(identity) if identity else (),
        forward=view.forward,
        evidence=(view, decision),
    )


_WORDS = {"no_certificate": "A client certificate is required."}


def _attributes(identity: CertifiedIdentity) -> list[tuple[str, str]]:
    named = ("kind", "name", "environment", "team", "service", "version")
    return [*((name, str(getattr(identity, name))) for name in named), ("roles", ", ".join(identity.roles))]


async def ingress_view(mtls: Mtls, ingress: str | UUID) -> IngressView:
    """A registered ingress as it is now. Raises NotFound, Unavailable."""
    ingresses = (await mtls.decider.configuration()).ingresses
    for view in ingresses.values():
        if ingress in (view.id.id, view.id.name):
            return view
    raise NotFound(f'There is no ingress "{ingress}".', code="ingress-unknown", remedy="intaglio mtls ingress list")


def settings_of(view: IngressView, identity: ServerIdentity, *, refuse_in_handshake: bool) -> Settings:
    """What the TLS side of an ingress needs."""
    trusted = tuple(anchor.der for anchor in view.trust.anchors)
    return Settings(identity, trusted, Mode(view.mode), refuse_in_handshake)


def facts_of(view: IngressView, caller: Caller, asked: Asked) -> Facts:
    """What the gateway saw, in the terms of access decisions."""
    return Facts(
        ingress=view.id.id,
        source_ip=caller.source,
        at=clock.now(),
        presented=tuple(caller.peer.chain),
        host=asked.host,
        method=asked.method,
        path=asked.path,
        tls_version=caller.tls_version,
        cipher=caller.cipher,
        verify_error=caller.peer.error or "",
    )
