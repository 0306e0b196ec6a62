"""Trying a profile out: issue from a throw-away CA, read the certificate back, compare with the declaration, lint.

Behind ``intaglio profile test`` and before a custom profile becomes active. The comparison reads the certificate with
`cryptography`, not with the code that wrote it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509 as pyca
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey
from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.core.identifiers import new_serial_number
from intaglio.profiles import registry, vocabulary
from intaglio.profiles.engine import IssuanceInput, Issuer, compile_profile
from intaglio.profiles.model import CertificateProfile
from intaglio.x509 import extensions as x509
from intaglio.x509.extensions import Extension
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.lint import Finding, deep_lint
from intaglio.x509.names import Name

_OCSP_URL = "http://pki.example/ocsp"
_ISSUER_URL = "http://pki.example/ca.crt"
_CRL_URL = "http://pki.example/ca.crl"
_SLOW_TO_MAKE = (KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096)


@dataclass(frozen=True)
class ProfileReport:
    """What came of trying a profile. ``differences`` are sentences; ``findings`` come from the linter."""

    profile_id: str
    certificate: bytes = field(repr=False)
    issuer: bytes = field(repr=False)
    differences: tuple[str, ...]
    findings: tuple[Finding, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether declared is issued and the linter found no error."""
        return not self.differences and not any(finding.severity == "error" for finding in self.findings)


@dataclass(frozen=True)
class ThrowAwayCa:
    """A root made for one test, with its key; nothing of it is kept."""

    key: PrivateKey = field(repr=False)
    certificate: bytes = field(repr=False)
    issuer: Issuer


def try_profile(
    profile: CertificateProfile,
    ca: ThrowAwayCa | None = None,
    *,
    key: PrivateKey | None = None,
    lint: bool = True,
) -> ProfileReport:
    """Issue one certificate of ``profile`` that asks for everything the profile takes from requests, and examine it.

    ``ca`` and ``key`` (the subject's) are made when not given; with ``lint=False`` the deep lint is left out. A refusal
    by the engine becomes a difference.
    """
    now = clock.now()
    ca = ca or throw_away_ca(now)
    if profile.kind == "root":
        issued = _self_issued(profile, ca.key, now)
        return _report(profile, issued, issued, (), lint=lint)
    key = key or algorithms.generate_private_key(representative_key_algorithm(profile))
    try:
        prepared = compile_profile(profile, ca.issuer).prepare(
            _representative_request(profile, key), serial=new_serial_number(), now=now
        )
    except IntaglioError as error:
        return ProfileReport(profile.id, b"", ca.certificate, (f"refused: {error.detail}",), (), ())
    certificate = prepared.assemble(algorithms.sign(ca.key, prepared.tbs))
    return _report(profile, certificate, ca.certificate, prepared.warnings, lint=lint)


def throw_away_ca(now: datetime, algorithm: KeyAlgorithm = KeyAlgorithm.ECDSA_P256) -> ThrowAwayCa:
    """A fresh self-signed root that permits any number of CAs below it and publishes everywhere."""
    key = algorithms.generate_private_key(algorithm)
    certificate = _self_issued(registry.get("basic-ca-root"), key, now - timedelta(days=1))
    root = _root_issuer(key, now)
    issuer = Issuer(
        root.name,
        root.subject_der,
        root.key_id,
        algorithm,
        now - timedelta(days=1),
        now + timedelta(days=19 * 365),
        None,
        ocsp_enabled=True,
        ocsp_urls=(_OCSP_URL,),
        issuer_urls=(_ISSUER_URL,),
        crl_urls=(_CRL_URL,),
    )
    return ThrowAwayCa(key, certificate, issuer)


def representative_key_algorithm(profile: CertificateProfile) -> KeyAlgorithm:
    """A key type that fits the profile's key usages and is quick to make."""
    encrypts = {"keyEncipherment", "dataEncipherment"} & set(profile.key_usage)
    if encrypts and KeyAlgorithm.RSA_2048 in profile.key_algorithms:
        return KeyAlgorithm.RSA_2048
    quick = [algorithm for algorithm in profile.key_algorithms if algorithm not in _SLOW_TO_MAKE]
    return (quick or profile.key_algorithms)[0]


# ---- issuing ---------------------------------------------------------------------------------------------------------


def _root_issuer(key: PrivateKey, now: datetime) -> Issuer:
    key_id = algorithms.key_identifier(_spki(key))
    return Issuer.of_root("profile test", _ROOT_NAME, key_id, algorithms.key_algorithm_of(key), now)


