"""Subject alternative names: built from text with checks, kept byte for byte when copied."""

import ipaddress

import pytest
from cryptography import x509 as pyca
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.general_names import USER_PRINCIPAL_NAME, GeneralNames

EVERY_TYPE = [
    ("dNSName", "www.example.com"),
    ("rfc822Name", "alice@example.com"),
    ("iPAddress", "192.0.2.1"),
    ("iPAddress", "2001:db8::1"),
    ("uniformResourceIdentifier", "https://example.com/a?b#c"),
    ("directoryName", "CN=Alice,O=Example,C=CA"),
    ("registeredID", "1.2.3.4"),
    ("otherName", "userPrincipalName=alice@corp.example.com"),
    ("otherName", "1.2.3.4;UTF8:text"),
    ("otherName", "1.2.3.4;DER:020101"),
]


def test_every_type_equals_the_encoding_of_another_implementation() -> None:
    upn = der.utf8_string("alice@corp.example.com")
    theirs = pyca.SubjectAlternativeName(
        [
            pyca.DNSName("www.example.com"),
            pyca.RFC822Name("alice@example.com"),
            pyca.IPAddress(ipaddress.ip_address("192.0.2.1")),
            pyca.IPAddress(ipaddress.ip_address("2001:db8::1")),
            pyca.UniformResourceIdentifier("https://example.com/a?b#c"),
            pyca.DirectoryName(pyca.Name.from_rfc4514_string("CN=Alice,O=Example,C=CA")),
            pyca.RegisteredID(pyca.ObjectIdentifier("1.2.3.4")),
            pyca.OtherName(pyca.ObjectIdentifier(USER_PRINCIPAL_NAME), upn),
            pyca.OtherName(pyca.ObjectIdentifier("1.2.3.4"), der.utf8_string("text")),
            pyca.OtherName(pyca.ObjectIdentifier("1.2.3.4"), der.integer(1)),
        ]
    )
    assert GeneralNames.build(EVERY_TYPE).der == theirs.public_bytes()


def test_the_text_of_every_entry_builds_it_again() -> None:
    names = GeneralNames.build(EVERY_TYPE)
    assert [(entry.type, entry.text) for entry in names.entries] == EVERY_TYPE
    assert GeneralNames.build([(e.type, e.text) for e in names.entries]) == names
    assert GeneralNames.build([(e.type, e.der) for e in names.entries]) == names


@pytest.mark.parametrize(
    ("alias", "kind"),
    [("dns", "dNSName"), ("dnsName", "dNSName"), ("IP", "iPAddress"), ("uri", "uniformResourceIdentifier")],
)
def test_types_may_be_spelt_as_people_do(alias: str, kind: str) -> None:
    value = {"dNSName": "a.example", "iPAddress": "::1", "uniformResourceIdentifier": "urn:x"}[kind]
    assert GeneralNames.build([(alias, value)]).entries[0].type == kind


@pytest.mark.parametrize("kind", ["userPrincipalName", "UserPrincipleName", "upn"])
def test_a_user_principal_name_is_an_other_name_under_every_spelling(kind: str) -> None:
    names = GeneralNames.build([(kind, "alice@example.com")])
    assert names == GeneralNames.build([("otherName", f"{kind}=alice@example.com")])
    assert names == GeneralNames.build([("otherName", "alice@example.com")])
    assert [entry.text for entry in names.of_type("upn")] == ["userPrincipalName=alice@example.com"]


@pytest.mark.parametrize(
    ("written", "encoded"),
    [
        ("bücher.example", "xn--bcher-kva.example"),
        ("*.bücher.example", "*.xn--bcher-kva.example"),
        ("straße.example", "xn--strae-oqa.example"),
        ("www.example.com.", "www.example.com"),
        ("*.example.com", "*.example.com"),
        ("host_1", "host_1"),
    ],
)
def test_domain_names_are_encoded_as_a_labels(written: str, encoded: str) -> None:
    assert GeneralNames.build([("dns", written)]).entries[0].text == encoded


