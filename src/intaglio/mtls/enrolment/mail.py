"""Mail through an SMTP server whose certificate is verified, always.

A mail is sent at once or refused: nothing is queued here, because a security code must not lie about anywhere.
"""

from __future__ import annotations

import asyncio
import smtplib
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import format_datetime, make_msgid

from intaglio.audit.record import record
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput, StateConflict, Unavailable
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.settings import MailSettings
from intaglio.mtls.enrolment.stored_secrets import Secret, read_secret
from intaglio.platform import live_settings

_LONGEST_BODY = 100_000


@dataclass(frozen=True)
class Mail:
    """One message in plain text. ``subject`` is one line."""

    to: Sequence[str]
    subject: str
    text: str = field(repr=False)


@dataclass(frozen=True)
class _Server:
    settings: MailSettings
    password: str = field(repr=False)


async def send(mtls: Mtls, mail: Mail) -> None:
    """Hand one mail to the mail server.

    Raises StateConflict (``mail-not-configured``), Unavailable (``mail-unavailable``: not reachable, not trusted or
    not willing).
    """
    async with mtls.database.read() as view:
        server = await _server(view, mtls)
    message = _message(server.settings, mail)
    await asyncio.to_thread(_deliver, server, message)


async def is_configured(view: Transaction) -> bool:
    """Whether there is a mail server."""
    return bool((await live_settings.current(view, MailSettings)).host)


async def send_test(mtls: Mtls, principal: Principal, to: str) -> None:
    """Send a mail that says that mail works. Needs ``platform.manage``. Raises what :func:`send` raises."""
    principal.require(Permission.PLATFORM_MANAGE)
    text = "This mail was sent to see whether mail works. It does.\n"
    await send(mtls, Mail([to], "Test of the mail settings", text))
    async with mtls.database.transaction() as tx:
        record(tx, principal, "mail.test", "mail", to)


async def _server(view: Transaction, mtls: Mtls) -> _Server:
    settings = await live_settings.current(view, MailSettings)
    if not settings.host:
        raise StateConflict(
            "No mail server is configured.",
            code="mail-not-configured",
            remedy="Set it: `intaglio settings set mail.host=... mail.sender=...`, or hand the code over in person.",
        )
    return _Server(settings, await read_secret(view, mtls, Secret.SMTP_PASSWORD) if settings.user else "")


def _message(settings: MailSettings, mail: Mail) -> EmailMessage:
    message = EmailMessage()
    try:
        message["From"] = Address(settings.sender_name, addr_spec=settings.sender)
        message["To"] = [Address(addr_spec=address) for address in mail.to]
        message["Subject"] = mail.subject
    except (ValueError, IndexError) as error:  # header injection and what is no address
        raise InvalidInput("A mail cannot be sent to this address.", code="mail-address-invalid") from error
    message["Date"] = format_datetime(clock.now())
    message["Message-ID"] = make_msgid(domain=settings.sender.rpartition("@")[2])
    message["Auto-Submitted"] = "auto-generated"  # RFC 3834: no out-of-office answers
    message.set_content(mail.text[:_LONGEST_BODY])
    return message


def _deliver(server: _Server, message: EmailMessage) -> None:
    settings = server.settings
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.security == "tls":
            connection: smtplib.SMTP = smtplib.SMTP_SSL(
                settings.host, settings.port, timeout=settings.timeout_seconds, context=context
            )
        else:
            connection = smtplib.SMTP(settings.host, settings.port, timeout=settings.timeout_seconds)
        with connection:
            if settings.security == "starttls":
                connection.starttls(context=context)
            if settings.user:
                connection.login(settings.user, server.password)
            connection.send_message(message)
    except (OSError, smtplib.SMTPException, ValueError) as error:
        raise _unavailable(settings, error) from error


def _unavailable(settings: MailSettings, error: Exception) -> IntaglioError:
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        why = "it does not take mail for this address"
    elif isinstance(error, smtplib.SMTPAuthenticationError):
        why = "it does not accept the account and its password"
    elif isinstance(error, smtplib.SMTPNotSupportedError):
        why = "it does not offer what the settings ask for (STARTTLS, a login)"
    elif isinstance(error, ssl.SSLError):
        why = f"its certificate or TLS was refused ({getattr(error, 'verify_message', None) or error.reason or 'TLS'})"
    elif isinstance(error, smtplib.SMTPResponseException):
        why = f"it answered {error.smtp_code}"
    else:
        why = f"{type(error).__name__}: {error}"[:200]
    return Unavailable(
        f"The mail server {settings.host}:{settings.port} did not take the mail: {why}.",
        code="mail-unavailable",
        remedy="Check the settings `mail` and the server, then send again.",
    )
