"""What a request may bring: extension sets, extended key usages, key usage, and what happens to the rest."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography import x509 as pyca
from hypothesis import given, settings
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import IntaglioError
from intaglio.profiles import custom, registry, vocabulary
from intaglio.profiles.engine.extension_values import read_security_identifier
from intaglio.x509 import extensions as x509
from intaglio.x509.extensions import Extension

POLICY = x509.certificate_policies(["1.3.6.1.4.1.99999.1"])
SID = bytes.fromhex("3023a021060a2b060104018237190201a0130411") + b"S-1-5-21-1-2-3-10"
VALUES = {
    "certificatePolicies": POLICY,
    "extendedKeyUsage": x509.extended_key_usage([x509.CLIENT_AUTH]),
    "applicationPolicies": POLICY,
    "smimeCapabilities": der.sequence(der.sequence(der.oid("2.16.840.1.101.3.4.1.42"))),
    "certificateTemplate": der.sequence(der.oid("1.3.6.1.4.1.311.21.8.1"), der.integer(100)),
    "certificateTemplateName": der.tlv(der.BMP_STRING, "Machine".encode("utf-16-be")),
    "securityIdentifier": SID,
    "pivInterim": der.boolean(True),
}
MICROSOFT = set(VALUES) - {"pivInterim", "extendedKeyUsage"}


def asked(name: str, value: bytes | None = None, *, critical: bool = False) -> Extension:
    return Extension(vocabulary.extension_oid(name), critical, VALUES[name] if value is None else value)


def eku(*names: str) -> Extension:
    return asked("extendedKeyUsage", x509.extended_key_usage([vocabulary.purpose_oid(name) for name in names]))


def purposes(certificate: pyca.Certificate) -> list[str]:
    try:
        value = certificate.extensions.get_extension_for_class(pyca.ExtendedKeyUsage).value
    except pyca.ExtensionNotFound:
        return []
    return [vocabulary.purpose_name(oid.dotted_string) for oid in value]


def names_of(certificate: pyca.Certificate) -> set[str]:
    return {vocabulary.extension_name(extension.oid.dotted_string) for extension in certificate.extensions}


def clone(profile_id: str, **changes: Any) -> Any:
    return custom.clone(registry.get(profile_id), "cloned", changes)


# ---- the sets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "taken"),
    [
        ("est-digital-signature", MICROSOFT | {"extendedKeyUsage"}),
        ("scep-key-encipherment", MICROSOFT | {"extendedKeyUsage"}),
        ("cmp-non-repudiation", MICROSOFT | {"extendedKeyUsage"}),
        ("wstep-digital-signature", MICROSOFT | {"extendedKeyUsage"}),
        ("intune-digital-signature", MICROSOFT | {"extendedKeyUsage"}),
        ("intune-digital-signature-key-encipherment-clientauth", MICROSOFT),
        ("mdmws-p12-non-repudiation", MICROSOFT | {"extendedKeyUsage"}),
        ("privatessl-tls-client", {"applicationPolicies", "certificatePolicies"}),
        ("multiuse-p12-client", {"applicationPolicies", "certificatePolicies"}),
        ("multiuse-p12-custom", {"applicationPolicies", "certificatePolicies", "extendedKeyUsage"}),
        ("tlsproxy-ca-subord", {"certificatePolicies"}),
        ("azure-firewall-ca-subord", {"certificatePolicies"}),
        ("smartcard-card-authentication", {"pivInterim", "securityIdentifier", "extendedKeyUsage"}),
        ("smartcard-piv-authentication", {"pivInterim", "securityIdentifier"}),
        ("smartcard-piv-content-signing", {"extendedKeyUsage"}),
        ("smartcard-domain-controller", set()),
        ("codesigning-digital-signature", set()),
        ("smime-key-encipherment", set()),
        ("v2g-user-identity", set()),
        ("esim-delivery-auth", set()),
        ("mobile-device-p12-digital-signature-client-authentication", set()),
    ],
)
def test_profile_takes_exactly_its_set_byte_for_byte_and_never_critical(
    desk: Any, profile: str, taken: set[str]
) -> None:
    assert {vocabulary.extension_name(oid) for oid in registry.get(profile).request_extension_oids} == taken
    for name in VALUES:
        certificate = desk.issue(profile, extensions=(asked(name, critical=True),), on_unlisted="drop")
        if name in taken:
            extension = certificate.extensions.get_extension_for_oid(pyca.ObjectIdentifier(asked(name).oid))
            assert not extension.critical
            assert extension.value.public_bytes() == VALUES[name]
        elif name == "extendedKeyUsage":
            assert purposes(certificate) == list(registry.get(profile).extended_key_usage)
        elif name != "certificatePolicies" or not registry.get(profile).certificate_policies:
            assert name not in names_of(certificate)


def test_unlisted_extension_is_refused_to_the_api_and_dropped_with_a_warning_for_protocols(desk: Any) -> None:
    unlisted = (asked("pivInterim"),)
    refusal = desk.refusal("est-digital-signature", extensions=unlisted, channel="gateway-api")
    assert (refusal.code, refusal.extra["step"]) == ("extension-not-allowed", "extensions")
    assert "certificatePolicies" in refusal.remedy
    dropped = desk.prepare("est-digital-signature", extensions=unlisted, channel="est")
    assert any("pivInterim" in warning for warning in dropped.warnings)


def test_what_happens_to_unlisted_extensions_can_be_switched(desk: Any) -> None:
    unlisted = (asked("pivInterim"),)
    strict = clone("est-digital-signature", on_unlisted_extension="reject")
    lax = clone("est-digital-signature", on_unlisted_extension="drop")
    assert desk.refusal(strict, extensions=unlisted, channel="est").code == "extension-not-allowed"
    assert desk.prepare(lax, extensions=unlisted, channel="gateway-api").warnings
    assert desk.prepare(strict, extensions=unlisted, on_unlisted="drop").warnings


def test_clone_may_open_a_further_extension(desk: Any) -> None:
    profile = clone("privatessl-tls-client", request_extensions=["R2", "tlsFeature", "1.3.6.1.4.1.99999.7"])
    staple = Extension(x509.TLS_FEATURE, False, der.sequence(der.integer(5)))
    private = Extension("1.3.6.1.4.1.99999.7", False, der.utf8_string("x"))
    assert {"tlsFeature", "1.3.6.1.4.1.99999.7"} <= names_of(desk.issue(profile, extensions=(staple, private)))


def test_policies_of_the_profile_are_not_replaced_by_those_of_the_request(desk: Any) -> None:
    profile = clone("est-digital-signature", certificate_policies=["1.3.6.1.4.1.99999.5"])
    certificate = desk.issue(profile, extensions=(asked("certificatePolicies"),), on_unlisted="drop")
    value = certificate.extensions.get_extension_for_class(pyca.CertificatePolicies).value
    assert [entry.policy_identifier.dotted_string for entry in value] == ["1.3.6.1.4.1.99999.5"]


# ---- what only the authority writes ----------------------------------------------------------------------------------

AUTHORITYS_OWN = {
    "authorityKeyIdentifier": x509.authority_key_identifier(b"\x01" * 20),
    "basicConstraints": x509.basic_constraints(True),
    "cRLDistributionPoints": x509.crl_distribution_points(["http://attacker.example/"]),
    "cRLNumber": der.integer(1),
    "invalidityDate": der.tlv(der.GENERALIZED_TIME, b"20260101000000Z"),
    "issuingDistributionPoint": der.sequence(),
    "netscapeRevocationUrl": der.ia5_string("http://attacker.example/"),
    "cRLReason": der.tlv(der.ENUMERATED, b"\x01"),
    "subjectKeyIdentifier": x509.subject_key_identifier(b"\x01" * 20),
    "entrustVersInfo": der.sequence(),
}


@pytest.mark.parametrize("name", sorted(AUTHORITYS_OWN))
def test_extension_of_the_authority_is_ignored_in_a_request_and_forbidden_when_asked_for(desk: Any, name: str) -> None:
    extension = asked(name, AUTHORITYS_OWN[name], critical=True)
    prepared = desk.prepare("est-digital-signature", extensions=(extension,))
    assert any(name in warning for warning in prepared.warnings)
    assert x509.extension(extension.oid, True, extension.value) not in prepared.tbs
    assert x509.extension(extension.oid, False, extension.value) not in prepared.tbs
    refusal = desk.refusal("est-digital-signature", explicit_extensions=(extension,))
    assert (refusal.code, refusal.status) == ("forbidden-extension", 403)


def test_requester_never_becomes_a_ca(desk: Any) -> None:
    wanted = (
        asked("basicConstraints", x509.basic_constraints(True, 5), critical=True),
        asked("keyUsage", x509.key_usage(["keyCertSign", "cRLSign"]), critical=True),
    )
    certificate = desk.issue("est-digital-signature", extensions=wanted)
    assert certificate.extensions.get_extension_for_class(pyca.BasicConstraints).value.ca is False
    usage = certificate.extensions.get_extension_for_class(pyca.KeyUsage).value
    assert (usage.key_cert_sign, usage.crl_sign) == (False, False)


def test_usual_openssl_request_gives_no_warning(desk: Any) -> None:
    usual = (
        asked("basicConstraints", x509.basic_constraints(False)),
        asked("keyUsage", x509.key_usage(["digitalSignature"])),
    )
    assert desk.prepare("est-digital-signature", extensions=usual).warnings == ()


# ---- key usage -------------------------------------------------------------------------------------------------------


def test_key_usage_of_the_request_is_ignored_or_refused_by_switch(desk: Any) -> None:
    other = (asked("keyUsage", x509.key_usage(["keyAgreement"])),)
    ignored = desk.prepare("est-digital-signature", extensions=other)
    assert any("keyAgreement" in warning for warning in ignored.warnings)
    strict = clone("est-digital-signature", on_csr_key_usage_mismatch="reject")
    assert desk.refusal(strict, extensions=other).code == "key-usage-mismatch"
    assert desk.prepare(strict, extensions=(asked("keyUsage", x509.key_usage(["digitalSignature"])),))


def test_authorized_caller_may_choose_the_key_usage_but_no_authority_usages(desk: Any) -> None:
    certificate = desk.issue("est-digital-signature", key_usage=("keyAgreement", "digitalSignature"))
    usage = certificate.extensions.get_extension_for_class(pyca.KeyUsage)
    assert usage.critical
    assert (usage.value.digital_signature, usage.value.key_agreement) == (True, True)
    for wrong in (("keyCertSign",), ("cRLSign", "digitalSignature"), (), ("decipherOnly",)):
        assert desk.refusal("est-digital-signature", key_usage=wrong).code == "key-usage-not-allowed"
    assert desk.refusal("est-digital-signature", key_usage=("sing",)).code == "key-usage-unknown"


def test_key_usage_as_an_explicit_extension_counts_as_chosen(desk: Any) -> None:
    chosen = asked("keyUsage", x509.key_usage(["keyAgreement"]))
    certificate = desk.issue("est-digital-signature", explicit_extensions=(chosen,))
    assert certificate.extensions.get_extension_for_class(pyca.KeyUsage).value.key_agreement


# ---- extended key usage ----------------------------------------------------------------------------------------------


def test_request_without_purposes_gets_none(desk: Any) -> None:
    assert purposes(desk.issue("est-digital-signature")) == []


def test_clone_may_give_a_default_purpose(desk: Any) -> None:
    profile = clone("scep-digital-signature", eku_default=["clientAuth"])
    assert purposes(desk.issue(profile)) == ["clientAuth"]
    assert purposes(desk.issue(profile, extensions=(eku("emailProtection"),))) == ["emailProtection"]


@pytest.mark.parametrize("channel", ["gateway-api", "est"])
@pytest.mark.parametrize(
    "name",
    [
        "OCSPSigning",
        "codeSigning",
        "timeStamping",
        "anyExtendedKeyUsage",
        "certificateRequestAgent",
        "smartcardLogon",
        "pkinitKdc",
        "keyRecoveryAgent",
    ],
)
def test_dangerous_purpose_is_refused(desk: Any, channel: str, name: str) -> None:
    asking = {"extensions": (eku("clientAuth", name),), "channel": channel}
    refusal = desk.refusal("est-digital-signature", **asking)
    assert (refusal.code, refusal.extra["step"]) == ("eku-not-allowed", "extended-key-usage")
    assert name in refusal.detail


def test_clone_may_open_a_dangerous_purpose(desk: Any) -> None:
    profile = clone("est-digital-signature", eku_allow=["smartcardLogon"])
    assert purposes(desk.issue(profile, extensions=(eku("smartcardLogon"),))) == ["smartcardLogon"]
    assert desk.refusal(profile, extensions=(eku("codeSigning"),)).code == "eku-not-allowed"


def test_fixed_purposes_are_not_changed_by_the_request(desk: Any) -> None:
    profile = "intune-digital-signature-key-encipherment-clientauth"
    assert desk.refusal(profile, extensions=(eku("serverAuth"),)).code == "extension-not-allowed"
    dropped = desk.issue(profile, extensions=(eku("serverAuth"),), channel="intune")
    assert purposes(dropped) == ["clientAuth"]
    assert not any("extendedKeyUsage" in w for w in desk.prepare(profile, extensions=(eku("clientAuth"),)).warnings)


@pytest.mark.parametrize("name", ["certificateRequestAgent", "OCSPSigning", "codeSigning"])
def test_application_policies_are_no_way_round_the_refused_purposes(desk: Any, name: str) -> None:
    policies = asked("applicationPolicies", x509.certificate_policies([vocabulary.purpose_oid(name)]))
    assert desk.refusal("est-digital-signature", extensions=(policies,)).code == "eku-not-allowed"


def test_application_policies_do_not_widen_fixed_purposes(desk: Any) -> None:
    client = asked("applicationPolicies", x509.certificate_policies([x509.CLIENT_AUTH]))
    assert desk.refusal("multiuse-p12-server", extensions=(client,)).code == "eku-not-allowed"
    assert desk.prepare("multiuse-p12-client", extensions=(client,))


def test_explicit_extension_wins_over_the_request(desk: Any) -> None:
    certificate = desk.issue(
        "est-digital-signature", extensions=(eku("clientAuth"),), explicit_extensions=(eku("emailProtection"),)
    )
    assert purposes(certificate) == ["emailProtection"]


def test_repeated_purpose_is_issued_once(desk: Any) -> None:
    twice = asked("extendedKeyUsage", der.sequence(der.oid(x509.CLIENT_AUTH), der.oid(x509.CLIENT_AUTH)))
    assert purposes(desk.issue("est-digital-signature", extensions=(twice,))) == ["clientAuth"]


# ---- malformed values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize("value", [b"", b"\x30", b"\x05\x00\x00", b"\x30\x80\x00\x00", b"\x30\x03\x01\x01"])
def test_malformed_extension_is_refused_not_copied(desk: Any, name: str, value: bytes) -> None:
    profile = "smartcard-card-authentication" if name == "pivInterim" else "est-digital-signature"
    refusal = desk.refusal(profile, extensions=(asked(name, value),))
    assert (refusal.code, refusal.extra["step"]) == ("extension-malformed", "extensions")
    assert name in refusal.detail


def test_security_identifier_is_read() -> None:
    assert read_security_identifier(SID) == "S-1-5-21-1-2-3-10"


@settings(deadline=None, max_examples=300)
@given(
    name=st.sampled_from(sorted(VALUES)),
    noise=st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=4),
    tail=st.binary(max_size=6),
    channel=st.sampled_from(["gateway-api", "est"]),
)
def test_any_extension_value_is_issued_parsable_or_refused(
    desk: Any, name: str, noise: list[tuple[int, int]], tail: bytes, channel: str
) -> None:
    value = bytearray(VALUES[name] + tail)
    for position, octet in noise:
        if position < len(value):
            value[position] = octet
    certificate = desk.attempt("est-digital-signature", extensions=(asked(name, bytes(value)),), channel=channel)
    if isinstance(certificate, IntaglioError):
        assert certificate.extra["step"] in ("extensions", "extended-key-usage", "lint")
        return
    assert certificate.extensions.get_extension_for_class(pyca.BasicConstraints).value.ca is False
    dangerous = {vocabulary.purpose_name(oid) for oid in vocabulary.DANGEROUS_PURPOSES}
    assert not set(purposes(certificate)) & dangerous


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([profile.id for profile in registry.builtin_profiles().values() if profile.exposed]),
    st.lists(
        st.builds(
            Extension,
            st.sampled_from([*VALUES, *AUTHORITYS_OWN, "keyUsage", "nameConstraints", "1.2.3.4"]).map(
                vocabulary.extension_oid
            ),
            st.booleans(),
            st.one_of(st.binary(max_size=20), st.sampled_from([*VALUES.values(), *AUTHORITYS_OWN.values()])),
        ),
        max_size=5,
        unique_by=lambda extension: extension.oid,
    ),
    st.sampled_from([None, "drop", "reject"]),
)
def test_no_request_changes_what_the_authority_decides(
    desk: Any, profile_id: str, extensions: list[Extension], rule: str | None
) -> None:
    certificate = desk.attempt(profile_id, extensions=tuple(extensions), on_unlisted=rule)
    if isinstance(certificate, IntaglioError):
        assert certificate.extra["step"]
        return
    profile = registry.get(profile_id)
    constraints = certificate.extensions.get_extension_for_class(pyca.BasicConstraints)
    assert (constraints.critical, constraints.value.ca) == (True, profile.is_ca)
    allowed = profile.request_extension_oids | {
        vocabulary.extension_oid(name)
        for name in (
            "authorityKeyIdentifier", "subjectKeyIdentifier", "basicConstraints", "keyUsage", "extendedKeyUsage",
            "certificatePolicies", "cRLDistributionPoints", "authorityInfoAccess", "subjectAltName",
        )
    }  # fmt: skip
    assert {extension.oid.dotted_string for extension in certificate.extensions} <= allowed


def test_extended_key_usage_asked_for_as_critical_by_the_caller_is_critical(desk: Any) -> None:
    wanted = eku("emailProtection")
    wanted = Extension(wanted.oid, True, wanted.value)
    usage = desk.issue("est-digital-signature", explicit_extensions=(wanted,)).extensions.get_extension_for_class(
        pyca.ExtendedKeyUsage
    )
    assert usage.critical
    from_csr = desk.issue("est-digital-signature", extensions=(wanted,))
    assert not from_csr.extensions.get_extension_for_class(pyca.ExtendedKeyUsage).critical
