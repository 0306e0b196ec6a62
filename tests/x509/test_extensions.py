"""Extension values equal those of another implementation, and are read back."""

import pytest
from cryptography import x509 as pyca
from cryptography.x509.oid import AuthorityInformationAccessOID
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as ext

OID = pyca.ObjectIdentifier
URI = pyca.UniformResourceIdentifier


def _points(url: str) -> list[pyca.DistributionPoint]:
    return [pyca.DistributionPoint([URI(url)], None, None, None)]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (
            ext.key_usage(["digitalSignature", "keyEncipherment"]),
            pyca.KeyUsage(True, False, True, False, False, False, False, False, False),
        ),
        (
            ext.key_usage(["keyAgreement", "decipherOnly"]),
            pyca.KeyUsage(False, False, False, False, True, False, False, False, True),
        ),
        (
            ext.key_usage(["keyCertSign", "cRLSign"]),
            pyca.KeyUsage(False, False, False, False, False, True, True, False, False),
        ),
        (
            ext.extended_key_usage([ext.SERVER_AUTH, ext.CLIENT_AUTH]),
            pyca.ExtendedKeyUsage([OID(ext.SERVER_AUTH), OID(ext.CLIENT_AUTH)]),
        ),
        (ext.basic_constraints(False), pyca.BasicConstraints(False, None)),
        (ext.basic_constraints(True), pyca.BasicConstraints(True, None)),
        (ext.basic_constraints(True, 0), pyca.BasicConstraints(True, 0)),
        (ext.subject_key_identifier(b"k" * 20), pyca.SubjectKeyIdentifier(b"k" * 20)),
        (ext.authority_key_identifier(b"k" * 20), pyca.AuthorityKeyIdentifier(b"k" * 20, None, None)),
        (ext.crl_distribution_points(["http://a/c.crl"]), pyca.CRLDistributionPoints(_points("http://a/c.crl"))),
        (ext.freshest_crl(["http://a/d.crl"]), pyca.FreshestCRL(_points("http://a/d.crl"))),
        (
            ext.authority_information_access(["http://a/ocsp"], ["http://a/ca.crt"]),
            pyca.AuthorityInformationAccess(
                [
                    pyca.AccessDescription(AuthorityInformationAccessOID.OCSP, URI("http://a/ocsp")),
                    pyca.AccessDescription(AuthorityInformationAccessOID.CA_ISSUERS, URI("http://a/ca.crt")),
                ]
            ),
        ),
        (
            ext.certificate_policies(["2.23.140.1.2.1"]),
            pyca.CertificatePolicies([pyca.PolicyInformation(OID("2.23.140.1.2.1"), None)]),
        ),
        (ext.ocsp_no_check(), pyca.OCSPNoCheck()),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_equal_those_of_another_implementation(ours: bytes, theirs: pyca.ExtensionType) -> None:
    assert ours == theirs.public_bytes()


def test_values_are_read_back() -> None:
    assert ext.read_key_usage(ext.key_usage(["keyAgreement", "decipherOnly"])) == {"keyAgreement", "decipherOnly"}
    assert ext.read_extended_key_usage(ext.extended_key_usage([ext.OCSP_SIGNING])) == (ext.OCSP_SIGNING,)
    assert ext.read_certificate_policies(ext.certificate_policies(["1.2.3", "1.2.4"])) == ("1.2.3", "1.2.4")
    assert ext.read_basic_constraints(ext.basic_constraints(True, 3)) == (True, 3)
    assert ext.read_authority_key_identifier(ext.authority_key_identifier(b"x")) == b"x"
    assert ext.read_distribution_point_urls(ext.crl_distribution_points(["http://a/", "http://b/"])) == (
        "http://a/",
        "http://b/",
    )
    assert ext.read_authority_information_access(ext.authority_information_access(["http://a/"], ["http://b/"])) == (
        (ext.OCSP, "http://a/"),
        (ext.CA_ISSUERS, "http://b/"),
    )


def test_key_usages_may_be_written_in_any_case() -> None:
    assert ext.key_usage(["DIGITALSIGNATURE", "contentCommitment"]) == ext.key_usage(
        ["digitalSignature", "nonRepudiation"]
    )


def test_only_a_critical_extension_says_whether_it_is() -> None:
    assert ext.extension("2.5.29.15", True, b"v").hex() == "300b" + "0603551d0f" + "0101ff" + "040176"
    assert ext.extension("2.5.29.15", False, b"v").hex() == "3008" + "0603551d0f" + "040176"
    found = ext.read_extensions(ext.extension("1.2.3", True, b"a") + ext.extension("1.2.4", False, b"b"))
    assert found == (ext.Extension("1.2.3", True, b"a"), ext.Extension("1.2.4", False, b"b"))


def test_an_encoded_default_is_read_as_not_critical() -> None:
    data = der.sequence(der.oid("1.2.3"), der.boolean(False), der.octet_string(b"v"))
    assert ext.read_extensions(data) == (ext.Extension("1.2.3", False, b"v"),)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ext.key_usage(["nonsense"]),
        lambda: ext.extended_key_usage([]),
        lambda: ext.extended_key_usage(["1.2.3", "1.2.3"]),
        lambda: ext.basic_constraints(False, 0),
        lambda: ext.basic_constraints(True, -1),
        lambda: ext.crl_distribution_points([]),
        lambda: ext.crl_distribution_points(["no uri"]),
        lambda: ext.crl_distribution_points(["http://ü/"]),
        lambda: ext.authority_information_access(),
        lambda: ext.certificate_policies(["x"]),
        lambda: ext.certificate_policies([]),
    ],
)
def test_values_that_make_no_sense_are_refused(make: object) -> None:
    with pytest.raises(InvalidInput):
        make()  # type: ignore[operator]


@given(st.sampled_from(range(9)), st.binary(max_size=60))
def test_readers_never_raise_anything_but_invalid_input(which: int, data: bytes) -> None:
    readers = [
        ext.read_extensions,
        ext.read_key_usage,
        ext.read_extended_key_usage,
        ext.read_certificate_policies,
        ext.read_basic_constraints,
        ext.read_authority_key_identifier,
        ext.read_distribution_point_urls,
        ext.read_authority_information_access,
        ext.read_key_usage,
    ]
    wrapped = [data, der.sequence(data), der.sequence(der.sequence(data)), der.bit_string(data)]
    for value in wrapped:
        try:
            result = readers[which](value)  # type: ignore[operator]
        except InvalidInput:
            continue
        assert result is None or isinstance(result, tuple | frozenset | bytes)
