"""Our own outgoing calls with a client certificate: the TLS context, an HTTP client, and a test of the connection.

The server is always verified: against the CA that was set, else against those the system trusts, and by its name; and
it is only looked for at addresses that :mod:`intaglio.platform.outgoing` admits.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from intaglio.audit.record import record
from intaglio.core.errors import NotSupported, Refused, StateConflict
from intaglio.core.outgoing import Guard
from intaglio.core.principal import Permission, Principal
from intaglio.mtls.context import Mtls
from intaglio.mtls.outbound import service
from intaglio.mtls.outbound.alerts import Failure, explained
from intaglio.mtls.outbound.values import Credential, Outbound
from intaglio.platform import outgoing
from intaglio.x509.certificates import pem, read_certificate

_TIMEOUT = httpx.Timeout(30.0, connect=10.0)
_SETTLE = 2.0  # seconds; TLS 1.3 refuses a client certificate only after the client is done
_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


async def context_for(mtls: Mtls, organization: str, name: str) -> tuple[Outbound, ssl.SSLContext]:
    """The interface, and a TLS context with its current credential, for code of this process.

    Raises NotFound, StateConflict (``no-certificate-yet``, ``outbound-retired``), Refused (``credential-expired``),
    NotSupported (``key-not-usable-for-tls``).
    """
    async with mtls.database.read() as view:
        found = await service.load(view, organization, name)
        credential = _usable(found, view.now)
        signer = await mtls.authority.keystore.load(view, credential.private_key_id)
    return found, _context(found, credential, signer.private_key)


@asynccontextmanager
async def client(mtls: Mtls, organization: str, name: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client that shows the current credential to the hosts of the interface, and to no others.

    A call to another host raises Refused (``host-not-allowed``), one to a host at an address that nobody may name
    too (``address-not-allowed``). Raises what :func:`context_for` raises.
    """
    found, context = await context_for(mtls, organization, name)
    async with mtls.database.read() as view:
        guard = await outgoing.guard_of(view)

    async def check(request: httpx.Request) -> None:
        if request.url.scheme != "https" or not found.allows(request.url.host):
            raise _not_allowed(found, request.url.host)
        if found.sni:
            request.extensions["sni_hostname"] = found.sni

    async with outgoing.http_client(guard, context, timeout=_TIMEOUT) as http:
        http.event_hooks = {"request": [check]}
        yield http


@dataclass(frozen=True)
class Tested:
    """What came of a test: ``failure`` is None when server and client accepted each other."""

    failure: Failure | None
    tls_version: str | None = None
    cipher: str | None = None
    server_subject: str | None = None
    server_not_after: str | None = None


async def try_connection(
    mtls: Mtls, principal: Principal, organization: str, name: str, host: str, port: int = 443
) -> Tested:
    """Connect to ``host`` with the current credential and say what happened. Needs ``mtls.identities``; audited.

    Raises Refused (``host-not-allowed``, ``address-not-allowed``) and what :func:`context_for` raises.
    """
    async with mtls.database.transaction() as tx:
        found = await service.owned(tx, principal, organization, name)
        if not found.allows(host):
            raise _not_allowed(found, host)
        guard = await outgoing.guard_of(tx)
    found, context = await context_for(mtls, organization, name)
    tested = await handshake(context, host, port, found.sni or host, guard)
    async with mtls.database.transaction() as tx:
        principal.require(Permission.MTLS_IDENTITIES)
        outcome = tested.failure.code if tested.failure else "ok"
        facts: dict[str, Any] = {"host": host, "port": port, "result": outcome}
        place = f"{organization}/{name}"
        record(tx, principal, "outbound.test", "outbound", place, organization=organization, **facts)
    return tested


async def handshake(context: ssl.SSLContext, host: str, port: int, name: str, guard: Guard) -> Tested:
    """One TLS handshake with a server, and what it says to our certificate. Never raises for the other side's doing.

    Raises Refused (``address-not-allowed``).
    """
    try:
        async with asyncio.timeout(15):
            reader, writer = await guard.connect(host, port, tls=context, server_hostname=name)
            try:
                return await _settled(reader, writer)
            finally:
                writer.close()
    except (OSError, TimeoutError, ValueError) as error:  # ValueError: a host that is none, such as a label too long
        return Tested(explained(error))


async def _settled(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> Tested:
    tls: ssl.SSLObject = writer.get_extra_info("ssl_object")
    cipher = tls.cipher()
    leaf = read_certificate(tls.getpeercert(binary_form=True) or b"")
    try:
        async with asyncio.timeout(_SETTLE):
            await reader.read(1)
    except OSError as error:
        if not isinstance(error, TimeoutError):  # nothing said is nothing refused
            return Tested(explained(error), tls.version())
    return Tested(
        None,
        tls.version(),
        cipher[0] if cipher else None,
        leaf.subject.rfc4514,
        leaf.not_after.isoformat(),
    )


def _usable(found: Outbound, now: datetime) -> Credential:
    if found.state == "retired":
        raise StateConflict(f'"{found.name}" is retired.', code="outbound-retired")
    credential = found.current
    if credential is None or credential.certificate is None or credential.not_after is None:
        raise StateConflict(
            f'"{found.name}" has no certificate yet.', code="no-certificate-yet", remedy="Import or install one."
        )
    if credential.not_after <= now:
        raise Refused(
            f'The certificate of "{found.name}" expired on {credential.not_after:%Y-%m-%d}.',
            code="credential-expired",
            remedy="Rotate to a new certificate.",
        )
    return credential


def _context(found: Outbound, credential: Credential, key: object) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=found.server_ca or None)
    context.minimum_version = _VERSIONS[found.minimum_tls]
    if found.server_ca:
        # What was set is trusted, also when it is an issuing CA or the pinned certificate of the server itself.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _load(context, [credential.certificate or b"", *credential.chain], key)
    return context


def _load(context: ssl.SSLContext, chain: list[bytes], key: object) -> None:
    # OpenSSL reads keys from files only; an anonymous file in memory keeps the key off every disk.
    password = secrets.token_bytes(32).hex().encode()
    try:
        encoded = key.private_bytes(  # type: ignore[attr-defined]
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password)
        )
    except (AttributeError, TypeError, ValueError, NotImplementedError):
        raise NotSupported(
            "Keys that never leave their token cannot be used for TLS here.",
            code="key-not-usable-for-tls",
            remedy="Make the key in the keystore, or import a PKCS #12.",
        ) from None
    descriptor = os.memfd_create("intaglio-outbound")
    try:
        os.write(descriptor, "".join(map(pem, chain)).encode() + encoded)
        context.load_cert_chain(f"/proc/self/fd/{descriptor}", password=password)
    finally:
        os.close(descriptor)


def _not_allowed(found: Outbound, host: str) -> Refused:
    return Refused(
        f'The credential "{found.name}" is for {found.host_pattern}, not for {host[:200]}.',
        code="host-not-allowed",
        remedy="Use https and a host that the pattern covers, or make a credential for this host.",
    )
