"""The profiles under which the platform issues to itself: CA certificates, client credentials, listeners.

They are the built-in basic and private TLS profiles, except that the platform's own keys may be of every algorithm and
that only the platform can ask for them.
"""

from __future__ import annotations

import hashlib
from functools import cache

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.profiles import registry
from intaglio.profiles.declarations import validated
from intaglio.profiles.model import CertificateProfile

_ALL_KEYS = list(KeyAlgorithm)


@cache
def ca_root() -> CertificateProfile:
    """Self-signed root certificates: at most 20 years."""
    return _derived("basic-ca-root")


@cache
def ca_subordinate(path_length: int = 0) -> CertificateProfile:
    """Certificates of issuing CAs: at most 10 years; ``path_length`` further CA certificates may follow."""
    if path_length == 0:
        return _derived("basic-ca-subord")
    # An id of its own: compiled profiles are kept by id and version.
    return _derived(
        "basic-ca-subord",
        id=f"basic-ca-subord-path-{path_length}",
        basic_constraints={"ca": True, "path_length": path_length},
    )


def is_ca_profile(profile_id: str) -> bool:
    """Whether certificates of this profile belong to CAs of the platform itself."""
    return profile_id.startswith(("basic-ca-root", "basic-ca-subord"))


@cache
def client_credential() -> CertificateProfile:
    """Client certificates for the gateway: 1 year unless asked otherwise."""
    return _for_the_platform("privatessl-tls-client", "client-credential", "Client credential")


@cache
def listener() -> CertificateProfile:
    """Server certificates of the platform's own listeners: 1 year."""
    return _for_the_platform("privatessl-tls-server", "platform-listener", "Platform listener")


@cache
def timestamping(policies: tuple[str, ...] = (), *, access_information: bool = True) -> CertificateProfile:
    """Certificates that sign timestamps: 3 years; timeStamping is the one purpose, and critical (RFC 3161 section 2.3).

    ``policies`` are dotted OIDs; ``access_information`` says where to ask for the status.
    """
    # Compiled profiles are kept by id, so whatever differs must be in it.
    named = hashlib.sha256(repr((policies, access_information)).encode()).hexdigest()[:12]
    return _derived(
        "codesigning-digital-signature",
        id="timestamping" if not policies and access_information else f"timestamping-{named}",
        title="Timestamping",
        exposed=False,
        configurable=False,
        channels=["platform"],
        request_extensions=[],
        extended_key_usage=["timeStamping"],
        extended_key_usage_critical=True,
        certificate_policies=list(policies),
        aia="if-ocsp-enabled" if access_information else "never",
        validity={"default": "P3Y", "maximum": "P11Y"},
    )


@cache
def cmp_protection() -> CertificateProfile:
    """Certificates that sign the answers of CMP endpoints: 1 year; registration authority and, for keys that are made
    for clients, key generation authority (RFC 9810 section 4.5)."""
    return _derived(
        "privatessl-tls-client",
        id="cmp-protection",
        title="CMP protection",
        exposed=False,
        configurable=False,
        channels=["platform"],
        request_extensions=[],
        extended_key_usage=["cmcRA", "cmKGA"],
    )


@cache
def registration_authority(usages: tuple[str, ...] = ("digitalSignature", "keyEncipherment")) -> CertificateProfile:
    """Certificates of SCEP registration authorities: 1 year unless asked otherwise; ``usages`` are those of its key
    (RFC 8894 section 2.1.2)."""
    return _derived(
        "scep-digital-signature-key-encipherment",
        id="scep-ra" if len(usages) > 1 else f"scep-ra-{usages[0].lower()}",
        title="SCEP registration authority",
        exposed=False,
        configurable=False,
        channels=["platform"],
        request_extensions=[],
        key_usage=list(usages),
        eku_from_request=False,
        validity={"default": "P1Y", "maximum": "P11Y"},
    )


def _for_the_platform(source: str, profile_id: str, title: str) -> CertificateProfile:
    return _derived(
        source,
        id=profile_id,
        title=title,
        exposed=False,
        configurable=False,
        channels=["platform"],
        request_extensions=[],
    )


def _derived(source: str, **changes: object) -> CertificateProfile:
    declared = registry.get(source).model_dump(mode="json")
    return validated({**declared, "key_algorithms": _ALL_KEYS, **changes})