def _self_issued(profile: CertificateProfile, key: PrivateKey, now: datetime) -> bytes:
    request = IssuanceInput(_ROOT_NAME, _spki(key), algorithms.key_algorithm_of(key), profile.channels[0])
    prepared = compile_profile(profile, _root_issuer(key, now)).prepare(request, serial=new_serial_number(), now=now)
    return prepared.assemble(algorithms.sign(key, prepared.tbs))


def _representative_request(profile: CertificateProfile, key: PrivateKey) -> IssuanceInput:
    names = [("dNSName", "profile-test.pki.example"), ("rfc822Name", "profile-test@pki.example")]
    wanted = {"userPrincipalName": "profile-test@pki.example", "iPAddress": "192.0.2.1", **_FURTHER_NAMES}
    names += [(kind, wanted[kind]) for kind in profile.required_san_types if kind in wanted]
    attributes = [("CN", "profile-test.pki.example"), ("O", "Intaglio")]
    attributes += [(name, _attribute_value(name)) for name in profile.subject_required if name not in ("CN", "O")]
    samples = _sample_extensions()
    return IssuanceInput(
        subject=Name.build(attributes),
        spki=_spki(key),
        key_algorithm=algorithms.key_algorithm_of(key),
        channel=profile.channels[0],
        san=GeneralNames.build(names) if profile.kind == "end-entity" or profile.required_san_types else None,
        extensions=tuple(
            Extension(oid, True, value) for oid, value in samples.items() if oid in profile.request_extension_oids
        ),
        subject_variables=tuple((name, "value") for name in profile.required_variables),
    )


def _attribute_value(name: str) -> str:
    if name.endswith("CountryName") or name in ("C", "TrademarkCountryOrRegionName"):
        return "AT"
    return "test@pki.example" if name == "Email" else "test"


def _sample_extensions() -> dict[str, bytes]:
    """A well-formed value of every extension of the named request sets."""
    policy = x509.certificate_policies(["1.3.6.1.4.1.99999.1"])
    sid_name = der.oid("1.3.6.1.4.1.311.25.2.1") + der.explicit(0, der.octet_string(b"S-1-5-21-1-2-3-1000"))
    return {
        x509.CERTIFICATE_POLICIES: policy,
        x509.MS_APPLICATION_POLICIES: policy,
        x509.EXTENDED_KEY_USAGE: x509.extended_key_usage([x509.CLIENT_AUTH]),
        x509.SMIME_CAPABILITIES: der.sequence(der.sequence(der.oid("2.16.840.1.101.3.4.1.42"))),
        x509.MS_TEMPLATE: der.sequence(der.oid("1.3.6.1.4.1.311.21.8.1.2.3"), der.integer(100), der.integer(1)),
        x509.MS_TEMPLATE_NAME: der.tlv(der.BMP_STRING, "Machine".encode("utf-16-be")),
        x509.MS_NTDS_CA_SECURITY: der.sequence(der.explicit(0, sid_name)),
        x509.PIV_INTERIM: der.boolean(False),
    }


