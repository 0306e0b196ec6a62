"""Whether an ingress takes a certificate: asked over the network as a client, or of the decisions it enforces."""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, InvalidInput, Refused
from intaglio.core.outgoing import PUBLIC_ONLY, Guard
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.mtls.access.values import Facts, ReasonCode
from intaglio.mtls.context import Mtls
from intaglio.mtls.posture.state import inside_of
from intaglio.mtls.scenarios.credentials import Held
from intaglio.platform import outgoing
from intaglio.transport.contexts import client_context

ACCEPTED: Final = "accepted"
#: Description of ingresses that exist for a drill only.
MADE_BY_DRILL: Final = "Made by a drill; retired when it ends."
_PATIENCE, _MOST_OCTETS, _PAUSE = 5.0, 65_536, 0.2
#: HTTP statuses with which enforcement points refuse certificates; nginx has 400, 495 and 496 of its own.
_REFUSING = frozenset({400, 401, 403, 495, 496})
_MOST_TARGETS = 100


@dataclass(frozen=True)
class Network:
    """Where ingresses are reached: URLs by name of the ingress, and what vouches for their servers (PEM)."""

    urls: Mapping[str, str]
    authority: bytes

    def __post_init__(self) -> None:
        if len(self.urls) > _MOST_TARGETS:
            raise InvalidInput(f"A drill connects to at most {_MOST_TARGETS} ingresses.", target="connect")
        for url in self.urls.values():
            parts = urlsplit(url)
            if parts.scheme != "https" or not parts.hostname or parts.username:
                raise InvalidInput(
                    f'"{url[:80]}" cannot be connected to.', remedy="Write https://host:port/.", target="connect"
                )
        if self.urls and not self.authority:
            raise InvalidInput(
                "To connect, the CA certificate of the servers is needed.", remedy="Give it as PEM.", target="server_ca"
            )


    async def require_admitted(self, guard: Guard) -> None:
        """Raise Refused (``address-not-allowed``) for a URL at an address that nobody may have us connect to."""
        for url in self.urls.values():
            parts = urlsplit(url)
            with contextlib.suppress(OSError):  # that it has no address is seen by the drill
                await guard.resolve(parts.hostname or "", parts.port or 443)


NOWHERE: Final = Network({}, b"")


@dataclass(frozen=True)
class Probe:
    """How one ingress is asked. ``url`` empty: its decisions are asked in this process; otherwise ``guard`` says at
    which addresses it is looked for."""

    mtls: Mtls
    ingress: Ingress
    url: str = ""
    authority: bytes = b""
    guard: Guard = PUBLIC_ONLY

    @property
    def measures(self) -> bool:
        """Whether what is seen here is what the ingress does. One that decides by itself, from CRLs or OCSP answers,
        has to be connected to."""
        return bool(self.url) or self.ingress.revocation_source == "live" or self.ingress.type == "gateway"

    async def ask(self, held: Held) -> str:
        """``accepted``, or how the certificate was refused."""
        return await (self._connect(held) if self.url else self._decide(held))

    async def until_refused(self, held: Held, began: float, sla: float) -> tuple[str, float]:
        """Ask again and again until it is refused or ``sla`` seconds have passed since ``began``: the last answer, and
        the seconds."""
        while True:
            seen = await self.ask(held)
            since = monotonic() - began
            if seen != ACCEPTED or since > sla:
                return seen, round(since, 3)
            await asyncio.sleep(_PAUSE)

    async def _decide(self, held: Held) -> str:
        facts = Facts(self.ingress.id, inside_of(self.ingress.ip_rule), clock.now(), (held.der,))
        try:
            decision = await self.mtls.decider.decide(facts)
        except IntaglioError as error:
            return error.code
        if decision.certificate_reason is None:
            return ACCEPTED
        return str(decision.certificate_reason) if not decision.allowed else f"let in ({decision.mode})"

    async def _connect(self, held: Held) -> str:
        tls = client_context(self.authority, held.identity)
        try:
            async with (
                outgoing.http_client(self.guard, tls, timeout=_PATIENCE) as http,
                http.stream("GET", self.url) as answer,
            ):
                return await _verdict(answer)
        except Refused as error:  # the name leads elsewhere than when the drill began
            return f"no connection: {error.code}"
        except (httpx.HTTPError, OSError, ssl.SSLError) as error:
            return f"no connection: {_words(error)}"


async def _verdict(answer: httpx.Response) -> str:
    if answer.status_code not in _REFUSING:
        return ACCEPTED
    body = b""
    async for part in answer.aiter_raw():
        body += part
        if len(body) > _MOST_OCTETS:
            break
    with contextlib.suppress(ValueError, AttributeError, RecursionError):
        code = str(json.loads(body).get("code", ""))
        if code in (ReasonCode.POLICY_DENIED, ReasonCode.IP_DENIED):
            return ACCEPTED  # the certificate itself was good
        if code in set(ReasonCode):
            return code
    return f"status {answer.status_code}"


def _words(error: BaseException) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError) and cause.reason:
            return cause.reason.lower().replace("_", " ")
        cause = cause.__cause__ or cause.__context__
    return type(error).__name__
