"""A CA that is not ours, and what a status authority has read about its certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from sqlalchemy import delete, insert, select, update

from intaglio.core import clock
from intaglio.core.identifiers import serial_octets
from intaglio.db.engine import Database
from intaglio.db.journal import STATUS_CHANNEL
from intaglio.validation import models
from intaglio.validation.authorities.values import Authority

GOOD, REVOKED, HELD = range(3)


@dataclass
class ForeignCa:
    """A self-signed CA of somebody else; ``since`` is its notBefore."""

    name: str = "Foreign CA"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    since: datetime = field(default_factory=lambda: clock.now().replace(microsecond=0) - timedelta(days=400))
    life: timedelta = timedelta(days=3650)
    serials: int = 100

    def __post_init__(self) -> None:
        self.subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)])
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        self.certificate = (
            self._builder(self.subject, self.key.public_key(), 1)
            .not_valid_before(self.since)
            .not_valid_after(self.since + self.life)
            .add_extension(x509.BasicConstraints(True, None), True)
            .add_extension(usage, True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    def leaf(self, name: str = "www.example") -> x509.Certificate:
        """A certificate with the next serial number."""
        self.serials += 1
        public_key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return self._end_entity(name, public_key, self.serials).sign(self.key, hashes.SHA256())

    def end_entity(self, name: str = "somebody") -> tuple[x509.Certificate, Any]:
        """A certificate with its key."""
        self.serials += 1
        key = ec.generate_private_key(ec.SECP256R1())
        return self._end_entity(name, key.public_key(), self.serials).sign(self.key, hashes.SHA256()), key

    def certify_signer(
        self, request: bytes, *, no_check: bool = True, ocsp_signing: bool = True, days: float = 90
    ) -> x509.Certificate:
        """The certificate of an OCSP signer for a PKCS #10 request (PEM or DER)."""
        loaded = (x509.load_pem_x509_csr if b"-----" in request else x509.load_der_x509_csr)(request)
        self.serials += 1
        builder = self._builder(loaded.subject, loaded.public_key(), self.serials)
        now = clock.now().replace(microsecond=0)
        builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=days))
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        builder = builder.add_extension(usage, True)
        purpose = ExtendedKeyUsageOID.OCSP_SIGNING if ocsp_signing else ExtendedKeyUsageOID.SERVER_AUTH
        builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), False)
        if no_check:
            builder = builder.add_extension(x509.OCSPNoCheck(), False)
        return builder.sign(self.key, hashes.SHA256())

    def certify_timestamps(self, request: bytes) -> x509.Certificate:
        """The certificate of a timestamp issuer for a PKCS #10 request (PEM)."""
        loaded = x509.load_pem_x509_csr(request)
        self.serials += 1
        now = clock.now().replace(microsecond=0)
        builder = self._builder(loaded.subject, loaded.public_key(), self.serials)
        builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + timedelta(days=90))
        builder = builder.add_extension(
            x509.KeyUsage(True, False, False, False, False, False, False, False, False), True
        )
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING]), True)
        return builder.sign(self.key, hashes.SHA256())

    def _end_entity(self, name: str, public_key: Any, serial: int) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = clock.now().replace(microsecond=0)
        return (
            self._builder(subject, public_key, serial)
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=90))
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), False)
        )

    def _builder(self, subject: x509.Name, public_key: Any, serial: int) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self.subject)
        return builder.public_key(public_key).serial_number(serial)


def rsa_ca(name: str) -> ForeignCa:
    """A CA with an RSA key."""
    return ForeignCa(name, rsa.generate_private_key(65537, 2048))


def key_pem(key: Any) -> bytes:
    """A private key for a command line client."""
    return bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@dataclass(frozen=True)
class Known:
    """What a source says about one certificate."""

    state: int = GOOD
    since: datetime | None = None
    reason: int | None = None


async def learn(
    database: Database,
    authority: Authority,
    entries: Mapping[int, Known],
    *,
    parts: tuple[str, ...] = ("",),
    this_update: datetime | None = None,
    next_update: datetime | None = None,
    last_ok: datetime | None = None,
    complete: bool = True,
) -> None:
    """Put into an authority's set what its source would have: the entries (in place of those with the same serial
    numbers), how current it is, and the notice of the change."""
    now = clock.now()
    async with database.transaction() as tx:
        for number, part in enumerate(parts):
            await tx.execute(
                delete(models.status_source).where(
                    models.status_source.c.set_id == authority.set_id, models.status_source.c.part == part
                )
            )
            await tx.execute(
                insert(models.status_source).values(
                    set_id=authority.set_id, part=part, authority_id=authority.id, number=number,
                    this_update=this_update, next_update=next_update, last_ok_at=last_ok or now, complete=complete,
                )
            )  # fmt: skip
        head = models.status_head
        await tx.execute(update(head).values(version=head.c.version + 1))
        version = await tx.scalar(select(head.c.version))
        for serial, known in entries.items():
            octets = serial_octets(serial)
            entry, change = models.status_entry, models.status_change
            await tx.execute(delete(entry).where(entry.c.set_id == authority.set_id, entry.c.serial == octets))
            await tx.execute(
                insert(entry).values(
                    set_id=authority.set_id, serial=octets, state=known.state, revoked_at=known.since,
                    reason=known.reason,
                )
            )  # fmt: skip
            await tx.execute(
                insert(change).values(version=version, set_id=authority.set_id, serial=octets, at=now)
            )
        if not entries:
            await tx.execute(
                insert(models.status_change).values(version=version, set_id=authority.set_id, serial=None, at=now)
            )
        tx.notify(STATUS_CHANNEL)
