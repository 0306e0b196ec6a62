"""Real TLS: servers that accept, servers that refuse and why, and a switch under load without a failed call."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import subprocess
from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr
from tests.mtls.outbound.conftest import PASSWORD, Partner
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.outgoing import list_networks
from tests.support.programs import program

from intaglio.core.errors import Refused
from intaglio.mtls.context import Mtls
from intaglio.mtls.outbound import client as outbound
from intaglio.mtls.outbound import rotation, service
from intaglio.mtls.outbound.alerts import explained
from intaglio.mtls.outbound.values import NewOutbound


@contextlib.asynccontextmanager
async def serving(partner: Partner, *options: str) -> AsyncIterator[int]:
    """`openssl s_server` of the partner on a free port; demands a client certificate and verifies it."""
    command = [
        program("openssl"), "s_server", "-accept", "127.0.0.1:0", "-key", "server.key", "-cert", "server.pem",
        "-Verify", "2", "-verify_return_error", *options,
    ]  # fmt: skip
    pipe = subprocess.PIPE
    process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once, and its first lines are all that is waited for
        command, cwd=partner.folder, stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith(b"ACCEPT"):
                yield int(line.rpartition(b":")[2])
                break
    finally:
        process.kill()
        process.communicate()


async def _given(mtls: Mtls, partner: Partner, data: bytes | None = None, **options: str) -> None:
    await list_networks(mtls.database)
    values = {"host_pattern": "localhost", "server_ca": partner.server_ca, **options}
    await service.create(mtls, OPERATOR, "demo", NewOutbound("api", **values))  # type: ignore[arg-type]
    if data is None:
        data = partner.pkcs12("client")
    await service.import_pkcs12(mtls, OPERATOR, "demo", "api", data, SecretStr(PASSWORD))


async def _tried(mtls: Mtls, port: int) -> str:
    tested = await outbound.try_connection(mtls, OPERATOR, "demo", "api", "localhost", port)
    return tested.failure.code if tested.failure else f"ok {tested.tls_version} {tested.server_subject}"


@pytest.mark.parametrize(("option", "version"), [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")])
async def test_a_server_that_knows_us_lets_us_in(
    mtls: Mtls, organization: str, partner: Partner, option: str, version: str
) -> None:
    await _given(mtls, partner)
    async with serving(partner, "-CAfile", "root.pem", option) as port:
        assert await _tried(mtls, port) == f"ok {version} CN=localhost"


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
async def test_a_server_that_does_not_know_our_ca_says_so(
    mtls: Mtls, organization: str, partner: Partner, option: str
) -> None:
    await _given(mtls, partner, partner.pkcs12("stranger", signed=False))
    async with serving(partner, "-CAfile", "root.pem", option) as port:
        assert await _tried(mtls, port) == "unknown_ca"


async def test_an_unknown_server_gets_nothing_from_us(mtls: Mtls, organization: str, partner: Partner) -> None:
    await _given(mtls, partner, server_ca=partner.client("other", signed=False).read_text())
    async with serving(partner, "-CAfile", "root.pem") as port:
        assert await _tried(mtls, port) == "server_untrusted"


async def test_the_name_of_the_server_is_verified_and_may_be_another(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    await _given(mtls, partner, host_pattern="127.0.0.1")
    async with serving(partner, "-CAfile", "root.pem") as port:
        tested = await outbound.try_connection(mtls, OPERATOR, "demo", "api", "127.0.0.1", port)
        assert tested.failure is not None
        assert tested.failure.code == "server_wrong_name"
        await service.retire(mtls, OPERATOR, "demo", "api")
        wanted = NewOutbound("other", "127.0.0.1", server_ca=partner.server_ca, sni="localhost")
        await service.create(mtls, OPERATOR, "demo", wanted)
        data = partner.pkcs12("client")
        await service.import_pkcs12(mtls, OPERATOR, "demo", "other", data, SecretStr(PASSWORD))
        tested = await outbound.try_connection(mtls, OPERATOR, "demo", "other", "127.0.0.1", port)
        assert tested.failure is None


async def test_an_old_server_is_refused_by_the_lowest_version(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    await _given(mtls, partner, minimum_tls="1.3")
    async with serving(partner, "-CAfile", "root.pem", "-tls1_2") as port:
        assert await _tried(mtls, port) == "protocol_version"


async def test_another_host_never_sees_the_credential(mtls: Mtls, organization: str, partner: Partner) -> None:
    await _given(mtls, partner)
    with pytest.raises(Refused) as refusal:
        await outbound.try_connection(mtls, OPERATOR, "demo", "api", "evil.example", 443)
    assert refusal.value.code == "host-not-allowed"
    async with outbound.client(mtls, "demo", "api") as http:
        for url in ("https://evil.example/", "http://localhost/"):
            with pytest.raises(Refused):
                await http.get(url)


async def test_servers_that_only_we_can_reach_are_not_called(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    """Who keeps the credentials of an organization must not explore the network of the platform with them."""
    await _given(mtls, partner)
    await list_networks(mtls.database, "10.0.0.0/8")
    async with http_server(partner) as (port, callers):
        with pytest.raises(Refused) as refusal:
            await outbound.try_connection(mtls, OPERATOR, "demo", "api", "localhost", port)
        assert refusal.value.code == "address-not-allowed"
        async with outbound.client(mtls, "demo", "api") as http:
            with pytest.raises(Refused):
                await http.get(f"https://localhost:{port}/")
        assert callers == []


async def test_an_unreachable_server_is_named(mtls: Mtls, organization: str, partner: Partner) -> None:
    import socket

    await _given(mtls, partner)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert await _tried(mtls, port) == "unreachable"


async def test_what_can_be_no_host_is_refused(mtls: Mtls, organization: str, partner: Partner) -> None:
    await _given(mtls, partner, host_pattern="*.example")
    for host in (f"{'a' * 70}.example", "\x00.example", "\u2028.example", ".example", "*.example"):
        with pytest.raises(Refused) as refusal:
            await outbound.try_connection(mtls, OPERATOR, "demo", "api", host)
        assert refusal.value.code == "host-not-allowed"


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", "unknown_ca"), ("TLSV13_ALERT_CERTIFICATE_REQUIRED", "certificate_required"),
        ("SSLV3_ALERT_BAD_CERTIFICATE", "bad_certificate"), ("SSLV3_ALERT_CERTIFICATE_EXPIRED", "certificate_expired"),
        ("SSLV3_ALERT_CERTIFICATE_REVOKED", "certificate_revoked"), ("TLSV1_ALERT_ACCESS_DENIED", "access_denied"),
        ("SSLV3_ALERT_HANDSHAKE_FAILURE", "handshake_failure"), ("TLSV1_ALERT_DECRYPT_ERROR", "decrypt_error"),
        ("SSLV3_ALERT_UNSUPPORTED_CERTIFICATE", "unsupported_certificate"), ("SOMETHING_NEW", "tls_failure"),
    ],
)  # fmt: skip
def test_every_alert_has_words_of_its_own(reason: str, code: str) -> None:
    error = ssl.SSLError(1, "x")
    error.reason = reason
    found = explained(error)
    assert found.code == code
    assert found.why.endswith(".")
    assert found.remedy


@contextlib.asynccontextmanager
async def http_server(partner: Partner) -> AsyncIterator[tuple[int, list[str]]]:
    """An HTTPS server that demands a certificate of the partner's CA and notes who calls."""
    callers: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            subject = dict(pair[0] for pair in writer.get_extra_info("peercert")["subject"])
            callers.append(subject["commonName"])
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok")
            await writer.drain()
            writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(partner.folder / "root.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(partner.folder / "server.pem", partner.folder / "server.key")
    server = await asyncio.start_server(answer, "localhost", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], callers


async def test_no_call_fails_while_the_credential_is_switched(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    await _given(mtls, partner)
    second = partner.pkcs12("second")
    done = asyncio.Event()
    failures: list[object] = []
    async with http_server(partner) as (port, callers):

        async def call() -> None:
            while not done.is_set():
                try:
                    async with outbound.client(mtls, "demo", "api") as http:
                        for _ in range(3):
                            response = await http.get(f"https://localhost:{port}/")
                            if response.status_code != 200:
                                failures.append(response.status_code)
                except httpx.HTTPError as error:
                    failures.append(error)

        async def switch() -> None:
            try:
                await eventually(lambda: callers.count("client") >= 20, timeout=30)
                await service.import_pkcs12(mtls, OPERATOR, "demo", "api", second, SecretStr(PASSWORD))
                await rotation.switch(mtls, OPERATOR, "demo", "api", reason="The partner trusts the CA of both.")
                await eventually(lambda: callers.count("second") >= 20, timeout=30)
            finally:
                done.set()

        async with asyncio.timeout(60):
            await asyncio.gather(switch(), *(call() for _ in range(4)))
    assert failures == []
    assert set(callers) == {"client", "second"}
