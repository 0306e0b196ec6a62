"""``/eva/health``: can answers be given, and how current is what they say."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from datetime import datetime
from typing import Any
from uuid import UUID

from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.validation.conditional import Document, Receive, Scope, Send, document, plain
from intaglio.validation.ocsp.issuers import Issuer
from intaglio.validation.ocsp.responder import Responder
from intaglio.validation.ocsp.signers import Signing
from intaglio.validation.signers.values import ends_soon
from intaglio.validation.sources.freshness import State, states

_CHECK_TIME = 2.0  # seconds a part may take to answer
_REPEAT = 1.0  # seconds for which what was found is told again: a monitor must not be a burden
_NOT_ALLOWED = plain("Use GET or HEAD.", (b"allow", b"GET, HEAD"))


class HealthApp:
    """ASGI application of one path. 503 while the database or a signing key fails; a source that is not current only
    concerns its own authority, and is told in the body."""

    def __init__(self, authority: Authority, responder: Responder) -> None:
        self._authority = authority
        self._responder = responder
        self._found: tuple[int, Document] | None = None
        self._found_at = float("-inf")
        self._looking = asyncio.Lock()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in ("GET", "HEAD"):
            await _NOT_ALLOWED.send(send, 405)
            return
        async with self._looking:
            if self._found is None or monotonic() - self._found_at >= _REPEAT:
                self._found, self._found_at = await self._look(), monotonic()
        status, body = self._found
        await body.send(send, status, head=scope["method"] == "HEAD")

    async def _look(self) -> tuple[int, Document]:
        database, keys = await self._check_database(), await self._check_keys()
        up = database["status"] == "UP" and keys["status"] == "UP"
        found = {
            "status": "UP" if up else "DOWN",
            "checks": {"database": database, "keys": keys},
            "sources": await self._sources() if database["status"] == "UP" else {},
        }
        return 200 if up else 503, document(json.dumps(found, indent=1).encode() + b"\n", b"application/json")

    async def _check_database(self) -> dict[str, Any]:
        return _told(await _attempt(self._authority.database.ping()))

    async def _check_keys(self) -> dict[str, Any]:
        """One signature with every key that can be away: anybody may ask for health, so it must not cost more."""
        if not self._responder.current:
            await _attempt(self._responder.catch_up())
        whose: dict[UUID, list[str]] = {}
        keys: dict[UUID, Signing] = {}
        failed: dict[str, str] = {}

        async def find(issuer: Issuer) -> None:
            signing = await self._responder.signer_of(issuer)
            whose.setdefault(signing.signer.key_id, []).append(issuer.name)
            keys[signing.signer.key_id] = signing

        issuers = [issuer for issuer in self._responder.issuers if issuer.authority_id is not None]
        missing = await asyncio.gather(*(_attempt(find(issuer)) for issuer in issuers))
        failed |= {issuer.name: reason for issuer, reason in zip(issuers, missing, strict=True) if reason}
        # A key in memory was proved when it was loaded.
        tried = [(key_id, signing) for key_id, signing in keys.items() if not signing.signer.inline]
        found = await asyncio.gather(*(_attempt(self._responder.probe(signing)) for _, signing in tried))
        for (key_id, _), reason in zip(tried, found, strict=True):
            if reason:
                failed |= dict.fromkeys(whose[key_id], reason)
        ending = {name: _end(keys[key_id]) for key_id, names in whose.items() for name in names if _ends(keys[key_id])}
        return {
            **_told(next(iter(failed.values()), None)),
            **({"authorities": failed} if failed else {}),
            **({"warnings": ending} if ending else {}),
        }

    async def _sources(self) -> dict[str, Any]:
        names = {issuer.authority_id: issuer.name for issuer in self._responder.issuers if issuer.authority_id}
        async with self._authority.database.read() as view:
            found = await states(view, clock.now())
        return {names[key]: _source(state) for key, state in sorted(found.items()) if key in names}


def _ends(signing: Signing) -> bool:
    return ends_soon(signing.not_after, clock.now(), renews_itself=signing.issuing_ca is not None)


def _end(signing: Signing) -> str:
    return f"The certificate of the signer ends on {signing.not_after:%Y-%m-%d}."


def _source(state: State) -> dict[str, Any]:
    reason = state.reason_at(clock.now())
    return {
        "status": "CURRENT" if reason is None else "STALE",
        "complete": state.complete,
        "thisUpdate": _moment(state.this_update),
        "nextUpdate": _moment(state.next_update),
        "lastSuccess": _moment(state.last_ok_at),
        **({} if reason is None else {"reason": reason}),
    }


def _moment(moment: datetime | None) -> str | None:
    return None if moment is None else moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _told(reason: str | None) -> dict[str, Any]:
    return {"status": "UP"} if reason is None else {"status": "DOWN", "reason": reason}


async def _attempt(work: Awaitable[object]) -> str | None:
    """Why something does not work (a stable code), None when it does."""
    try:
        async with asyncio.timeout(_CHECK_TIME):
            await work
    except IntaglioError as error:
        return error.code
    except TimeoutError:
        return "timeout"
    return None
