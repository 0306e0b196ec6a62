"""What administrators set for enrolment and for mail, at run time."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, model_validator

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.platform.live_settings import SettingsGroup

#: The keys a browser or ``openssl`` user may bring, by the name people use.
EnrolmentKey = Literal["EC P-256", "EC P-384", "EC P-521", "RSA 2048", "RSA 3072", "RSA 4096"]
KEYS: dict[EnrolmentKey, KeyAlgorithm] = {
    "EC P-256": KeyAlgorithm.ECDSA_P256,
    "EC P-384": KeyAlgorithm.ECDSA_P384,
    "EC P-521": KeyAlgorithm.ECDSA_P521,
    "RSA 2048": KeyAlgorithm.RSA_2048,
    "RSA 3072": KeyAlgorithm.RSA_3072,
    "RSA 4096": KeyAlgorithm.RSA_4096,
}

_HOST = r"(?:[A-Za-z0-9](?:[A-Za-z0-9.-]{0,252}[A-Za-z0-9])?|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{1,5})?"
_ORIGIN = re.compile(rf"https://{_HOST}/?")
_PAGE = re.compile(rf"https://{_HOST}(?:/[A-Za-z0-9._~%/-]*)?")
_LOOPBACK = re.compile(r"http://(?:127\.0\.0\.1|\[::1\]|localhost)(?::[0-9]{1,5})?/?")


class EnrolmentSettings(SettingsGroup):
    """Enrolment by security code: what the page shows and what the service accepts."""

    group = "enrolment"

    default_domain: str = Field(
        default="", max_length=255, description="Trust domain of the page; empty: the only one there is."
    )
    title: str = Field(default="", max_length=100, description="Heading of the page; empty: that of the trust domain.")
    validity_days: int | None = Field(
        default=None,
        ge=1,
        le=500,
        description="Days a certificate is valid, at most the ceiling of the trust domain; empty: as the domain says.",
    )
    key_algorithms: list[EnrolmentKey] = Field(
        default=["EC P-256"], min_length=1, max_length=6, description="Keys that are certified; pages make the first."
    )
    code_ttl_hours: int = Field(default=72, ge=1, le=24 * 90, description="Hours a security code is good for.")
    code_uses: int = Field(default=1, ge=1, le=20, description="Certificates a security code is good for.")
    max_attempts: int = Field(default=5, ge=1, le=20, description="Failed attempts after which a code is locked.")
    approval: bool = Field(default=False, description="Whether a second person has to approve every security code.")
    session_minutes: int = Field(default=10, ge=2, le=60, description="Minutes an enrolment may take.")
    sessions_per_code: int = Field(default=20, ge=1, le=1000, description="Enrolments that may be begun with one code.")
    requests_per_minute: int = Field(
        default=30, ge=1, le=100_000, description="Attempts one address may make in a minute, over all processes."
    )
    reminder_hours: list[int] = Field(
        default=[72, 24], max_length=10, description="Hours before the end of a certificate at which its user is told."
    )
    page_url: str = Field(
        default="", max_length=500, description="Address of the enrolment page in mails; empty: that of this host."
    )
    access_url: str = Field(
        default="", max_length=500, description="Origin of the mTLS host that pages test against; empty: this host."
    )
    binding_store: Literal["db", "s3"] = Field(
        default="db", description="Where the details of issued certificates are kept: the database, or also a bucket."
    )
    s3_endpoint: str = Field(default="", max_length=500, description="Endpoint of the bucket; empty: that of AWS.")
    s3_region: str = Field(default="", max_length=100, description="Region of the bucket.")
    s3_bucket: str = Field(default="", max_length=255, description="Name of the bucket.")
    s3_prefix: str = Field(default="bindings/", max_length=200, description="What the names of its objects begin with.")
    s3_access_key: str = Field(default="", max_length=200, description="Access key id; empty: from the environment.")

    @model_validator(mode="after")
    def _complete(self) -> EnrolmentSettings:
        if self.binding_store == "s3" and not self.s3_bucket:
            raise ValueError("binding_store s3 needs s3_bucket")
        if not self.title.isprintable():  # it goes into files for devices
            raise ValueError("title is one line of printable characters")
        if self.page_url and not _PAGE.fullmatch(self.page_url):
            raise ValueError("page_url is https://HOST[:PORT]/PATH")
        if self.access_url and not _ORIGIN.fullmatch(self.access_url):
            raise ValueError("access_url is https://HOST[:PORT]")
        # A record is sealed, and still the way to the bucket must prove whose bucket it is.
        if self.s3_endpoint and not (_PAGE.fullmatch(self.s3_endpoint) or _LOOPBACK.fullmatch(self.s3_endpoint)):
            raise ValueError("s3_endpoint is https://HOST[:PORT]")
        if any(hours < 1 or hours > 24 * 365 for hours in self.reminder_hours):
            raise ValueError("reminder_hours are 1 to 8760")
        return self


class MailSettings(SettingsGroup):
    """The mail server that security codes and reminders are sent through. Its password is set apart, and sealed."""

    group = "mail"

    host: str = Field(default="", max_length=255, description="Name of the SMTP server; empty: no mail is sent.")
    port: int = Field(default=587, ge=1, le=65535, description="Its port: 587 for STARTTLS, 465 for TLS.")
    security: Literal["starttls", "tls", "loopback"] = Field(
        default="starttls",
        description="TLS by STARTTLS or from the first octet on; loopback: none, for a server on this host only.",
    )
    user: str = Field(default="", max_length=255, description="Account there; empty: none.")
    sender: str = Field(default="", max_length=255, description="Address that mails come from.")
    sender_name: str = Field(default="Intaglio", max_length=100, description="Name that mails come from.")
    ca_file: str = Field(
        default="", max_length=500, description="CA certificates (PEM) that vouch for the server; empty: the system's."
    )
    timeout_seconds: int = Field(default=20, ge=1, le=120, description="Seconds one mail may take.")

    @model_validator(mode="after")
    def _complete(self) -> MailSettings:
        if self.host and "@" not in self.sender:
            raise ValueError("mail needs the address of its sender")
        if self.security == "loopback" and self.host not in ("", "localhost", "127.0.0.1", "::1"):
            raise ValueError("without TLS mail goes only to localhost")
        return self