def test_domains_of_addresses_and_uris_are_encoded_as_a_labels() -> None:
    names = GeneralNames.build([("email", "a@bücher.example"), ("uri", "https://bücher.example/x")])
    assert [e.text for e in names.entries] == ["a@xn--bcher-kva.example", "https://xn--bcher-kva.example/x"]


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        ("dns", ""),
        ("dns", "*"),
        ("dns", "a.*.example"),
        ("dns", "w*.example"),
        ("dns", "*.*.example"),
        ("dns", "-a.example"),
        ("dns", "a-.example"),
        ("dns", "a..example"),
        ("dns", "a b.example"),
        ("dns", "x" * 64 + ".example"),
        ("dns", ".".join(["x" * 60] * 5)),
        ("dns", "192.0.2.1"),
        ("dns", "a\x00.example"),
        ("dns", "\u2603\ufe0f\u200d.example"),
        ("ip", "192.0.2.256"),
        ("ip", "192.0.2.0/24"),
        ("ip", "www.example.com"),
        ("email", "alice"),
        ("email", "alice@"),
        ("email", "@example.com"),
        ("email", "älice@example.com"),
        ("email", "a..b@example.com"),
        ("email", "a@*.example.com"),
        ("uri", "example.com/x"),
        ("uri", "https://exa mple.com"),
        ("uri", "https://example.com/ü"),
        ("directoryName", "nonsense"),
        ("registeredID", "9.9"),
        ("upn", "alice"),
        ("otherName", "1.2.3;DER:zz"),
        ("otherName", "1.2.3;DER:02"),
        ("x400Address", "x"),
        ("nonsense", "x"),
    ],
)
def test_values_that_break_the_syntax_of_their_type_are_refused(kind: str, value: str) -> None:
    with pytest.raises(InvalidInput):
        GeneralNames.build([(kind, value)])


def test_der_of_another_type_is_refused() -> None:
    entry = GeneralNames.build([("dns", "a.example")]).entries[0]
    with pytest.raises(InvalidInput, match="0x82"):
        GeneralNames.build([("email", entry.der)])


def test_missing_dns_names_are_appended_and_the_rest_stays() -> None:
    names = GeneralNames.build([("dns", "A.example"), ("ip", "192.0.2.1")])
    extended = names.with_dns(["a.EXAMPLE", "b.example", "b.example"])
    assert extended.text == ["dNSName=A.example", "iPAddress=192.0.2.1", "dNSName=b.example"]
    assert names.with_dns(["a.example"]) is names


@pytest.mark.parametrize("octets", [b"a\x00.example", b"a\n.example", b"\xc3\xbc.example", b"a\x7f", b""])
@pytest.mark.parametrize("tag", [0x81, 0x82, 0x86])
def test_control_and_non_ascii_octets_in_copied_names_are_refused(tag: int, octets: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        GeneralNames.from_der(der.sequence(der.tlv(tag, octets)))
    assert caught.value.code == "invalid-general-name"


def test_the_number_of_names_is_bounded() -> None:
    names = GeneralNames.build([("dns", f"h{i}.example") for i in range(5)])
    assert len(GeneralNames.from_der(names.der, max_names=5).entries) == 5
    with pytest.raises(InvalidInput) as caught:
        GeneralNames.from_der(names.der, max_names=4)
    assert caught.value.code == "too-many-names"


@pytest.mark.parametrize("data", ["", "3000", "3103820161", "30038a0161", "3003870161", "3005a003020101"])
def test_encodings_that_are_no_general_names_are_refused(data: str) -> None:
    with pytest.raises(InvalidInput):
        GeneralNames.from_der(bytes.fromhex(data))


@given(st.data())
def test_damaged_names_stay_displayable_or_are_refused(data: st.DataObject) -> None:
    damaged = bytearray(GeneralNames.build(EVERY_TYPE).der)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        names = GeneralNames.from_der(bytes(damaged))
    except InvalidInput:
        return
    assert names.der == bytes(damaged)
    assert all(text.isprintable() for text in names.text)


@given(st.sampled_from(["dns", "email", "uri", "ip", "dn", "rid", "other", "upn"]), st.text(max_size=40))
def test_arbitrary_values_never_raise_anything_but_invalid_input(kind: str, value: str) -> None:
    try:
        names = GeneralNames.build([(kind, value)])
    except InvalidInput:
        return
    assert GeneralNames.from_der(names.der).entries == names.entries
