"""Where alerts go: mail, a signed webhook, syslog. Servers are always verified; nothing is queued here."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from intaglio.core.clock import rfc3339
from intaglio.core.errors import IntaglioError, StateConflict, Unavailable
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import mail
from intaglio.mtls.identities.secrets import server_secret
from intaglio.mtls.observation.alert_settings import SYSLOG_PORTS, AlertSettings, addresses
from intaglio.mtls.outbound.alerts import explained
from intaglio.mtls.outbound.client import client as outbound_client
from intaglio.platform import live_settings, outgoing

SECRET_NAME: Final = "alert-webhook"  # noqa: S105 - a name
_PATIENCE = 15.0
#: RFC 5424 section 6.2.1: facility 13 (log audit) times 8 plus the severity.
_PRIORITY = {"critical": 13 * 8 + 2, "warning": 13 * 8 + 4, "info": 13 * 8 + 6}


@dataclass(frozen=True)
class Message:
    """An alert as it is told."""

    delivery: UUID
    alert: UUID
    organization: str
    kind: str
    severity: str
    cause: str
    subject: str
    ingress: str
    detail: str
    count: int
    first_seen: datetime
    last_seen: datetime

    def as_json(self) -> dict[str, Any]:
        """The body of the webhook."""
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        times = {name: rfc3339(found[name]) for name in ("first_seen", "last_seen")}
        return found | times | {"delivery": str(self.delivery), "alert": str(self.alert)}

    @property
    def sentence(self) -> str:
        about = " ".join(each for each in (self.subject, f"at {self.ingress}" if self.ingress else "") if each)
        return f"[{self.severity}] {self.kind}: {about or self.organization}: {self.detail}"


async def settings_of(view: Transaction) -> AlertSettings:
    """The settings in force."""
    return await live_settings.current(view, AlertSettings)


async def webhook_secret(mtls: Mtls) -> bytes:
    """The key of the signatures of webhooks, made when first needed."""
    async with mtls.database.transaction() as tx:
        return await server_secret(tx, mtls.master_key, SECRET_NAME)


async def send(mtls: Mtls, settings: AlertSettings, channel: str, message: Message) -> None:
    """Tell one channel. Raises an IntaglioError that says why it did not arrive."""
    if channel not in (*settings.channels, *(["escalation"] if settings.escalation else [])):
        raise StateConflict(f"The channel {channel} is not set any more.", code="alert-channel-off")
    if channel == "mail":
        await _mail(mtls, addresses(settings.mail_to), message.sentence, _text(message))
    elif channel == "escalation":
        since = f"Nobody acknowledged this alert for {settings.escalate_hours} hours.\n\n"
        await _mail(mtls, settings.escalation, f"Not acknowledged: {message.sentence}", since + _text(message))
    elif channel == "webhook":
        await _webhook(mtls, settings, message)
    else:
        await asyncio.to_thread(_syslog, settings, syslog_line(message, mtls.settings.hostname))


def signature(secret: bytes, body: bytes) -> str:
    """What the header ``Intaglio-Signature`` of a webhook says: HMAC-SHA256 (RFC 2104) over the body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def syslog_line(message: Message, host: str) -> bytes:
    """One syslog message. Source: RFC 5424 section 6."""
    values = {"kind": message.kind, "organization": message.organization, "subject": message.subject}
    values |= {"ingress": message.ingress, "count": str(message.count), "alert": str(message.alert)}
    data = " ".join(f'{name}="{_escaped(value)}"' for name, value in values.items())
    head = f"<{_PRIORITY[message.severity]}>1 {rfc3339(message.last_seen)} {host or '-'} intaglio - {message.kind}"
    return f"{head} [alert@32473 {data}] {_one_line(message.detail)}".encode()[:8000]


async def _mail(mtls: Mtls, to: list[str], subject: str, text: str) -> None:
    await mail.send(mtls, mail.Mail(to, _one_line(subject)[:200], text))


async def _webhook(mtls: Mtls, settings: AlertSettings, message: Message) -> None:
    body = json.dumps(message.as_json(), sort_keys=True).encode()
    headers = {
        "content-type": "application/json",
        "intaglio-signature": signature(await webhook_secret(mtls), body),
        "idempotency-key": str(message.delivery),
    }
    try:
        async with (
            _webhook_client(mtls, settings) as http,
            http.stream("POST", settings.webhook_url, content=body, headers=headers) as answer,
        ):
            status = answer.status_code
    except (httpx.HTTPError, OSError) as error:
        raise _undelivered("webhook", _why(error)) from error
    if not 200 <= status < 300:
        raise _undelivered("webhook", f"it answered {status}")


@contextlib.asynccontextmanager
async def _webhook_client(mtls: Mtls, settings: AlertSettings) -> AsyncIterator[httpx.AsyncClient]:
    """A client that verifies the webhook; with an outbound credential it shows that, and verifies as that says.

    Its name may be in the hands of others, who must not lead us to what only we can reach.
    """
    if settings.webhook_credential:
        organization, _, name = settings.webhook_credential.partition("/")
        async with outbound_client(mtls, organization, name) as http:
            http.timeout = httpx.Timeout(_PATIENCE)
            yield http
        return
    context = ssl.create_default_context(cafile=settings.webhook_ca_file or None)
    async with mtls.database.read() as view:
        guard = await outgoing.guard_of(view)
    async with outgoing.http_client(guard, context, timeout=_PATIENCE) as http:
        yield http


def _why(error: BaseException) -> str:
    """What went wrong; of TLS what the other side said, in words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return explained(cause).why
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {error}"


def _syslog(settings: AlertSettings, line: bytes) -> None:
    parts = urlsplit(settings.syslog)
    host, port = parts.hostname or "", parts.port or SYSLOG_PORTS[parts.scheme]
    try:
        if parts.scheme == "udp":
            family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
            with contextlib.closing(socket.socket(family, kind, protocol)) as datagram:
                datagram.sendto(line, address)
            return
        with contextlib.ExitStack() as stack:
            stream = stack.enter_context(socket.create_connection((host, port), timeout=_PATIENCE))
            if parts.scheme == "tls":
                context = ssl.create_default_context(cafile=settings.syslog_ca_file or None)
                stream = stack.enter_context(context.wrap_socket(stream, server_hostname=host))
            stream.sendall(f"{len(line)} ".encode() + line)  # octet counting: RFC 5425, RFC 6587 section 3.4.1
    except OSError as error:
        raise _undelivered("syslog", _why(error)) from error


def _text(message: Message) -> str:
    return (
        f"{message.sentence}\n\nOrganization: {message.organization}\nSeen {message.count} times, "
        f"first {rfc3339(message.first_seen)}, last {rfc3339(message.last_seen)}.\n\n"
        f"Acknowledge it: intaglio mtls alert ack {message.alert}\n"
    )


def _one_line(text: str) -> str:
    return "".join(each if each.isprintable() else " " for each in text)


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in '"\\]' else each for each in _one_line(text))


def _undelivered(channel: str, why: str) -> IntaglioError:
    return Unavailable(
        f"The {channel} did not take the alert: {why[:200]}.",
        code="alert-undelivered",
        remedy="Check the settings `alerts`; it is tried again.",
    )
