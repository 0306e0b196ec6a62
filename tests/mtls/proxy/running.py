"""A gateway of its own in a thread, a service behind it, and clients with all sorts of certificates."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import h11
import httpx
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from tests.server import certificates
from tests.server.certificates import Credential

from intaglio.core import clock
from intaglio.mtls.proxy.config import make_config
from intaglio.mtls.proxy.decisions import Asked, Caller, Verdict
from intaglio.mtls.proxy.limits import Limits
from intaglio.mtls.proxy.reverse_proxy import ReverseProxy
from intaglio.mtls.proxy.sources.files import FileSource
from intaglio.mtls.proxy.upstream import Upstream, address

PATIENCE = 20.0


@dataclass
class Recorded:
    """One line of the access log."""

    caller: Caller
    asked: Asked
    verdict: Verdict
    status: int | None


class RecordingSource(FileSource):
    """Decisions from files that remembers what was recorded."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.recorded: list[Recorded] = []

    def record(self, caller: Caller, asked: Asked, verdict: Verdict, *, status: int | None) -> None:
        super().record(caller, asked, verdict, status=status)
        self.recorded.append(Recorded(caller, asked, verdict, status))


@dataclass
class Pki:
    """A CA with clients, and a CA of the server side."""

    folder: Path
    authority: Credential = field(default_factory=lambda: certificates.authority("client authority"))
    server_authority: Credential = field(default_factory=lambda: certificates.authority("server authority"))
    revoked: list[int] = field(default_factory=list)
    number: int = 0

    def __post_init__(self) -> None:
        certificates.server(self.server_authority).write(self.folder, "server")
        (self.folder / "trust.pem").write_bytes(self.authority.pem)
        (self.folder / "server-ca.pem").write_bytes(self.server_authority.pem)
        self.publish()

    def client(self, name: str = "orders", *, lifetime: timedelta = timedelta(days=5)) -> Credential:
        """A client certificate with a SPIFFE-like URI."""
        uri = x509.UniformResourceIdentifier(f"spiffe://example/svc/{name}")
        return certificates.client(self.authority, name, lifetime=lifetime, names=[uri])

    def revoke(self, credential: Credential) -> None:
        self.revoked.append(credential.certificate.serial_number)
        self.publish()

    def publish(self, *, lifetime: timedelta = timedelta(hours=1), issuer: Credential | None = None) -> None:
        """Write a CRL, by way of a rename as any publisher does."""
        self.number += 1
        now = clock.now()
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.authority.certificate.subject)
            .last_update(now - timedelta(days=1))
            .next_update(now + lifetime)
            .add_extension(x509.CRLNumber(self.number), False)
        )
        for serial in self.revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
            builder = builder.add_revoked_certificate(entry)
        crl = builder.sign((issuer or self.authority).key, SHA256())
        new = self.folder / "new.crl"
        new.write_bytes(crl.public_bytes(Encoding.DER))
        os.replace(new, self.folder / "list.crl")


