"""TLS and mutual TLS side by side: the same clients at both, and a client that looks at the server, too.

Everything is made up on the spot (authorities, certificates, a revocation list) and runs on loopback; no server and no
database is needed. The endpoints are the product's own gateway, once asking for no certificate and once enforcing.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from intaglio.core import clock
from intaglio.mtls.proxy.config import ByFiles, make_config
from intaglio.mtls.proxy.running import make_proxy
from intaglio.mtls.proxy.sources.files import FileSource
from intaglio.mtls.scenarios.clients import ask, replay
from intaglio.mtls.scenarios.credentials import Held, make_authority, make_leaf
from intaglio.mtls.scenarios.service import LoopbackService
from intaglio.mtls.scenarios.values import Row
from intaglio.transport.contexts import ServerIdentity, server_context

_SOURCE = "127.0.0.1"
_PAST = timedelta(days=-1)
_DISTRUSTED = "no connection: certificate verify failed"


async def compare(tell: Callable[[Row], None]) -> list[Row]:
    """Run all combinations; ``tell`` gets every row as it is known. Returns them all."""
    rows: list[Row] = []

    def note(step: str, presents: str, expected: str, observed: str) -> None:
        rows.append(Row(step, _SOURCE, presents, expected, observed))
        tell(rows[-1])

    with tempfile.TemporaryDirectory(prefix="intaglio-demo-") as name:
        world = _World(Path(name))
        async with contextlib.AsyncExitStack() as stack:
            service = LoopbackService()
            stack.push_async_callback(service.stop)
            behind = await service.start()
            plain = await _gateway(stack, world, behind, "off")
            mutual = await _gateway(stack, world, behind, "enforce")
            for presents, held, reason in world.clients():
                for step, port, expected in (("TLS", plain, "200"), ("mutual TLS", mutual, reason)):
                    note(step, presents, expected, await ask(port, world.server_pem, held, source=_SOURCE))
            replayed = await replay(mutual, world.server_pem, world.good, source=_SOURCE)
            note("mutual TLS", "a recorded handshake, replayed without the key", "refused", replayed)
            for presents, server in world.servers():
                port = await _bare(stack, server.identity)
                observed = await ask(port, world.server_pem, world.good, source=_SOURCE)
                note("the client looks at the server", presents, _DISTRUSTED, observed)
    return rows


class _World:
    """Authorities, certificates and a revocation list in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority, self.server_authority = make_authority("demo clients"), make_authority("demo servers")
        self.good, self.revoked = self._client("orders"), self._client("stolen")
        self.server_pem = self.server_authority.pem
        own = make_leaf(self.server_authority, "demo gateway", "server").identity
        files = {"server.pem": own.chain, "server.key": own.key, "trust.pem": self.authority.pem}
        for name, data in {**files, "list.crl": self._revocation_list()}.items():
            path = folder / name
            path.touch(0o600)
            path.write_bytes(data)

    def clients(self) -> list[tuple[str, Held | None, str]]:
        """What clients present, and what mutual TLS has to make of it."""
        uri = "spiffe://demo/svc/orders"
        return [
            ("no certificate", None, "no_certificate"),
            ("valid certificate", self.good, "200"),
            ("expired certificate", make_leaf(self.authority, "orders", lifetime=_PAST, uri=uri), "expired"),
            ("self-signed certificate", make_leaf(None, "orders", uri=uri), "self_signed"),
            ("certificate of another CA", make_leaf(make_authority("another"), "orders", uri=uri), "unknown_ca"),
            ("certificate for servers", make_leaf(self.authority, "orders", "server", uri=uri), "bad_purpose"),
            ("revoked certificate", self.revoked, "revoked"),
        ]

    def servers(self) -> list[tuple[str, Held]]:
        """Certificates with which a server must not get away."""
        ours = self.server_authority
        return [
            ("server of an unknown CA", make_leaf(make_authority("impostor"), "localhost", "server")),
            ("server with an expired certificate", make_leaf(ours, "localhost", "server", lifetime=_PAST)),
            ("server of another name", make_leaf(ours, "other", "server", host="other.example")),
        ]

    def _client(self, name: str) -> Held:
        return make_leaf(self.authority, name, uri=f"spiffe://demo/svc/{name}")

    def _revocation_list(self) -> bytes:
        now = clock.now()
        serial = self.revoked.certificate.serial_number
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.authority.certificate.subject)
            .last_update(now - timedelta(minutes=1))
            .next_update(now + timedelta(hours=1))
            .add_revoked_certificate(entry)
        )
        return builder.sign(self.authority.key, SHA256()).public_bytes(Encoding.DER)


async def _gateway(stack: contextlib.AsyncExitStack, world: _World, behind: int, mode: str) -> int:
    decisions = {
        "trust": "trust.pem", "crls": ["list.crl"], "identities": ["spiffe://demo/*"], "mode": mode,
        "refuse_in_handshake": False,
    }  # fmt: skip
    found = {"listen": ["127.0.0.1:0"], "certificate": "server.pem", "key": "server.key", "decisions": decisions}
    config = make_config({**found, "upstream": {"url": f"http://127.0.0.1:{behind}"}}, folder=world.folder)
    assert isinstance(config.decisions, ByFiles)
    proxy = make_proxy(config, FileSource(config, config.decisions), [_listening()])
    stack.push_async_callback(proxy.stop, timeout=0)
    await proxy.start()
    return proxy.addresses[0][1]


async def _bare(stack: contextlib.AsyncExitStack, identity: ServerIdentity) -> int:
    """A server that answers nothing: its clients must not come that far."""

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(accepted, sock=_listening(), ssl=server_context(identity))
    stack.callback(server.close)
    return int(server.sockets[0].getsockname()[1])


def _listening() -> socket.socket:
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening
