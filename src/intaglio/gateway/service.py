"""The gateway of one process: what its use cases work with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from intaglio.audit import record as audit
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.options import KeySizePolicy
from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.principal import Principal
from intaglio.gateway.callers import Access, Caller, CallerDirectory
from intaglio.gateway.connector import Connector, NativeConnector
from intaglio.gateway.errors import catalogue_entry

#: Takes the values of an audit record (``audit.record.row``) of something that did not happen.
RefusalSink = Callable[[Mapping[str, Any]], None]

_GENERATED_AT_A_TIME = 2


class Gateway:
    """Authority, connectors, callers and policies.

    Arguments: ``refusals`` takes the audit records of refused requests and must neither block nor fail;
    ``minimum_keysize`` is the key-size policy for all CAs, besides those of CA and profile.
    """

    def __init__(
        self,
        authority: Authority,
        *,
        refusals: RefusalSink | None = None,
        minimum_keysize: KeySizePolicy | None = None,
    ) -> None:
        self.authority = authority
        self.callers = CallerDirectory()
        self.minimum_keysize = minimum_keysize or KeySizePolicy()
        self.key_generation = asyncio.Semaphore(_GENERATED_AT_A_TIME)
        self._native = NativeConnector(authority)
        self._refusals = refusals

    async def snapshot(self) -> Snapshot:
        """The configuration to decide on."""
        return await self.authority.snapshot()

    async def access(self, caller: Caller, ca_id: str) -> tuple[Access, Connector]:
        """The caller's access to a CA, and the way to it. Raises Unauthenticated, Forbidden, NotFound."""
        access = caller.access(await self.snapshot(), ca_id)
        return access, self.connector(access.ca)

    def connector(self, ca: CaView) -> Connector:
        """The connector that reaches a CA."""
        return self._native

    def refused(
        self, principal: Principal, action: str, object_name: str, error: IntaglioError, **facts: Any
    ) -> None:
        """Have a refusal recorded. ``object_name`` is the CA or certificate that was asked about."""
        if self._refusals is None:
            return
        entry = catalogue_entry(error)
        self._refusals(
            audit.row(
                clock.now(),
                principal,
                action,
                "ca",
                storable(object_name),
                outcome="failed" if entry.status >= 500 else "refused",
                organization=_organization(object_name),
                code=entry.code,
                rule=error.code,
                detail=storable(error.detail),
                **facts,
            )
        )


def storable(text: str) -> str:
    """Text from outside in a form that can be stored and shown: bounded, control characters escaped."""
    shown = text[:500]
    return shown if shown.isprintable() else shown.encode("unicode_escape").decode("ascii")


def _organization(ca_id: str) -> str | None:
    organization, tilde, _ = ca_id.partition("~")
    return storable(organization) if tilde else None
