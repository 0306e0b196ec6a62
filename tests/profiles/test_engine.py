"""The pipeline from a request to a certificate: each rule with what it grants and what it refuses."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from cryptography import x509 as pyca
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import algorithms, der
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, Refused
from intaglio.core.identifiers import new_serial_number
from intaglio.profiles import custom, registry
from intaglio.profiles.engine import Issuer, PreparedCertificate, compile_profile
from intaglio.x509 import extensions as x509
from intaglio.x509.extensions import Extension
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

NOBODY = Name.build([])


def san(*names: tuple[str, str]) -> GeneralNames:
    return GeneralNames.build(names)


def dns_names(certificate: pyca.Certificate) -> list[str]:
    value = certificate.extensions.get_extension_for_class(pyca.SubjectAlternativeName).value
    return value.get_values_for_type(pyca.DNSName)


def has(certificate: pyca.Certificate, kind: type[pyca.ExtensionType]) -> bool:
    return any(isinstance(extension.value, kind) for extension in certificate.extensions)


def clone(profile_id: str, **changes: Any) -> Any:
    return custom.clone(registry.get(profile_id), "cloned", changes)


# ---- way in, mode, key -----------------------------------------------------------------------------------------------


def test_profile_is_refused_through_a_channel_it_is_not_offered_on(desk: Any) -> None:
    refusal = desk.refusal("est-digital-signature", channel="scep")
    assert (refusal.code, refusal.extra["step"]) == ("channel-not-allowed", "channel")
    assert "console, gateway-api, est" in refusal.remedy
    assert desk.prepare("est-digital-signature", channel="est")


def test_basic_profiles_are_refused_to_everybody_outside(desk: Any) -> None:
    assert desk.refusal("basic-ca-subord", channel="gateway-api").code == "channel-not-allowed"


def test_key_generation_is_refused_where_the_profile_does_not_offer_it(desk: Any) -> None:
    assert desk.refusal("est-digital-signature", mode="p12").code == "mode-not-offered"
    assert desk.prepare("multiuse-p12-client", mode="p12")
    assert desk.prepare("multiuse-p12-client", mode="csr")


@pytest.mark.parametrize("algorithm", [KeyAlgorithm.ED25519, KeyAlgorithm.ML_DSA_44])
def test_key_types_beyond_the_six_need_a_custom_profile(desk: Any, keys: Any, algorithm: KeyAlgorithm) -> None:
    asked = {"spki": algorithms.spki(keys(algorithm).public_key()), "key_algorithm": algorithm}
    assert desk.refusal("est-digital-signature", **asked).code == "key-type-not-allowed"
    assert desk.issue(clone("est-digital-signature", key_algorithms=[algorithm.value]), **asked)


def test_signing_only_key_is_refused_for_encryption(desk: Any, keys: Any) -> None:
    profile = clone("est-key-encipherment", key_algorithms=["ed25519"])
    spki = algorithms.spki(keys(KeyAlgorithm.ED25519).public_key())
    refusal = desk.refusal(profile, spki=spki, key_algorithm=KeyAlgorithm.ED25519)
    assert (refusal.code, refusal.extra["step"]) == ("key-usage-not-for-key", "key-usage")


def test_ecdsa_key_certified_for_encryption_is_issued_with_a_warning(desk: Any) -> None:
    assert any("does not fit the key" in warning for warning in desk.prepare("est-key-encipherment").warnings)


def test_retirement_of_small_rsa_keys_is_announced(desk: Any, keys: Any) -> None:
    spki = algorithms.spki(keys(KeyAlgorithm.RSA_2048).public_key())
    warnings = desk.prepare("est-digital-signature", spki=spki, key_algorithm=KeyAlgorithm.RSA_2048).warnings
    assert any("2030-12-31" in warning for warning in warnings)
    assert not desk.prepare("est-digital-signature").warnings


def test_minimum_key_size_blocks_or_warns(desk: Any) -> None:
    blocking = clone("est-digital-signature", minimum_keysize={"action": "block", "ecc": 384, "rsa": 3072})
    logging = clone("est-digital-signature", minimum_keysize={"action": "log", "ecc": 384})
    assert desk.refusal(blocking).code == "key-too-small"
    assert any("at least 384" in warning for warning in desk.prepare(logging).warnings)
    assert not desk.prepare(clone("est-digital-signature", minimum_keysize={"action": "block", "rsa": 3072})).warnings


# ---- subject and names -----------------------------------------------------------------------------------------------


def test_subject_is_copied_byte_for_byte(desk: Any) -> None:
    odd = Name.parse("/C=AT/O=Example+OU=Lab/CN=one/CN=two/serialNumber=7/UID=u")
    assert desk.issue("est-digital-signature", subject=odd).subject.public_bytes() == odd.der


def test_all_types_of_names_are_copied_byte_for_byte(desk: Any) -> None:
    names = san(
        ("dNSName", "*.host.example"),
        ("rfc822Name", "someone@host.example"),
        ("iPAddress", "2001:db8::1"),
        ("uniformResourceIdentifier", "https://host.example/x"),
        ("directoryName", "CN=other,O=Example"),
        ("registeredID", "1.2.3.4"),
        ("userPrincipalName", "someone@corp.example"),
    )
    certificate = desk.issue("est-digital-signature", san=names)
    extension = certificate.extensions.get_extension_for_class(pyca.SubjectAlternativeName)
    assert extension.value.public_bytes() == names.der
    assert not extension.critical


def test_names_are_critical_exactly_when_the_subject_is_empty(desk: Any) -> None:
    certificate = desk.issue("est-digital-signature", subject=NOBODY, san=san(("dNSName", "host.example")))
    assert certificate.extensions.get_extension_for_class(pyca.SubjectAlternativeName).critical


def test_request_without_any_name_is_refused(desk: Any) -> None:
    refusal = desk.refusal("est-digital-signature", subject=NOBODY)
    assert (refusal.code, refusal.extra["step"]) == ("subject-and-san-empty", "san")


def test_subject_equal_to_the_issuer_is_refused(desk: Any) -> None:
    assert desk.refusal("est-digital-signature", subject=Name(desk.issuer.subject_der)).code == "subject-is-issuer"


def test_ca_certificate_needs_a_subject(desk: Any) -> None:
    refusal = desk.refusal("tlsproxy-ca-subord", subject=NOBODY, san=san(("dNSName", "proxy.example")))
    assert refusal.code == "subject-required"


def test_filling_adds_the_missing_common_names_once(desk: Any) -> None:
    subject = Name.build([("CN", "b.example"), ("CN", "a.example"), ("CN", "A.EXAMPLE"), ("CN", "John Doe")])
    prepared = desk.prepare("privatessl-tls-server-supply-san", subject=subject, san=san(("dNSName", "a.example")))
    assert [entry.text for entry in prepared.san.entries] == ["a.example", "b.example"]
    assert any('"John Doe" is not a DNS name' in warning for warning in prepared.warnings)


def test_filling_makes_the_extension_when_the_request_has_none(desk: Any) -> None:
    assert dns_names(desk.issue("privatessl-tls-server-supply-san")) == ["host.example"]


def test_without_filling_the_names_are_exactly_those_of_the_request(desk: Any) -> None:
    assert dns_names(desk.issue("privatessl-tls-server", san=san(("dNSName", "x.example")))) == ["x.example"]
    assert not has(desk.issue("privatessl-tls-client"), pyca.SubjectAlternativeName)


def test_tls_server_without_a_host_name_is_refused_by_private_tls_and_warned_about_elsewhere(desk: Any) -> None:
    mail_only = san(("rfc822Name", "a@host.example"))
    assert desk.refusal("privatessl-tls-server", san=mail_only).code == "san-required"
    assert desk.refusal("privatessl-tls-server-supply-san", subject=Name.parse("CN=John Doe")).code == "san-required"
    assert desk.prepare("privatessl-tls-server", san=san(("iPAddress", "192.0.2.1")))
    assert any("will not accept" in warning for warning in desk.prepare("multiuse-p12-server").warnings)


def test_mail_certificate_without_an_address_is_warned_about(desk: Any) -> None:
    assert any("rfc822Name" in warning for warning in desk.prepare("smime-non-repudiation").warnings)
    assert not desk.prepare("smime-non-repudiation", san=san(("rfc822Name", "a@host.example"))).warnings


def test_required_name_types_attributes_and_variables_are_enforced(desk: Any) -> None:
    profile = clone(
        "est-digital-signature",
        san_requirements=[{"type": "upn", "required": True}, {"type": "dns", "required": False}],
        subject_required=["CN", "OU"],
        subject_variable_requirements=[{"name": "First Name", "description": "", "required": True}],
    )
    complete = {
        "subject": Name.parse("CN=x,OU=y"),
        "san": san(("upn", "a@corp.example")),
        "subject_variables": (("first name", "Ada"),),
    }
    assert desk.prepare(profile, **complete)
    assert desk.refusal(profile, **{**complete, "subject_variables": ()}).code == "subject-variable-required"
    assert desk.refusal(profile, **{**complete, "subject": Name.parse("CN=x")}).code == "subject-attribute-required"
    assert desk.refusal(profile, **{**complete, "san": san(("dns", "a.example"))}).code == "san-required"


@given(
    st.lists(st.text(min_size=1, max_size=64) | st.sampled_from(["a.example", "*.b.example", "10.0.0.1"]), max_size=4),
    st.lists(st.sampled_from(["a.example", "c.example"]), max_size=2, unique=True),
)
def test_any_common_name_gives_a_certificate_with_valid_names_or_a_refusal(
    desk: Any, common_names: list[str], names: list[str]
) -> None:
    asked: dict[str, Any] = {"san": san(*(("dNSName", name) for name in names)) if names else None}
    with contextlib.suppress(InvalidInput):
        asked["subject"] = Name.build([("CN", name) for name in common_names])
    certificate = desk.attempt("privatessl-tls-client-server-supply-san", **asked)
    if isinstance(certificate, IntaglioError):
        assert certificate.extra["step"] in ("san", "subject", "lint")
        return
    found = dns_names(certificate)
    assert found[: len(names)] == names
    assert len({name.lower() for name in found}) == len(found)
    assert all(name.isascii() and " " not in name for name in found)


def test_fault_found_below_the_engine_names_a_step_too(desk: Any) -> None:
    refusal = desk.refusal("est-digital-signature", spki=b"\x30\x00")
    assert refusal.extra["step"] == "request"


# ---- who is asking ---------------------------------------------------------------------------------------------------


def sid_extension(sid: str) -> Extension:
    name = der.oid("1.3.6.1.4.1.311.25.2.1") + der.explicit(0, der.octet_string(sid.encode()))
    return Extension(x509.MS_NTDS_CA_SECURITY, False, der.sequence(der.explicit(0, name)))


def test_user_principal_name_must_be_the_requesters(desk: Any) -> None:
    mine = {"requester_upn": "Ada@Corp.Example"}
    assert desk.prepare("wstep-digital-signature", san=san(("upn", "ada@corp.example")), **mine)
    refusal = desk.refusal("wstep-digital-signature", san=san(("upn", "admin@corp.example")), **mine)
    assert (refusal.code, refusal.extra["step"]) == ("requester-mismatch", "san")


def test_user_principal_name_in_another_string_type_does_not_slip_through(desk: Any) -> None:
    value = der.oid("1.3.6.1.4.1.311.20.2.3") + der.explicit(0, der.ia5_string("admin@corp.example"))
    disguised = GeneralNames.from_der(der.sequence(der.explicit(0, value)))
    refusal = desk.refusal("wstep-digital-signature", san=disguised, requester_upn="ada@corp.example")
    assert refusal.code == "requester-mismatch"


def test_security_identifier_must_be_the_requesters(desk: Any) -> None:
    mine = {"requester_upn": "ada@corp.example", "requester_sid": "S-1-5-21-1-2-3-1000"}
    own, other = sid_extension("S-1-5-21-1-2-3-1000"), sid_extension("S-1-5-21-1-2-3-500")
    assert desk.prepare("wstep-digital-signature", extensions=(own,), **mine)
    assert desk.refusal("wstep-digital-signature", extensions=(other,), **mine).code == "requester-mismatch"
    unknown_sid = {"requester_upn": "ada@corp.example"}
    assert desk.refusal("wstep-digital-signature", extensions=(own,), **unknown_sid).code == "requester-mismatch"


def test_security_identifier_in_a_san_uri_must_be_the_requesters_too(desk: Any) -> None:
    uri = san(("uri", "tag:microsoft.com,2022-09-14:sid:S-1-5-21-1-2-3-500"))
    refusal = desk.refusal("wstep-digital-signature", san=uri, requester_sid="S-1-5-21-1-2-3-1000")
    assert refusal.code == "requester-mismatch"


def test_unknown_requester_is_not_compared(desk: Any) -> None:
    sid = sid_extension("S-1-5-21-1-2-3-500")
    certificate = desk.issue("wstep-digital-signature", san=san(("upn", "any@corp.example")), extensions=(sid,))
    found = certificate.extensions.get_extension_for_oid(pyca.ObjectIdentifier(x509.MS_NTDS_CA_SECURITY))
    assert found.value.public_bytes() == sid.value


# ---- CA certificates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "budget", "fits"),
    [
        ("azure-firewall-ca-subord", None, True),
        ("azure-firewall-ca-subord", 2, True),
        ("azure-firewall-ca-subord", 1, False),
        ("azure-firewall-ca-subord", 0, False),
        ("tlsproxy-ca-subord", 1, True),
        ("tlsproxy-ca-subord", 0, False),
        ("est-digital-signature", 0, True),
    ],
)
def test_ca_certificate_is_refused_where_the_path_length_leaves_no_room(
    desk: Any, profile: str, budget: int | None, fits: bool
) -> None:
    here = desk.at({"path_budget": budget})
    if fits:
        assert here.prepare(profile)
    else:
        refusal = here.refusal(profile)
        assert (refusal.code, refusal.extra["step"]) == ("path-length-exceeded", "path-length")


def test_root_certificate_must_be_its_own_issuer(desk: Any) -> None:
    request = desk.request(channel="platform")
    stranger = Issuer.of_root("demo~root", request.subject, bytes(20), KeyAlgorithm.ECDSA_P256, desk.now)
    with pytest.raises(InvalidInput) as caught:
        compile_profile(registry.get("basic-ca-root"), stranger).prepare(
            request, serial=new_serial_number(), now=desk.now
        )
    assert caught.value.code == "root-not-self-signed"


# ---- issuer's part ---------------------------------------------------------------------------------------------------


def test_issuer_key_identifier_is_copied_not_recomputed(desk: Any) -> None:
    certificate = desk.at({"key_id": b"\x01\x02\x03"}).issue("est-digital-signature")
    value = certificate.extensions.get_extension_for_class(pyca.AuthorityKeyIdentifier).value
    assert value.key_identifier == b"\x01\x02\x03"
    assert value.authority_cert_issuer is None


def test_authority_information_access_only_with_ocsp(desk: Any) -> None:
    assert has(desk.issue("est-digital-signature"), pyca.AuthorityInformationAccess)
    without = desk.at({"ocsp_enabled": False})
    assert not has(without.issue("est-digital-signature"), pyca.AuthorityInformationAccess)
    signer = without.issue("basic-ocsp", channel="platform")
    access = signer.extensions.get_extension_for_class(pyca.AuthorityInformationAccess).value
    assert [entry.access_method for entry in access] == [pyca.AuthorityInformationAccessOID.CA_ISSUERS]


def test_ca_without_crls_gives_no_distribution_points_and_delta_crls_are_named(desk: Any) -> None:
    assert not has(desk.at({"crl_urls": ()}).issue("est-digital-signature"), pyca.CRLDistributionPoints)
    with_delta = desk.at({"delta_crl_urls": ("http://pki.example/delta.crl",)}).issue("est-digital-signature")
    assert has(with_delta, pyca.FreshestCRL)


@pytest.mark.parametrize(
    ("algorithm", "oid"),
    [
        (KeyAlgorithm.ECDSA_P256, "1.2.840.10045.4.3.2"),
        (KeyAlgorithm.ECDSA_P384, "1.2.840.10045.4.3.3"),
        (KeyAlgorithm.ECDSA_P521, "1.2.840.10045.4.3.4"),
        (KeyAlgorithm.RSA_2048, "1.2.840.113549.1.1.11"),
        (KeyAlgorithm.RSA_3072, "1.2.840.113549.1.1.11"),
        (KeyAlgorithm.RSA_4096, "1.2.840.113549.1.1.13"),
    ],
)
def test_signature_algorithm_follows_the_key_of_the_ca(desk: Any, algorithm: KeyAlgorithm, oid: str) -> None:
    prepared = desk.at({"algorithm": algorithm}).prepare("est-digital-signature")
    certificate = pyca.load_der_x509_certificate(prepared.assemble(b"\x00" * 64))
    assert certificate.signature_algorithm_oid.dotted_string == oid


def test_signed_certificate_verifies_under_the_ca(desk: Any) -> None:
    issuer = pyca.load_der_x509_certificate(desk.ca.certificate)
    desk.issue("est-digital-signature").verify_directly_issued_by(issuer)


# ---- the product -----------------------------------------------------------------------------------------------------


def test_only_the_engine_makes_prepared_certificates(desk: Any) -> None:
    prepared = desk.prepare("est-digital-signature")
    with pytest.raises(TypeError, match="only the profile engine"):
        PreparedCertificate(
            object(),
            tbs=prepared.tbs,
            serial=prepared.serial,
            not_before=prepared.not_before,
            not_after=prepared.not_after,
            subject=prepared.subject,
            san=None,
            warnings=(),
            signature_identifier=prepared.signature_identifier,
        )


def test_what_breaks_a_standard_is_not_prepared(desk: Any) -> None:
    compiled = compile_profile(registry.get("est-digital-signature"), desk.issuer)
    with pytest.raises(Refused) as caught:
        compiled.prepare(desk.request(), serial=b"\x7f" * 21, now=desk.now)
    assert (caught.value.code, caught.value.extra["step"]) == ("lint-failed", "lint")
    assert caught.value.extra["findings"]


def test_private_key_usage_period_is_the_asked_share_of_the_validity(desk: Any) -> None:
    certificate = desk.issue("est-digital-signature", private_key_usage_percentage=100)
    period = certificate.extensions.get_extension_for_oid(pyca.ObjectIdentifier("2.5.29.16"))
    assert not period.critical
    assert period.value.public_bytes() == der.sequence(
        der.tlv(0x80, b"20260615115500Z"), der.tlv(0x81, b"20270615120000Z")
    )
    assert desk.refusal("est-digital-signature", private_key_usage_percentage=0).code == "private-key-usage-percentage"


def test_refusals_are_of_the_right_kind(desk: Any) -> None:
    extension = Extension(x509.BASIC_CONSTRAINTS, True, x509.basic_constraints(True))
    assert isinstance(desk.refusal("est-digital-signature", explicit_extensions=(extension,)), Forbidden)
    assert isinstance(desk.refusal("est-digital-signature", channel="scep"), Refused)