def _spki(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


_ROOT_NAME = Name.build([("O", "Intaglio"), ("CN", "Profile test root")])
_FURTHER_NAMES = {
    "uniformResourceIdentifier": "https://pki.example/profile-test",
    "directoryName": "CN=profile-test",
    "registeredID": "1.3.6.1.4.1.99999.2",
    "otherName": "1.3.6.1.4.1.99999.3;UTF8:profile-test",
}


# ---- comparing -------------------------------------------------------------------------------------------------------


def _report(
    profile: CertificateProfile, certificate: bytes, issuer: bytes, warnings: tuple[str, ...], *, lint: bool
) -> ProfileReport:
    differences = tuple(compare(profile, certificate, issuer))
    findings = deep_lint(certificate, "certificate") if lint else []
    judged = tuple(_by_design(profile, finding) for finding in findings)
    return ProfileReport(profile.id, certificate, issuer, differences, judged, warnings)


def _by_design(profile: CertificateProfile, finding: Finding) -> Finding:
    """An error that the declaration makes unavoidable is only a warning."""
    both = {"keyAgreement", "keyEncipherment"} <= set(profile.key_usage)
    if both and finding.code == "pkix.key_usage_value_prohibited_for_rsa":
        # RFC 3279 section 2.3.1 and RFC 8813 section 3: one is for elliptic curves, the other for RSA. The profile
        # serves both, and relying parties ignore the bit that does not fit.
        return finding._replace(severity="warning")
    return finding


def compare(profile: CertificateProfile, certificate: bytes, issuer: bytes) -> Iterator[str]:
    """Sentences about where an issued certificate is not what the profile declares.

    The certificate must come from `try_profile`: it has every extension the profile takes from requests.
    """
    issued = pyca.load_der_x509_certificate(certificate)
    expected = dict(_expected(profile, issued, pyca.load_der_x509_certificate(issuer)))
    found = {extension.oid.dotted_string: extension for extension in issued.extensions}
    optional = {x509.SUBJECT_ALT_NAME}
    for oid in sorted(expected.keys() - found.keys()):
        yield f"{vocabulary.extension_name(oid)} is declared and missing"
    for oid in sorted(found.keys() - expected.keys() - optional):
        yield f"{vocabulary.extension_name(oid)} is issued and not declared"
    for oid in sorted(expected.keys() & found.keys()):
        critical, value = expected[oid]
        if found[oid].critical != critical:
            yield f"{vocabulary.extension_name(oid)} should {'' if critical else 'not '}be critical"
        if found[oid].value.public_bytes() != value:
            yield f"{vocabulary.extension_name(oid)} is {found[oid].value}"
    if issued.version is not pyca.Version.v3:
        yield "the certificate is not of version 3"


def _expected(
    profile: CertificateProfile, issued: pyca.Certificate, issuer: pyca.Certificate
) -> Iterator[tuple[str, tuple[bool, bytes]]]:
    """OID -> (critical, value), written by `cryptography`."""
    if profile.has_basic_constraints:
        constraints = pyca.BasicConstraints(profile.is_ca, profile.basic_constraints.path_length)
        yield x509.BASIC_CONSTRAINTS, (True, constraints.public_bytes())
    yield x509.KEY_USAGE, (True, _key_usage(profile).public_bytes())
    spki = issued.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    key_id = algorithms.key_identifier(spki)
    yield x509.SUBJECT_KEY_IDENTIFIER, (False, pyca.SubjectKeyIdentifier(key_id).public_bytes())
    if profile.kind != "root":
        issuer_id = issuer.extensions.get_extension_for_class(pyca.SubjectKeyIdentifier).value
        authority = pyca.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(issuer_id)
        yield x509.AUTHORITY_KEY_IDENTIFIER, (False, authority.public_bytes())
    purposes = profile.purpose_oids or ((x509.CLIENT_AUTH,) if profile.eku_from_request else ())
    if purposes:
        value = pyca.ExtendedKeyUsage(map(pyca.ObjectIdentifier, purposes)).public_bytes()
        yield x509.EXTENDED_KEY_USAGE, (profile.extended_key_usage_critical, value)
    if profile.certificate_policies:
        policies = [pyca.PolicyInformation(pyca.ObjectIdentifier(oid), None) for oid in profile.certificate_policies]
        yield x509.CERTIFICATE_POLICIES, (False, pyca.CertificatePolicies(policies).public_bytes())
    yield from _expected_publication(profile)
    samples = _sample_extensions()
    for oid in profile.request_extension_oids - {x509.EXTENDED_KEY_USAGE}:
        if oid in samples and profile.kind != "root":
            yield oid, (False, samples[oid])


def _expected_publication(profile: CertificateProfile) -> Iterator[tuple[str, tuple[bool, bytes]]]:
    if profile.cdp == "always":
        point = pyca.DistributionPoint([pyca.UniformResourceIdentifier(_CRL_URL)], None, None, None)
        yield x509.CRL_DISTRIBUTION_POINTS, (False, pyca.CRLDistributionPoints([point]).public_bytes())
    if profile.aia != "never":
        method = AuthorityInformationAccessOID
        places = ((method.OCSP, _OCSP_URL), (method.CA_ISSUERS, _ISSUER_URL))
        described = [pyca.AccessDescription(oid, pyca.UniformResourceIdentifier(url)) for oid, url in places]
        yield x509.AUTHORITY_INFORMATION_ACCESS, (False, pyca.AuthorityInformationAccess(described).public_bytes())
    if profile.ocsp_no_check:
        yield x509.OCSP_NO_CHECK, (False, pyca.OCSPNoCheck().public_bytes())


def _key_usage(profile: CertificateProfile) -> pyca.KeyUsage:
    usages = set(profile.key_usage)
    return pyca.KeyUsage(
        digital_signature="digitalSignature" in usages,
        content_commitment="nonRepudiation" in usages,
        key_encipherment="keyEncipherment" in usages,
        data_encipherment="dataEncipherment" in usages,
        key_agreement="keyAgreement" in usages,
        key_cert_sign="keyCertSign" in usages,
        crl_sign="cRLSign" in usages,
        encipher_only="encipherOnly" in usages,
        decipher_only="decipherOnly" in usages,
    )
