"""Client credentials for gateways that a CA gives by EST, and renews by it after two thirds of their life (RFC 7030).

The key is made here and kept only once there is a certificate for it. Whoever uses the credential by its id goes on
with its successor, as with those that our own CAs certify.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

import httpx
from pydantic import SecretStr
from sqlalchemy import select

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.authority import locks
from intaglio.core.errors import InvalidInput, NotSupported, Refused, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.principal import SYSTEM, Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.platform.outgoing import guard_of, http_client
from intaglio.transport.contexts import ServerIdentity, client_context
from intaglio.validation import models
from intaglio.validation.authorities import credentials
from intaglio.validation.authorities.credentials import Credential
from intaglio.validation.context import Validation
from intaglio.x509.certificates import CertificateInfo, pem, read_certificate, read_certificates
from intaglio.x509.names import Name

log = get_logger(__name__)

_C = models.status_credential
_ALGORITHM = KeyAlgorithm.ECDSA_P256
_SECONDS = 30.0
_MOST_OCTETS = 65_536
_OPERATIONS = ("simpleenroll", "simplereenroll")


@dataclass(frozen=True)
class EstServer:
    """Where certificates are asked for: ``url`` up to the label, and the CAs (PEM) its TLS certificate must chain to;
    none: those that this host trusts."""

    url: str
    anchors: str = ""

    @classmethod
    def of(cls, url: str, anchors: str = "") -> EstServer:
        """From what somebody writes, with an operation at the end or without. Raises InvalidInput."""
        base = url.rstrip("/")
        for operation in _OPERATIONS:
            base = base.removesuffix(f"/{operation}")
        if not _is_plain(base):
            raise InvalidInput(
                f'"{url[:200]}" is no address of an EST server.',
                code="est-url-invalid",
                remedy="Write it like https://ca.example/.well-known/est/LABEL.",
                target="url",
            )
        return cls(base, "".join(pem(each.der) for each in read_certificates(anchors)) if anchors else "")


def _is_plain(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = httpx.URL(url).host, parts.port
    except (ValueError, httpx.InvalidURL):
        return False
    return parts.scheme == "https" and bool(host) and parts.username is None and not parts.query and not parts.fragment


async def enroll(
    validation: Validation, principal: Principal, server: EstServer, subject: Name, reference: str, code: SecretStr
) -> Credential:
    """Have a new key certified with a reference number and an authorization code (RFC 7030 section 4.2.1).

    Needs ``validation.manage``. Raises Refused (``est-refused``, ``address-not-allowed``), NotSupported (somebody has
    to approve), Unavailable (``est-unavailable``), InvalidInput (an answer that is no certificate of this key).
    """
    principal.require(Permission.VALIDATION_MANAGE)
    authorization = base64.b64encode(f"{reference}:{code.get_secret_value()}".encode()).decode()
    key = algorithms.generate_private_key(_ALGORITHM)
    found = await _ask(
        validation, server, "simpleenroll", _request(key, subject), {"authorization": f"Basic {authorization}"}, None
    )
    async with validation.database.transaction() as tx:
        return await _keep(validation, tx, principal, server, key, found, replaces=None)


async def renew(
    validation: Validation, principal: Principal, credential_id: UUID, server: EstServer | None = None
) -> Credential:
    """Have a new key certified with the credential itself (RFC 7030 section 4.2.2); ``server`` where it is not the one
    that the credential came from. Raises like :func:`enroll`, NotFound, Refused (``credential-expired``)."""
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.read() as view:
        old = await credentials.load_one(view, credential_id)
        identity = await credentials.identity_for(view, validation.keystore, old.id)
    server = server or _server_of(old)
    key = algorithms.generate_private_key(_ALGORITHM)
    subject = read_certificate(old.certificate).subject
    found = await _ask(validation, server, "simplereenroll", _request(key, subject), {}, identity)
    async with validation.database.transaction() as tx:
        # Two renewals at once make two credentials, one after the other.
        await locks.lock(tx, "status-credential", old.id)
        return await _keep(validation, tx, principal, server, key, found, replaces=await _last(tx, old))


async def renew_one(validation: Validation, credential: Credential) -> bool:
    """Renew a credential that is due, unless another process has; for upkeep. Raises like :func:`renew`."""
    async with validation.database.read() as view:
        if await _last(view, credential) != credential.id:
            return False
    made = await renew(validation, SYSTEM, credential.id)
    log.info("a client credential was renewed", subject=made.subject, not_after=made.not_after.isoformat())
    return True


def _server_of(credential: Credential) -> EstServer:
    if not credential.est:
        raise Refused(
            "This credential did not come by EST.",
            code="est-url-missing",
            remedy="Say where it is renewed: --url https://ca.example/.well-known/est/LABEL.",
        )
    return EstServer(**credential.est)


async def _last(view: Transaction, credential: Credential) -> UUID:
    """The newest successor of a credential, or itself."""
    rows = await view.all(select(_C.c.id, _C.c.replaces).where(_C.c.deleted_at.is_(None)))
    successors = {row["replaces"]: row["id"] for row in rows}
    last = credential.id
    while last in successors:
        last = successors[last]
    return last


async def _keep(
    validation: Validation,
    tx: Transaction,
    principal: Principal,
    server: EstServer,
    key: PrivateKey,
    found: Sequence[CertificateInfo],
    *,
    replaces: UUID | None,
) -> Credential:
    leaf = found[0]
    await credentials.require_room(tx)
    label = f"status-credential:{leaf.subject.rfc4514}"[:200]
    signer = await validation.keystore.adopt(tx, key, label, principal=principal)
    chain = credentials.chain_of(leaf, found[1:])
    return await credentials.store(
        tx,
        principal,
        signer.key_id,
        leaf,
        chain,
        origin="est",
        replaces=replaces,
        est={"url": server.url, "anchors": server.anchors},
    )


def _request(key: PrivateKey, subject: Name) -> bytes:
    """A PKCS #10 request that asks for nothing but the name. Source: RFC 2986 section 4."""
    info = der.sequence(
        der.integer(0), subject.der, algorithms.spki(key.public_key()), der.explicit(0, b"")
    )
    return der.sequence(info, _ALGORITHM.signature_identifier, der.bit_string(algorithms.sign(key, info)))


