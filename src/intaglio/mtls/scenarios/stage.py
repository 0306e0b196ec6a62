"""What a scenario is played on: a trust domain, identities, an ingress with its gateway, and a service behind it."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import socket
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

from cryptography import x509

from intaglio.authority.organizations import create_organization
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, NotFound, StateConflict, Unavailable
from intaglio.core.principal import Principal
from intaglio.mtls.access.ingress_values import NewIngress
from intaglio.mtls.access.ingresses import create_ingress, retire_ingress
from intaglio.mtls.access.policies import NewPolicy, activate, put_policy
from intaglio.mtls.context import Mtls
from intaglio.mtls.identities import domains, registry
from intaglio.mtls.identities.authorities import NewCaWish
from intaglio.mtls.identities.issuing import issue_identity
from intaglio.mtls.identities.values import Channel, Identity, IssuedIdentity
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.sources.platform import PlatformSource, ingress_view
from intaglio.mtls.proxy.upstream import Upstream, address
from intaglio.mtls.scenarios.clients import ask
from intaglio.mtls.scenarios.credentials import Held, make_authority, make_leaf, new_key, new_request
from intaglio.mtls.scenarios.service import LoopbackService
from intaglio.mtls.scenarios.values import Row
from intaglio.transport.contexts import ServerIdentity
from intaglio.x509.certificates import pem

ORGANIZATION = "scenarios"
DOMAIN, OTHER_DOMAIN = "scenario.internal", "scenario-other.internal"
_PATIENCE = 15.0


class Stage:
    """Where one scenario is played; use as an asynchronous context manager.

    Arguments: ``tell`` gets every row as it is known, and words about what is being done; ``count`` is how many
    services the largest scenario has.
    """

    def __init__(
        self, mtls: Mtls, principal: Principal, name: str, tell: Callable[[Row | str], None], *, count: int = 2000
    ) -> None:
        self.mtls, self.principal, self.name, self.count = mtls, principal, name, count
        self.ingress = ""
        self.rows: list[Row] = []
        self.figures: dict[str, float] = {}
        self.server_authority = make_authority("scenario server authority")
        self._tell = tell
        self._undo = contextlib.AsyncExitStack()
        self._port = 0

    async def __aenter__(self) -> Stage:
        await self._organization()
        await self._domain(DOMAIN, "scenario")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._undo.aclose()

    def say(self, text: str) -> None:
        """Say what is being done."""
        self._tell(text)

    @property
    def port(self) -> int:
        """Where the gateway listens."""
        return self._port

    # ---- rows ----------------------------------------------------------------------------------------------------

    def note(self, step: str, source: str, presents: str, expected: str, observed: str) -> None:
        """Add a row."""
        row = Row(step, source, presents, expected, observed)
        self.rows.append(row)
        self._tell(row)

    async def expect(
        self, step: str, expected: str, *, source: str, held: Held | None = None, presents: str = "", path: str = "/"
    ) -> None:
        """Ask through the gateway from ``source``, and compare."""
        observed = await ask(self._port, self.server_authority.pem, held, source=source, path=path)
        self.note(step, source, presents or (held.name if held else "no certificate"), expected, observed)

    # ---- identities ----------------------------------------------------------------------------------------------

    async def identity(self, kind: str, name: str, *, domain: str = DOMAIN, **attributes: Any) -> Identity:
        """An identity, registered when it is not yet."""
        values: dict[str, Any] = {"team": "scenario", **attributes}
        with contextlib.suppress(NotFound):
            return await registry.get_identity(self.mtls, self.principal, f"{kind}:{name}@{domain}")
        wanted = registry.NewIdentity(domain, kind, name, **values)
        return await registry.add_identity(self.mtls, self.principal, wanted)

    async def certified(self, kind: str, name: str, *, lifetime: timedelta | None = None, **values: Any) -> Held:
        """A certificate with its key for an identity."""
        return await self.credential(await self.identity(kind, name, **values), lifetime=lifetime)

    async def credential(self, identity: Identity, *, lifetime: timedelta | None = None) -> Held:
        key = new_key()
        issued = await issue_identity(
            self.mtls, self.principal, identity, new_request(key), channel=Channel.DRILL, lifetime=lifetime
        )
        return held_of(issued, key)

    async def other_environment(self) -> None:
        """A second environment with CAs of its own."""
        await self._domain(OTHER_DOMAIN, "scenario-other")

    # ---- the gateway ---------------------------------------------------------------------------------------------

    async def open(self, policy: str, *, networks: Sequence[str] | None) -> None:
        """Register an ingress with a policy (short form) and an IP rule, and run its gateway on loopback."""
        await put_policy(self.mtls, self.principal, NewPolicy(self.name, ORGANIZATION, policy))
        await activate(self.mtls, self.principal, f"{ORGANIZATION}~{self.name}")
        wanted = NewIngress(
            f"{self.name}-{secrets.token_hex(4)}", ORGANIZATION, DOMAIN, type="gateway", mode="enforce",
            ip_rule=networks, policy=self.name, description="Made by a scenario; retired when it ends.",
        )  # fmt: skip
        made = (await create_ingress(self.mtls, self.principal, wanted)).ingress
        self._undo.push_async_callback(retire_ingress, self.mtls, self.principal, made.full_name)
        self.ingress = made.full_name
        await self._known(made.full_name)
        service = LoopbackService()
        upstream = Upstream(address(f"http://127.0.0.1:{await service.start()}"))
        self._undo.push_async_callback(service.stop)
        server = make_leaf(self.server_authority, "scenario gateway", "server").identity
        source = PlatformSource(self.mtls, made.id, _always(server), refuse_in_handshake=False)
        proxy = ReverseProxy([_listening()], source, upstream)
        self._undo.push_async_callback(proxy.stop, timeout=0)
        await proxy.start()
        self._port = proxy.addresses[0][1]

    async def _known(self, ingress: str) -> None:
        """Wait until this process has heard of the ingress."""
        deadline = monotonic() + _PATIENCE
        while True:
            try:
                await ingress_view(self.mtls, ingress)
                return
            except IntaglioError:
                if monotonic() > deadline:
                    raise Unavailable("The new ingress does not become known.", code="scenario-stuck") from None
            await asyncio.sleep(0.05)

    async def _organization(self) -> None:
        try:
            await create_organization(
                self.mtls.authority, self.principal, ORGANIZATION, description="What the mTLS scenarios are played in"
            )
        except StateConflict:
            return  # it is there from an earlier run

    async def _domain(self, name: str, environment: str) -> None:
        with contextlib.suppress(NotFound):
            await domains.get_domain(self.mtls, self.principal, name)
            return
        self.say(f"Making the CAs of {name} ...")
        await domains.create_domain(
            self.mtls, self.principal, domains.NewDomain(name, environment, ORGANIZATION, new_ca=NewCaWish())
        )


def held_of(issued: IssuedIdentity, key: Any) -> Held:
    """A certificate of the platform in the hands of a client."""
    certificate = x509.load_der_x509_certificate(issued.certificate)
    identity = issued.identity
    issuers = tuple(pem(each).encode() for each in issued.chain)
    return Held(f"{identity.kind} {identity.name}", certificate, key, issuers)


def _always(identity: ServerIdentity) -> Callable[[], Any]:
    async def source() -> ServerIdentity:
        return identity

    return source


def _listening() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening
