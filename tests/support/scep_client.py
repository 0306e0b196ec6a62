"""A SCEP client of the tests: makes messages, well-formed or not, and reads what the service answers."""

from __future__ import annotations

import base64
import functools
import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from intaglio.asn1 import der
from intaglio.asn1.signature_schemes import SignatureScheme
from intaglio.core import clock
from intaglio.enrollment.scep import messages
from intaglio.enrollment.scep.messages import MessageType
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.cms.enveloped import read_enveloped
from intaglio.x509.cms.enveloping import envelop
from intaglio.x509.cms.identifiers import CipherName, attribute
from intaglio.x509.cms.signed import read_signed_data
from intaglio.x509.cms.signing import sign

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@functools.lru_cache
def rsa_key(number: int = 0) -> rsa.RSAPrivateKey:
    """One of the RSA keys of this process; making them takes long."""
    return rsa.generate_private_key(65_537, 2048)


@dataclass(frozen=True)
class Reply:
    """A CertRep whose signature was verified under a certificate that the service told of."""

    status: str
    fail_info: str | None
    text: str | None
    transaction: bytes
    recipient_nonce: bytes | None
    sender_nonce: bytes
    cipher: str | None
    digest: str | None
    certificates: tuple[CertificateInfo, ...] = field(repr=False)
    crls: tuple[bytes, ...] = field(repr=False)

    @property
    def certificate(self) -> CertificateInfo:
        """The certificate of a request that was granted."""
        assert self.status == "0", (self.status, self.fail_info, self.text)
        assert len(self.certificates) == 1
        return self.certificates[0]


@dataclass(frozen=True)
class Device:
    """A client with a key and the certificate that it signs with."""

    http: httpx.AsyncClient
    path: str
    key: PrivateKey = field(default_factory=rsa_key, repr=False)
    certificate: CertificateInfo | None = field(default=None, repr=False)

    async def get(self, operation: str, **parameters: str) -> httpx.Response:
        return await self.http.get(self.path, params={"operation": operation, **parameters})

    async def office(self) -> tuple[CertificateInfo, ...]:
        """What GetCACert says: the registration authority, the CA, those above."""
        answer = await self.get("GetCACert")
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/x-x509-ca-ra-cert"
        return tuple(map(read_certificate, read_signed_data(answer.content).certificates))

    def request(
        self,
        subject: str = "CN=device-1",
        *,
        challenge: str | None = None,
        dns: Sequence[str] = (),
        key: PrivateKey | None = None,
        extensions: Sequence[x509.ExtensionType] = (),
    ) -> bytes:
        """A PKCS #10 request."""
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name.from_rfc4514_string(subject))
        wanted = [*extensions, *([x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])] if dns else [])]
        for each in wanted:
            builder = builder.add_extension(each, critical=False)
        if challenge is not None:
            builder = builder.add_attribute(x509.oid.AttributeOID.CHALLENGE_PASSWORD, challenge.encode())
        return builder.sign(key or self.key, _hash_of(key or self.key)).public_bytes(Encoding.DER)

    def self_signed(self, subject: str = "CN=device-1") -> CertificateInfo:
        """What a device without a certificate signs with."""
        name, now = x509.Name.from_rfc4514_string(subject), clock.now()
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
        return read_certificate(builder.sign(self.key, _hash_of(self.key)).public_bytes(Encoding.DER))

    async def message(
        self,
        content: bytes,
        kind: MessageType | int | str | None = MessageType.PKCS_REQ,
        *,
        transaction: bytes | None = b"",
        nonce: bytes | None = b"0123456789abcdef",
        recipient: CertificateInfo | None = None,
        cipher: CipherName = "aes-256-cbc",
        digest: Any = "sha256",
        at: datetime | None = None,
        encrypt: bool = True,
    ) -> bytes:
        """A message around ``content``; None leaves an attribute out."""
        if transaction == b"":
            transaction = secrets.token_hex(8).encode()
        if encrypt:
            content = envelop(content, recipient or (await self.office())[0], cipher)
        attributes = []
        if kind is not None:
            text = kind if isinstance(kind, str) else str(int(kind))
            attributes.append(attribute(messages.MESSAGE_TYPE, der.printable_string(text)))
        if transaction is not None:
            attributes.append(attribute(messages.TRANSACTION_ID, der.tlv(der.PRINTABLE_STRING, transaction)))
        if nonce is not None:
            attributes.append(attribute(messages.SENDER_NONCE, der.octet_string(nonce)))
        signer = self.certificate or self.self_signed()
        scheme = _SHA_1 if digest == "sha1" else None
        return sign(content, signer, self.key, digest=digest, attributes=attributes, signing_time=at, scheme=scheme)

    async def post(self, message: bytes) -> httpx.Response:
        return await self.http.post(self.path, params={"operation": "PKIOperation"}, content=message)

    async def get_message(self, message: bytes) -> httpx.Response:
        text = quote(base64.b64encode(message).decode(), safe="")
        return await self.http.get(f"{self.path}?operation=PKIOperation&message={text}")

    async def send(self, message: bytes) -> Reply:
        return await self.read(await self.post(message))

    async def read(self, answer: httpx.Response) -> Reply:
        """A CertRep, verified, and decrypted where it says something."""
        assert answer.status_code == 200, f"{answer.status_code} {answer.text}"
        assert answer.headers["content-type"] == "application/x-pki-message"
        signed = read_signed_data(answer.content)
        signer = signed.signer_certificate()
        info = signed.verify(signer, content=b"")
        assert _text(info, messages.MESSAGE_TYPE) == "3"
        cipher, certificates, crls = None, (), ()
        if signed.content:
            enveloped = read_enveloped(signed.content)
            assert enveloped.cipher is not None
            cipher = enveloped.cipher.name
            own = self.certificate or replace(self.self_signed(), serial=enveloped.recipients[0].serial or b"")
            bag = read_signed_data(enveloped.decrypt(self.key, own, ciphers={cipher}))
            certificates, crls = tuple(map(read_certificate, bag.certificates)), bag.crls
        recipient_nonce, sender_nonce = info.value(messages.RECIPIENT_NONCE), info.value(messages.SENDER_NONCE)
        transaction = info.value(messages.TRANSACTION_ID)
        assert sender_nonce is not None
        assert transaction is not None
        return Reply(
            _text(info, messages.PKI_STATUS) or "",
            _text(info, messages.FAIL_INFO),
            _text(info, messages.FAIL_INFO_TEXT),
            transaction.content,
            None if recipient_nonce is None else recipient_nonce.content,
            sender_nonce.content,
            cipher,
            info.digest,
            certificates,
            crls,
        )

    async def enrol(self, challenge: str | None = None, subject: str = "CN=device-1", **more: Any) -> Reply:
        """Ask for a first certificate."""
        wanted = {name: more.pop(name) for name in ("dns", "extensions") if name in more}
        return await self.send(await self.message(self.request(subject, challenge=challenge, **wanted), **more))

    def holding(self, certificate: CertificateInfo) -> Device:
        """The same device once it has this certificate."""
        return replace(self, certificate=certificate)

    async def renew(self, new_key: PrivateKey | None = None, subject: str = "CN=device-1", **more: Any) -> Reply:
        """Ask for the successor of the certificate it holds."""
        wanted = {name: more.pop(name) for name in ("dns", "challenge") if name in more}
        content = self.request(subject, key=new_key or self.key, **wanted)
        kind = more.pop("kind", MessageType.RENEWAL_REQ)
        return await self.send(await self.message(content, kind, **more))


def transaction_of(key: PrivateKey) -> bytes:
    """The id that many clients derive from their key."""
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha1(spki, usedforsecurity=False).hexdigest().encode()


def _hash_of(key: PrivateKey) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def _sign_with_sha_1(key: Any) -> Any:
    return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA1())


_SHA_1 = SignatureScheme(der.sequence(der.oid("1.2.840.113549.1.1.5"), der.null()), _sign_with_sha_1)


def _text(info: Any, oid: str) -> str | None:
    value = info.value(oid)
    return None if value is None else value.content.decode()