async def _ask(
    validation: Validation,
    server: EstServer,
    operation: str,
    request: bytes,
    headers: dict[str, str],
    identity: ServerIdentity | None,
) -> list[CertificateInfo]:
    """The certificate for a request, and those that came with it."""
    async with validation.database.read() as view:
        guard = await guard_of(view)
    tls = client_context(server.anchors.encode(), identity)
    try:
        async with asyncio.timeout(_SECONDS), http_client(guard, tls, timeout=_SECONDS) as client:
            answer = client.stream(
                "POST",
                f"{server.url}/{operation}",
                content=base64.encodebytes(request),
                headers={"content-type": "application/pkcs10", **headers},
            )
            async with answer as response:
                status, body = response.status_code, await _body(response)
    except (httpx.HTTPError, TimeoutError, ssl.SSLError) as error:
        why = "it did not answer in time" if isinstance(error, TimeoutError | httpx.TimeoutException) else str(error)
        raise Unavailable(f"The EST server was not reached: {why[:200]}.", code="est-unavailable") from error
    return _certificates(request, status, body)


async def _body(response: httpx.Response) -> bytes:
    read = b""
    async for part in response.aiter_raw():
        read += part
        if len(read) > _MOST_OCTETS:
            raise InvalidInput("The EST server answers too much.", code="est-answer-invalid")
    return read


def _certificates(request: bytes, status: int, body: bytes) -> list[CertificateInfo]:
    if status == 202:
        raise NotSupported(
            "The EST server lets the request wait for approval.",
            code="est-waits",
            remedy="Have requests of this reference approved automatically, or import a certificate.",
        )
    if status != 200:
        said = body[:200].decode("utf-8", "replace").strip()
        raise Refused(
            f"The EST server refused with {status}: {said or 'without a word'}.",
            code="est-refused",
            remedy="Check reference number, authorization code, label and subject.",
        )
    try:
        found = read_certificates(base64.b64decode(b"".join(body.split()), validate=True))
    except (binascii.Error, ValueError, InvalidInput):
        raise InvalidInput("The EST server answers no certificates.", code="est-answer-invalid") from None
    spki = der.children(der.children(der.read_tlv(request, der.SEQUENCE).content)[0].content)[2].der
    mine = [each for each in found if each.spki == spki]
    if len(mine) != 1:
        raise InvalidInput("The EST server answers no certificate of the key that was sent.", code="est-answer-invalid")
    credentials.require_client(mine[0])
    return [mine[0], *(each for each in found if each is not mine[0])]
