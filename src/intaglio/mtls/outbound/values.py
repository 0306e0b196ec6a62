"""Client credentials for our own calls, as values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from intaglio.core.errors import InvalidInput
from intaglio.mtls.identities.names import plain_text
from intaglio.mtls.toolkit import sharing
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates
from intaglio.x509.host_names import check_dns_name, is_dns_name

State = Literal["draft", "active", "rotating", "retired"]
CredentialState = Literal["requested", "ready", "current", "superseded", "retired"]
MinimumTls = Literal["1.2", "1.3"]

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_MOST_SERVER_CAS = 50
#: Certificates that live longer than this are announced 30 days before their end, too.
LONG_LIVED = timedelta(days=60)


@dataclass(frozen=True)
class NewOutbound:
    """A partner interface to be called.

    ``host_pattern`` is the host, or ``*.`` and a domain; ``server_ca`` are PEM certificates the server must chain to
    (empty: those the system trusts); ``sni`` overrides the name that is asked for and verified.
    """

    name: str
    host_pattern: str
    title: str = ""
    server_ca: str = ""
    sni: str = ""
    minimum_tls: MinimumTls = "1.2"

    def checked(self) -> NewOutbound:
        """The same with every member in its canonical form. Raises InvalidInput naming the member."""
        if not _NAME.fullmatch(self.name):
            raise InvalidInput(
                f'"{self.name[:80]}" is not a name: small letters, digits and hyphens.',
                code="name-invalid",
                target="name",
            )
        if self.minimum_tls not in ("1.2", "1.3"):
            raise InvalidInput("The lowest version is 1.2 or 1.3.", code="choice-unknown", target="minimum_tls")
        return NewOutbound(
            self.name,
            check_dns_name(self.host_pattern).lower() if not _is_address(self.host_pattern) else self.host_pattern,
            plain_text(self.title, target="title"),
            _server_ca(self.server_ca),
            check_dns_name(self.sni) if self.sni else "",
            self.minimum_tls,
        )


@dataclass(frozen=True)
class Trust:
    """Somebody outside who was given a certificate of ours, and whether he said that he installed it."""

    id: UUID
    api: str
    contact: str
    sha256: str
    shared_by: str
    shared_at: datetime
    confirmed_by: str | None
    confirmed_at: datetime | None

    @property
    def state(self) -> Literal["shared", "confirmed"]:
        return "shared" if self.confirmed_at is None else "confirmed"

    @classmethod
    def of(cls, row: Mapping[Any, Any]) -> Trust:
        names = ("id", "api", "contact", "shared_by", "shared_at", "confirmed_by", "confirmed_at")
        return cls(**{name: row[name] for name in names}, sha256=sharing.colons(row["sha256"]))


@dataclass(frozen=True)
class Credential:
    """A key with its certificate; ``certificate`` is None while only a request exists."""

    id: UUID
    state: CredentialState
    private_key_id: UUID
    request: bytes | None = field(repr=False)
    certificate: bytes | None = field(repr=False)
    chain: tuple[bytes, ...] = field(repr=False)
    not_before: datetime | None
    not_after: datetime | None
    created_at: datetime
    activated_at: datetime | None
    trusts: tuple[Trust, ...] = ()

    @property
    def info(self) -> CertificateInfo | None:
        return None if self.certificate is None else read_certificate(self.certificate)

    @property
    def confirmed(self) -> bool:
        """Whether everybody it was shared with confirmed, and there is somebody."""
        return bool(self.trusts) and all(each.state == "confirmed" for each in self.trusts)

    @classmethod
    def of(cls, row: Mapping[Any, Any], trusts: Sequence[Trust] = ()) -> Credential:
        names = ("id", "state", "private_key_id", "request", "certificate", "not_before", "not_after", "created_at")
        chain = tuple(split_chain(row["chain"] or b""))
        values = {name: row[name] for name in names}
        return cls(**values, activated_at=row["activated_at"], chain=chain, trusts=tuple(trusts))


@dataclass(frozen=True)
class Outbound:
    """A partner interface with its credentials, newest first."""

    id: UUID
    organization: str
    name: str
    title: str
    host_pattern: str
    server_ca: str = field(repr=False)
    sni: str
    minimum_tls: MinimumTls
    state: State
    created_by: str
    created_at: datetime
    credentials: tuple[Credential, ...] = ()

    @property
    def current(self) -> Credential | None:
        """The credential that calls use."""
        return next((each for each in self.credentials if each.state == "current"), None)

    def credential(self, state: CredentialState) -> Credential | None:
        """The newest credential in this state."""
        return next((each for each in self.credentials if each.state == state), None)

    def allows(self, host: str) -> bool:
        """Whether the credential may be shown to ``host``."""
        pattern, wanted = self.host_pattern.lower(), host.lower().removesuffix(".")
        if pattern.startswith("*."):
            first, dot, rest = wanted.partition(".")
            return is_dns_name(wanted) and first != "*" and dot + rest == pattern[1:]
        return wanted == pattern

    @classmethod
    def of(cls, row: Mapping[Any, Any], credentials: Sequence[Credential] = ()) -> Outbound:
        names = ("id", "organization", "name", "title", "host_pattern", "server_ca", "sni", "minimum_tls", "state")
        values = {name: row[name] for name in (*names, "created_by", "created_at")}
        return cls(**values, credentials=tuple(credentials))


def split_chain(data: bytes) -> list[bytes]:
    """The certificates of a concatenation of DER."""
    from intaglio.asn1 import der

    return [each.der for each in der.children(data, 100)]


def _server_ca(text: str) -> str:
    if not text.strip():
        return ""
    found = read_certificates(text)
    if len(found) > _MOST_SERVER_CAS:
        raise InvalidInput(f"At most {_MOST_SERVER_CAS} CA certificates.", code="too-many-certificates")
    return "".join(each.pem for each in found)


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True
