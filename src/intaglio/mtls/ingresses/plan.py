"""What a configuration is made from: the registered ingress, the layout of its host, and whose certificates count.

Every text of a plan has an alphabet without quotes, spaces, braces or line ends, so that in no language of the
templates a value can end what it stands in. What does not fit is refused here, with its name.
"""

from __future__ import annotations

import ipaddress
import re
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from intaglio.core.errors import InvalidInput, StateConflict
from intaglio.mtls.access.ingress_values import Ingress
from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.host_names import check_dns_name

_PATH = re.compile(r"/[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}")
_URL = re.compile(r"(https?)://(\[[0-9a-f:.]{2,45}\]|[A-Za-z0-9.-]{1,253})(?::([0-9]{1,5}))?/?")
_FETCHED = re.compile(r"https?://[A-Za-z0-9._:\[\]/~%-]{1,400}")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ARN = re.compile(r"arn:[a-z0-9-]{1,20}:elasticloadbalancing:[a-z0-9-]{1,30}:[0-9]{12}:listener/[A-Za-z0-9/_-]{1,200}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_TOKEN = re.compile(r"igi_[0-9A-Za-z]{49}")

#: Stand in the place of what nobody has named yet; the README lists them.
UNNAMED_ARN: Final = "arn:aws:elasticloadbalancing:eu-west-1:000000000000:listener/app/name/id/id"
UNNAMED_BUCKET: Final = "name-of-your-bucket"


@dataclass(frozen=True)
class Address:
    """A host and a port; ``tls`` says how it is spoken to. An IPv6 address has no brackets here."""

    host: str
    port: int
    tls: bool = False

    @property
    def authority(self) -> str:
        """``host:port``, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """``http://host:port`` or ``https://host:port``."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"

    @property
    def is_loopback(self) -> bool:
        """Whether what is sent there stays on the host."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def is_ip(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return False
        return True


@dataclass(frozen=True)
class Layout:
    """Where things are on the host of the ingress.

    ``folder`` gets what is rendered; ``certificate`` (chain; for HAProxy with the key in the same file) and ``key`` are
    the server's own, PEM; ``upstream`` is the service behind; ``decisions`` where the decision endpoint is reached.
    ``stale_seconds`` is how long a silent status source is borne before everybody is refused (fail mode closed); 0 for
    as long as revocations still count in time.
    ``namespace`` and ``workload`` are for Kubernetes, ``listener_arn`` and ``bucket`` for AWS. ``token`` is that of the
    ingress; without it a file with it has to be put in its place.
    """

    folder: str = ""
    certificate: str = ""
    key: str = ""
    upstream: str = "http://127.0.0.1:8080"
    decisions: str = "http://127.0.0.1:8181"
    stale_seconds: int = 0
    namespace: str = "default"
    workload: str = ""
    listener_arn: str = UNNAMED_ARN
    bucket: str = UNNAMED_BUCKET
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class CrlSource:
    """A CRL of a CA that counts: a name for files, where it is fetched, who signs it, and the newest one (PEM).

    ``publish_seconds`` is how long after a revocation a CRL that says so is published at the latest.
    """

    name: str
    url: str
    issuer: str = field(repr=False)
    pem: str = field(repr=False)
    publish_seconds: float = 2.0


@dataclass(frozen=True)
class Status:
    """How the status of certificates is learnt: CRLs of all CAs of the chains, and where OCSP is asked."""

    crls: tuple[CrlSource, ...]
    ocsp_url: str
    whole: bool = True


@dataclass(frozen=True)
class Plan:
    """Everything a configuration is made from, checked. ``anchors`` are what clients' chains end at, ``certificates``
    those and the CAs below them."""

    ingress: Ingress
    layout: Layout
    listen: Address
    upstream: Address
    decisions: Address
    anchors: tuple[CertificateInfo, ...] = field(repr=False)
    certificates: tuple[CertificateInfo, ...] = field(repr=False)
    status: Status

    @property
    def name(self) -> str:
        return self.ingress.name

    @property
    def slug(self) -> str:
        """The name of the ingress as an identifier: letters, digits and underscores."""
        return re.sub("[^a-z0-9]", "_", self.ingress.name)

    @property
    def tag(self) -> str:
        """A short identifier of its own for every ingress: nginx has little room for names of variables."""
        return f"ig_{zlib.crc32(self.ingress.full_name.encode()):08x}"

    @property
    def label(self) -> str:
        """The name of the ingress as a label of Kubernetes (RFC 1123)."""
        return re.sub("[^a-z0-9-]", "-", self.ingress.name)

    @property
    def enforce(self) -> bool:
        return self.ingress.mode == "enforce"

    @property
    def source(self) -> str:
        return self.ingress.revocation_source

    @property
    def trust_pem(self) -> str:
        return "".join(certificate.pem for certificate in self.certificates)

    @property
    def crls_pem(self) -> str:
        return "".join(crl.pem for crl in self.status.crls)

    @property
    def has_root(self) -> bool:
        """Whether every anchor is a root, which OpenSSL needs unless it accepts partial chains."""
        return all(anchor.is_self_issued for anchor in self.anchors)


def plan_of(
    ingress: Ingress,
    layout: Layout,
    anchors: Sequence[CertificateInfo],
    certificates: Sequence[CertificateInfo],
    status: Status,
) -> Plan:
    """The plan for an ingress. Raises InvalidInput naming what is wrong, StateConflict (``ingress-off``)."""
    if ingress.mode == "off":
        raise StateConflict(
            f'Ingress "{ingress.full_name}" is off: it asks for no certificate, so there is nothing to configure.',
            code="ingress-off",
            remedy="Begin with `intaglio mtls ingress mode NAME permissive`.",
        )
    folder = _path(layout.folder or f"/etc/intaglio/ingresses/{ingress.name}", "folder")
    if layout.stale_seconds and not 10 <= layout.stale_seconds <= 86_400:
        raise InvalidInput("stale_seconds is 10 to 86400, or 0.", target="stale_seconds")
    for crl in status.crls:
        _matching(_FETCHED, crl.url, "public_url", "http://pki.example.com")
    _matching(_FETCHED, status.ocsp_url, "public_url", "http://pki.example.com")
    if layout.token:
        _matching(_TOKEN, layout.token, "token", "igi_... as `intaglio mtls ingress token NAME` shows it", secret=True)
    checked = Layout(
        folder=folder,
        certificate=_path(layout.certificate or f"{folder}/server.pem", "certificate"),
        key=_path(layout.key or f"{folder}/server.key", "key"),
        upstream=layout.upstream,
        decisions=layout.decisions,
        stale_seconds=layout.stale_seconds,
        namespace=_matching(_LABEL, layout.namespace, "namespace", "default"),
        workload=_matching(_LABEL, layout.workload or re.sub("[^a-z0-9-]", "-", ingress.name), "workload", "payments"),
        listener_arn=_matching(_ARN, layout.listener_arn, "listener_arn", UNNAMED_ARN),
        bucket=_matching(_BUCKET, layout.bucket, "bucket", "pki-crls"),
        token=layout.token,
    )
    return Plan(
        ingress=ingress,
        layout=checked,
        listen=_listener(ingress.listener),
        upstream=_address(layout.upstream, "upstream"),
        decisions=_decisions(layout.decisions),
        anchors=tuple(anchors),
        certificates=tuple(certificates),
        status=status,
    )


def networks(plan: Plan) -> Iterable[str]:
    """The networks of the IP rule, none when there is no rule."""
    return plan.ingress.ip_rule or ()


def _listener(text: str) -> Address:
    """Where the ingress listens; an empty host means every address."""
    if not text:
        return Address("", 443)
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    return Address("" if host in ("*", "0.0.0.0", "::") else host, int(port))  # noqa: S104 - read, not bound


def _address(text: str, target: str) -> Address:
    matched = _URL.fullmatch(text)
    if matched is None:
        raise _bad(target, text, "http://127.0.0.1:8080 or https://service.example:8443")
    scheme, host, port = matched.groups()
    number = int(port) if port else (443 if scheme == "https" else 80)
    bare = host.strip("[]")
    if not 0 < number <= 65535:
        raise _bad(target, text, "a port of 1 to 65535")
    try:
        ipaddress.ip_address(bare)
    except ValueError:
        check_dns_name(bare.lower())
    return Address(bare, number, scheme == "https")


def _decisions(text: str) -> Address:
    """Questions carry the token of the ingress, so without TLS they stay on the host."""
    found = _address(text, "decisions")
    if not found.tls and not found.is_loopback:
        raise InvalidInput(
            f'The decision endpoint at "{text}" would be asked in plain text over the network.',
            code="decisions-in-the-clear",
            remedy="Name an https address, or a loopback address behind which a tunnel or the server itself is.",
            target="decisions",
        )
    return found


def _path(text: str, target: str) -> str:
    path = _matching(_PATH, text, target, "/etc/intaglio/ingresses/edge")
    if "/../" in f"{path}/" or "//" in path:
        raise _bad(target, text, "a path without .. and double slashes")
    return path.rstrip("/")


def _matching(pattern: re.Pattern[str], text: str, target: str, example: str, *, secret: bool = False) -> str:
    if pattern.fullmatch(text) is None:
        raise _bad(target, "" if secret else text, example)
    return text


def _bad(target: str, text: str, example: str) -> InvalidInput:
    shown = f' "{text[:80]}"' if text else ""
    return InvalidInput(
        f"The {target.replace('_', ' ')}{shown} cannot go into a configuration.",
        code="layout-invalid",
        remedy=f"Write it like this: {example}.",
        target=target,
    )
