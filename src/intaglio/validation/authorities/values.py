"""Status authorities as values: what an operator writes, and what is stored.

What is written is checked here for its form; what goes together is checked in :mod:`.checks`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator, model_validator

from intaglio.core.errors import IntaglioError
from intaglio.core.spans import Span
from intaglio.validation.responder_options import ResponderOptions
from intaglio.x509.certificates import CertificateInfo, read_certificate, read_certificates

Source = Literal["native", "gateway", "crl"]

#: Names of authorities: they stand in the path ``/eva/{name}``.
NAME = re.compile(r"[a-z0-9][a-z0-9~._-]{0,99}")
RESERVED_NAMES = frozenset({"health"})
#: Certificates of one authority, and parts of one CRL.
MOST_ISSUERS = 20
MOST_PARTS = 1_000
#: The attributes of a directory in which CRLs are kept. Source: RFC 4523 section 2.
CRL_ATTRIBUTE = "certificateRevocationList;binary"
DELTA_ATTRIBUTE = "deltaRevocationList;binary"

_FIVE_SECONDS, _FOUR_HOURS, _FIVE_MINUTES = timedelta(seconds=5), timedelta(hours=4), timedelta(minutes=5)
_TEN_SECONDS = timedelta(seconds=10)
_MIB = 1024 * 1024


def _http_url(text: str) -> str:
    """An http or https URL without credentials and fragment."""
    if not text:
        return text
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0 or len(text) > 2_000:
        raise ValueError("a URL that begins with http:// or https:// is expected")
    if parts.username is not None or parts.fragment:
        raise ValueError("a URL without user name and fragment is expected")
    if not text.isascii() or any(character <= " " or character == "\x7f" for character in text):
        raise ValueError("a URL has no spaces, control characters or letters beyond ASCII; write them as %XX")
    return text


def _https_url(text: str) -> str:
    if not _http_url(text).startswith("https://"):
        raise ValueError("a URL that begins with https:// is expected")
    return text.rstrip("/")


def _at_least_a_second(span: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= span <= timedelta(days=30):
        raise ValueError("1s to 30d are possible")
    return span


def _certificates(text: str) -> str:
    """PEM certificates in their canonical form."""
    if not text.strip():
        return ""
    try:
        return "".join(each.pem for each in read_certificates(text))
    except IntaglioError as error:
        raise ValueError(error.detail.rstrip(".")) from None


HttpUrl = Annotated[str, AfterValidator(_http_url)]
HttpsUrl = Annotated[str, AfterValidator(_https_url)]
Wait = Annotated[Span, AfterValidator(_at_least_a_second)]
PemText = Annotated[str, Field(max_length=400_000), AfterValidator(_certificates)]


class _Options(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NativeOptions(_Options):
    """One of our own CAs: its status is read where it is written, and there is nothing to set."""


class GatewayOptions(_Options):
    """The certificate events of a CA behind a gateway with the `/cagw/v1` interface."""

    url: HttpsUrl = Field(description="Base URL of the gateway, such as https://gateway.example:8444/cagw.")
    ca: str = Field(min_length=1, max_length=200, description="Id of the CA at that gateway.")
    server_ca: PemText = Field(default="", description="CA of the gateway's server certificate (PEM).")
    credential: UUID | None = Field(default=None, description="Client credential; without it the latest one.")
    outbound: str = Field(
        default="", pattern=r"^([a-z0-9_-]{1,40}~[a-z0-9-]{1,63})?$",
        description="Outbound credential to use instead: ORGANIZATION~NAME.",
    )  # fmt: skip
    push_by_serial: bool = Field(default=False, description="Keep serial numbers only, not whole certificates.")
    batch_size: int = Field(default=50, ge=1, le=1_000, description="Events per request.")
    timeout: Wait = Field(default=_FIVE_SECONDS, description="For one request to the gateway.")
    wait_on_error: Wait = Field(default=_FIVE_SECONDS, description="Before the next try after a failure.")
    wait_to_pull: Wait = Field(default=_TEN_SECONDS, description="Before the next request when there was nothing new.")
    stale_after: Wait = Field(
        default=_FIVE_MINUTES, description="A feed that has failed for longer is not answered from: tryLater."
    )

    @model_validator(mode="after")
    def _has_one_credential(self) -> GatewayOptions:
        if self.outbound and self.credential is not None:
            raise ValueError("either credential or outbound is expected")
        return self


class CrlPart(_Options):
    """One CRL, with the delta CRLs that go with it: at a URL, or in an entry of a directory."""

    name: str = Field(default="", max_length=60, pattern=r"^[a-z0-9._-]*$", description="Empty for the only one.")
    url: HttpUrl = ""
    delta_url: HttpUrl = Field(default="", description="Delta CRL that belongs to it.")
    directory: str = Field(default="", max_length=100, description="Name of a directory (LDAP server).")
    entry: str = Field(default="", max_length=1_000, description="Distinguished name of the entry with the CRL.")
    attribute: str = Field(default=CRL_ATTRIBUTE, pattern=r"^[A-Za-z0-9.-]{1,100}(;[A-Za-z0-9-]{1,60})*$")
    delta: bool = Field(default=False, description="Read the delta CRL of the same entry, too.")
    delta_attribute: str = Field(default=DELTA_ATTRIBUTE, pattern=r"^[A-Za-z0-9.-]{1,100}(;[A-Za-z0-9-]{1,60})*$")

    @model_validator(mode="after")
    def _is_in_one_place(self) -> CrlPart:
        if bool(self.url) == bool(self.directory):
            raise ValueError("either url or directory is expected")
        if self.directory and not self.entry:
            raise ValueError("a CRL in a directory needs its entry")
        if self.url and (self.entry or self.delta):
            raise ValueError("entry and delta belong to a directory; at a URL use delta_url")
        if self.directory and self.delta_url:
            raise ValueError("in a directory set delta instead of delta_url")
        return self

    @property
    def has_delta(self) -> bool:
        return bool(self.delta_url) or self.delta


class CrlOptions(_Options):
    """CRLs of any CA product: one complete CRL, or the partitions of one."""

    crls: tuple[CrlPart, ...] = Field(min_length=1, max_length=MOST_PARTS, description="The CRL, or its partitions.")
    covers: Literal["all", "user", "ca"] = Field(
        default="all", description="What the CRLs are about, when they are for user or for CA certificates only."
    )
    serial_list: HttpUrl = Field(default="", description="List of all serial numbers issued, one per line.")
    server_ca: PemText = Field(default="", description="CA of https servers (PEM); empty: those the system trusts.")
    crl_issuers: PemText = Field(
        default="", description="Certificates (PEM) of those who sign indirect CRLs in place of the CA."
    )
    max_age: Wait | None = Field(
        default=None, description="How long a CRL is believed that does not say when it ends; without it none such is."
    )
    warning_time: Span = Field(default=_FOUR_HOURS, description="Warn when the CRL ends sooner than this.")
    timeout: Wait = Field(default=_FIVE_SECONDS, description="For connecting, and for every silence of a server.")
    wait_on_error: Wait = Field(default=_FIVE_SECONDS, description="Before the next try after a failure.")
    wait_to_pull: Wait = Field(default=_FIVE_MINUTES, description="Between two looks whether there is a new CRL.")
    max_crl_mib: int = Field(default=256, ge=1, le=2_048, description="Largest CRL that is read, in MiB.")

    @field_validator("crls")
    @classmethod
    def _have_names(cls, value: tuple[CrlPart, ...]) -> tuple[CrlPart, ...]:
        if len({part.name for part in value}) != len(value):
            raise ValueError("every CRL needs a name of its own")
        return value

    @property
    def signers(self) -> list[CertificateInfo]:
        """Those who sign indirect CRLs for the CA."""
        return read_certificates(self.crl_issuers) if self.crl_issuers else []

    @property
    def max_octets(self) -> int:
        return self.max_crl_mib * _MIB


SourceOptions = NativeOptions | GatewayOptions | CrlOptions
_MODELS: dict[str, type[NativeOptions] | type[GatewayOptions] | type[CrlOptions]] = {
    "native": NativeOptions,
    "gateway": GatewayOptions,
    "crl": CrlOptions,
}


class AuthoritySpec(BaseModel):
    """A status authority as an operator writes it."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(description="In the path `/eva/{name}`; a gateway's CA id is one, too.")
    enabled: bool = True
    source: Source
    ca: str | None = Field(default=None, description="native: our CA, ORGANIZATION~ID.")
    profile: str = Field(description="Status profile.")
    issuers: PemText = Field(default="", description="Certificates of the CA whose keys sign what it issues (PEM).")
    native: NativeOptions = NativeOptions()
    gateway: GatewayOptions | None = None
    crl: CrlOptions | None = None
    responder: ResponderOptions = ResponderOptions()

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, value: str) -> str:
        if not NAME.fullmatch(value) or value in RESERVED_NAMES:
            raise ValueError("small letters, digits and ~ . _ - are possible, up to 100, and not the word health")
        return value

    @property
    def options(self) -> SourceOptions | None:
        """The options of the source that is named; None when they are missing."""
        return {"native": self.native, "gateway": self.gateway, "crl": self.crl}[self.source]


