"""Alerts arrive at servers that are not ours: rsyslog over each transport, a mail server with accounts, a webhook that
demands a client certificate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.mtls.access.conftest import House
from tests.mtls.alerts.test_alerts import configure, listed, sighting
from tests.mtls.enrolment.conftest import Mailbox, mailbox, set_live
from tests.mtls.outbound.conftest import PASSWORD, Partner, partner
from tests.support.authority import OPERATOR
from tests.support.eventually import eventually
from tests.support.outgoing import list_networks
from tests.support.programs import program

from intaglio.mtls.enrolment.stored_secrets import Secret, set_secret
from intaglio.mtls.observation import alert_upkeep, alerts
from intaglio.mtls.outbound import service
from intaglio.mtls.outbound.values import NewOutbound
from intaglio.mtls.scenarios.credentials import make_authority, make_leaf

__all__ = ["mailbox", "partner"]

_INPUTS = {
    "udp": 'module(load="imudp")\ninput(type="imudp" address="127.0.0.1" port="{port}")',
    "tcp": 'module(load="imtcp")\ninput(type="imtcp" address="127.0.0.1" port="{port}")',
    "tls": (
        'module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")\n'
        'input(type="imtcp" address="127.0.0.1" port="{port}")'
    ),
}
#: rsyslog's own reading of a message, one JSON object a line.
_CONFIGURATION = """\
global(
  workDirectory="{folder}" defaultNetstreamDriverCAFile="{folder}/ca.pem"
  defaultNetstreamDriverCertFile="{folder}/server.pem" defaultNetstreamDriverKeyFile="{folder}/server.key"
)
template(name="parsed" type="list" option.jsonf="on") {{
  property(outname="facility" name="syslogfacility-text" format="jsonf")
  property(outname="severity" name="syslogseverity-text" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="id" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="text" name="msg" format="jsonf")
}}
{inputs}
action(type="omfile" file="{folder}/got" template="parsed")
"""


@contextlib.asynccontextmanager
async def rsyslog(folder: Path, transport: str) -> AsyncIterator[int]:
    """A real rsyslogd that writes what it understood to ``folder / "got"``; its port."""
    authority = make_authority("log authority")
    server = make_leaf(authority, "log server", "server")
    (folder / "ca.pem").write_bytes(authority.pem)
    (folder / "server.pem").write_bytes(server.pem)
    (folder / "server.key").write_bytes(server.identity.key)
    kind = socket.SOCK_DGRAM if transport == "udp" else socket.SOCK_STREAM
    with socket.socket(type=kind) as bound:
        bound.bind(("127.0.0.1", 0))
        port = int(bound.getsockname()[1])
    inputs = _INPUTS[transport].format(port=port)
    (folder / "rsyslog.conf").write_text(_CONFIGURATION.format(folder=folder, inputs=inputs))
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: ASYNC220 - it starts at once
            [program("rsyslogd"), "-n", "-i", "NONE", "-f", str(folder / "rsyslog.conf")], stdout=log, stderr=log
        )
    try:
        await eventually(lambda: is_bound(port, udp=transport == "udp"))
        yield port
    finally:
        process.terminate()
        process.wait(30)


def is_bound(port: int, *, udp: bool) -> bool:
    """Whether the port of the loopback address is in use. Source: proc(5), /proc/net."""
    shown = Path("/proc/net/udp" if udp else "/proc/net/tcp").read_text()
    return f":{port:04X} 00000000:" in shown


def understood(folder: Path) -> list[dict[str, str]]:
    with contextlib.suppress(FileNotFoundError):
        return [json.loads(each) for each in (folder / "got").read_text().splitlines() if each.strip()]
    return []


async def fire(house: House) -> int:
    async with house.mtls.database.transaction() as tx:
        await alerts.open_alert(tx, sighting(house))
    return await alert_upkeep.deliver(house.mtls)


@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
async def test_rsyslog_understands_what_it_gets(house: House, tmp_path: Path, transport: str) -> None:
    async with rsyslog(tmp_path, transport) as port:
        where = f"{transport}://127.0.0.1:{port}"
        await configure(house, syslog=where, syslog_ca_file=str(tmp_path / "ca.pem"))
        assert await fire(house) == 1
        await eventually(lambda: bool(understood(tmp_path)))
    (one,) = understood(tmp_path)
    assert (one["severity"], one["app"], one["id"]) == ("warning", "intaglio", "unknown-ca")
    assert 'organization="demo"' in one["data"]
    assert one["text"].strip() == "Seen."


async def test_log_server_that_nobody_vouches_for_gets_nothing(house: House, tmp_path: Path) -> None:
    async with rsyslog(tmp_path, "tls") as port:
        (tmp_path / "other.pem").write_bytes(make_authority("somebody else").pem)
        await configure(house, syslog=f"tls://127.0.0.1:{port}", syslog_ca_file=str(tmp_path / "other.pem"))
        assert await fire(house) == 0
    assert understood(tmp_path) == []
    assert "No trusted CA vouches for the server" in (await listed(house))[0].trouble


@pytest.mark.parametrize("mailbox", ["starttls", "tls"], indirect=True)
async def test_alert_is_mailed_over_tls_with_an_account(house: House, mailbox: Mailbox) -> None:
    await configure(house, mail_to="ops@example.com, duty@example.com")
    await set_live(house.mtls, "mail", **(mailbox.settings | {"user": "pki"}))
    await set_secret(house.mtls, OPERATOR, Secret.SMTP_PASSWORD, SecretStr("wrong horse"))
    assert await fire(house) == 0
    assert "does not accept the account" in (await listed(house))[0].trouble
    await set_secret(house.mtls, OPERATOR, Secret.SMTP_PASSWORD, SecretStr("correct horse"))
    proof = await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", "revoked-attempt")
    assert proof.channels == ("mail",)
    (mail,) = mailbox.messages
    assert str(mail["To"]) == "ops@example.com, duty@example.com"
    assert re.match(r"\[critical\] revoked-attempt: ", str(mail["Subject"]))
    assert "Organization: demo" in mailbox.text()


@contextlib.asynccontextmanager
async def mutual_webhook(partner: Partner) -> AsyncIterator[tuple[int, list[str]]]:
    """A webhook that demands a certificate of the partner's CA; its port, and who came."""
    came: list[str] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(int(each[15:]) for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:"))
            await reader.readexactly(length)
            peer = writer.get_extra_info("ssl_object").getpeercert()
            came.append(dict(pair for part in peer["subject"] for pair in part)["commonName"])
            writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            await writer.drain()
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(partner.folder / "root.pem"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(partner.folder / "server.pem", partner.folder / "server.key")
    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=context)
    async with server:
        yield server.sockets[0].getsockname()[1], came


async def test_webhook_may_demand_a_client_certificate(house: House, partner: Partner) -> None:
    await list_networks(house.mtls.database)
    async with mutual_webhook(partner) as (port, came):
        url = f"https://localhost:{port}/alerts"
        await configure(house, webhook_url=url, webhook_ca_file=str(partner.folder / "root.pem"))
        assert await fire(house) == 0  # without a certificate
        await configure(house, webhook_url=url, webhook_credential="demo/hook")
        made = NewOutbound("hook", host_pattern="localhost", server_ca=partner.server_ca)
        await service.create(house.mtls, OPERATOR, "demo", made)
        data = partner.pkcs12("client")
        await service.import_pkcs12(house.mtls, OPERATOR, "demo", "hook", data, SecretStr(PASSWORD))
        proof = await alert_upkeep.test_alert(house.mtls, OPERATOR, "demo", "expiry")
    assert proof.channels == ("webhook",)
    assert len(came) == 1


async def test_webhook_whose_credential_is_for_another_host_gets_nothing(house: House, partner: Partner) -> None:
    await list_networks(house.mtls.database)
    made = NewOutbound("hook", host_pattern="hooks.example.com", server_ca=partner.server_ca)
    await service.create(house.mtls, OPERATOR, "demo", made)
    data = partner.pkcs12("client")
    await service.import_pkcs12(house.mtls, OPERATOR, "demo", "hook", data, SecretStr(PASSWORD))
    async with mutual_webhook(partner) as (port, came):
        await configure(house, webhook_url=f"https://localhost:{port}/", webhook_credential="demo/hook")
        assert await fire(house) == 0
    assert came == []
    assert "is for hooks.example.com, not for localhost" in (await listed(house))[0].trouble