class Thread:
    """An event loop in a thread, so that tests can be clients that wait."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(PATIENCE)

    def close(self) -> None:
        self.run(self._cancel())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(PATIENCE)
        self.loop.close()


    async def _cancel(self) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)


class RunningGateway:
    """A gateway and its service, ready for clients."""

    def __init__(
        self,
        pki: Pki,
        *,
        limits: Limits | None = None,
        upstream: str | None = None,
        patience: float = PATIENCE,
        **decisions: Any,
    ) -> None:
        self.pki, self.folder = pki, pki.folder
        self.thread = Thread()
        self.service = Service()
        port = self.thread.run(self.service.start())
        decided = {"trust": "trust.pem", "crls": ["list.crl"], "identities": ["spiffe://example/*"], **decisions}
        found = {
            "listen": ["127.0.0.1:0"],
            "certificate": "server.pem",
            "key": "server.key",
            "upstream": {"url": f"http://127.0.0.1:{port}"},
            "decisions": decided,
        }
        self.config = make_config(found, folder=pki.folder)
        self.sockets = [listening("127.0.0.1"), listening("::1")]
        self.port = self.sockets[0].getsockname()[1]
        self.port6 = self.sockets[1].getsockname()[1]
        self.source = RecordingSource(self.config, self.config.decisions)
        where = address(upstream or self.config.upstream.url, ca_file=pki.folder / "server-ca.pem")
        self.thread.run(self._start(where, limits, patience))

    async def _start(self, where: Any, limits: Limits | None, patience: float) -> None:
        upstream = Upstream(where, patience=patience)
        self.proxy = ReverseProxy(self.sockets, self.source, upstream, limits=limits or Limits())
        await self.proxy.start()

    def close(self) -> None:
        self.thread.run(self.proxy.stop(timeout=0.1))
        self.thread.run(self.service.stop())
        self.thread.close()

    def url(self, path: str = "/") -> str:
        return f"https://localhost:{self.port}{path}"

    def tls(self, credential: Credential | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.pki.server_authority.pem.decode())
        if credential is not None:
            credential.load_into(context)
        return context

    def http(self, credential: Credential | None = None, source: str = "127.0.0.1") -> httpx.Client:
        transport = httpx.HTTPTransport(verify=self.tls(credential), local_address=source)
        return httpx.Client(transport=transport, timeout=PATIENCE)

    def get(self, credential: Credential | None, path: str = "/", **options: Any) -> httpx.Response:
        with self.http(credential) as http:
            return http.get(self.url(path), **options)

    def refusal_of(self, credential: Credential) -> str:
        """The reason code with which a client is refused, as soon as it is."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                answer = self.get(credential)
            except httpx.TransportError:
                continue  # cut in the moment of the change
            if answer.status_code != 200:
                return str(answer.json()["code"])
        raise AssertionError("the client is never refused")

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds that happens by itself."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, "did not happen"
            time.sleep(0.02)

    def connect(self, credential: Credential | None = None, alpn: list[str] | None = None) -> ssl.SSLSocket:
        context = self.tls(credential)
        if alpn:
            context.set_alpn_protocols(alpn)
        raw = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)
        return context.wrap_socket(raw, server_hostname="localhost")

    def raw(self, credential: Credential, request: bytes) -> bytes:
        """Everything that is answered to some octets, until the connection ends."""
        with self.connect(credential) as connection:
            connection.sendall(request)
            answer = b""
            try:
                while part := connection.recv(65536):
                    answer += part
            except (OSError, ssl.SSLError):
                pass
            return answer

    def recorded(self, condition: Callable[[Recorded], bool]) -> Recorded:
        """The first record that fits, waiting for it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for each in list(self.source.recorded):
                if condition(each):
                    return each
            time.sleep(0.02)
        raise AssertionError(f"not recorded; but: {self.source.recorded}")


class Service:
    """What is behind the gateway: answers with what it was asked, in JSON."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self._server: asyncio.Server | None = None

    async def start(self) -> int:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER)

        async def event() -> Any:
            while (found := connection.next_event()) is h11.NEED_DATA:
                connection.receive_data(await reader.read(65536))
            return found

        def send(*events: Any) -> None:
            for each in events:
                writer.write(connection.send(each) or b"")

        try:
            while isinstance(request := await event(), h11.Request):
                if not await self._answer(request, connection, event, send, reader, writer):
                    break
                connection.start_next_cycle()
        except (OSError, h11.ProtocolError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _answer(
        self, request: h11.Request, connection: h11.Connection, event: Any, send: Any, reader: Any, writer: Any
    ) -> bool:
        path = request.target.partition(b"?")[0]
        if path == b"/early":
            send(h11.Response(status_code=403, headers=[("content-length", "2")]))
            send(h11.Data(data=b"no"), h11.EndOfMessage())
            return False
        if path == b"/upgrade":
            send(h11.InformationalResponse(status_code=101, headers=[("connection", "upgrade"), ("upgrade", "echo")]))
            writer.write(connection.trailing_data[0])
            while data := await reader.read(65536):
                writer.write(data)
            return False
        octets = 0
        while not isinstance(part := await event(), h11.EndOfMessage):
            octets += len(part.data)
        headers = [(name.decode(), value.decode("latin-1")) for name, value in request.headers]
        method, target = request.method.decode(), request.target.decode()
        found = {"method": method, "target": target, "headers": headers, "octets": octets}
        self.requests.append(found)
        if path == b"/silent":
            await asyncio.Event().wait()
        if path == b"/broken":
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort")
            return False
        if path == b"/stream":
            send(h11.Response(status_code=200, headers=[("content-type", "text/plain")]))
            for number in range(10_000):
                send(h11.Data(data=b"%d\n" % number))
                await writer.drain()
                if b"slow" in request.target:
                    await asyncio.sleep(0.05)
            send(h11.EndOfMessage())
            return True
        body = json.dumps(found).encode()
        length = ("content-length", str(len(body)))
        extra = [("x-answer", "yes"), ("connection", "x-hop"), ("x-hop", "internal")]
        send(h11.Response(status_code=200, headers=[length, *extra]))
        send(*([] if request.method == b"HEAD" else [h11.Data(data=body)]), h11.EndOfMessage())
        return True


def listening(host: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.bind((host, 0))
    listening.listen()
    listening.setblocking(False)
    return listening