@dataclass(frozen=True)
class Authority:
    """A status authority as it is stored."""

    id: UUID
    name: str
    enabled: bool
    source: Source
    ca_id: UUID | None
    ca: str | None
    set_id: UUID
    profile: str
    options: SourceOptions = field(repr=False)
    responder: ResponderOptions = field(repr=False)
    issuers: tuple[CertificateInfo, ...] = field(repr=False)
    version: int
    created_by: str
    created_at: datetime
    changed_at: datetime

    @property
    def crl(self) -> CrlOptions:
        assert isinstance(self.options, CrlOptions)
        return self.options

    @property
    def gateway(self) -> GatewayOptions:
        assert isinstance(self.options, GatewayOptions)
        return self.options

    @property
    def spec(self) -> AuthoritySpec:
        """What an operator would write to get this."""
        given: dict[str, Any] = {} if self.source == "native" else {self.source: self.options}
        return AuthoritySpec(
            name=self.name,
            enabled=self.enabled,
            source=self.source,
            ca=self.ca,
            profile=self.profile,
            issuers="".join(each.pem for each in self.issuers) if self.source != "native" else "",
            responder=self.responder,
            **given,
        )

    @classmethod
    def of(cls, row: Mapping[Any, Any], issuers: tuple[bytes, ...], ca: str | None) -> Authority:
        names = ("id", "name", "enabled", "source", "ca_id", "set_id", "profile", "version", "created_by", "created_at")
        return cls(
            **{name: row[name] for name in names},
            changed_at=row["changed_at"],
            ca=ca,
            options=_MODELS[row["source"]].model_validate(row["options"]),
            responder=ResponderOptions.model_validate(row["responder"]),
            issuers=tuple(map(read_certificate, issuers)),
        )
