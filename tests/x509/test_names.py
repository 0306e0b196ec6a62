"""Distinguished names: every way of writing one, the encoding that comes out, and hostile names."""

from collections.abc import Callable

import pytest
from cryptography import x509 as pyca
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput
from intaglio.x509.attribute_types import ATTRIBUTE_TYPES, BY_ALIAS
from intaglio.x509.names import EMPTY_NAME, Name, escape_value


@pytest.mark.parametrize(
    "text",
    [
        "CN=y,O=x,C=CA",
        "cn=y,o=x,c=ca",
        "CN = y , O = x , C = CA",
        "CN=y; O=x; C=CA",
        'CN="y",O="x",C="CA"',
        "CommonName=y,Organization=x,Country=CA",
        "OID.2.5.4.3=y,2.5.4.10=x,2.5.4.6=CA",
        "/C=CA/O=x/CN=y",
        "CN=#0c0179,O=#0c0178,C=#13024341",
    ],
)
def test_all_spellings_of_one_name_match(text: str) -> None:
    assert Name.parse(text).key == Name.parse("CN=y,O=x,C=CA").key
    assert Name.parse(text).rfc4514.upper() == "CN=Y,O=X,C=CA"


def test_text_is_in_reverse_encoding_order() -> None:
    name = Name.parse("cn=test,o=pki")
    assert [rdn[0].oid for rdn in name.attributes] == ["2.5.4.10", "2.5.4.3"]
    assert name.der == Name.build([("O", "pki"), ("CN", "test")]).der


@pytest.mark.parametrize(
    "text",
    [
        "UID=jsmith,DC=example,DC=net",
        "OU=Sales+CN=J.  Smith,DC=example,DC=net",
        'CN=James \\"Jim\\" Smith\\, III,DC=example,DC=net',
        "CN=Before\\0dAfter,DC=example,DC=net",
        "CN=Lu\\C4\\8Di\\C4\\87",
    ],
)
def test_the_examples_of_rfc_4514_section_4_agree_with_another_implementation(text: str) -> None:
    assert Name.parse(text).der == pyca.Name.from_rfc4514_string(text).public_bytes()


def test_a_hexadecimal_value_keeps_its_type() -> None:
    assert Name.parse("1.3.6.1.4.1.1466.0=#04024869").attributes[0][0].raw.hex() == "04024869"


def test_values_of_rfc_4514_examples() -> None:
    assert Name.parse('CN=James \\"Jim\\" Smith\\, III').common_names == ('James "Jim" Smith, III',)
    assert Name.parse("CN=Before\\0dAfter").common_names == ("Before\rAfter",)
    assert Name.parse("CN=Lu\\C4\\8Di\\C4\\87").common_names == ("Lučić",)


def test_the_encoding_equals_that_of_another_implementation() -> None:
    text = "CN=Zoë,OU=Ops+UID=42,O=Exämple,L=Montréal,DC=example,C=CA"
    assert Name.parse(text).der == pyca.Name.from_rfc4514_string(text).public_bytes()


@pytest.mark.parametrize("attribute_type", ATTRIBUTE_TYPES, ids=lambda t: t.name)
def test_every_attribute_type_is_written_and_read_by_every_alias(attribute_type: object) -> None:
    value = "CA" if attribute_type.is_country else "x"  # type: ignore[attr-defined]
    for alias in (attribute_type.name, *attribute_type.aliases, attribute_type.oid):  # type: ignore[attr-defined]
        name = Name.parse(f"{alias.upper()}={value}")
        assert name.attributes[0][0].oid == attribute_type.oid  # type: ignore[attr-defined]
        assert name.rfc4514 == f"{attribute_type.name}={value}"  # type: ignore[attr-defined]


def test_there_are_34_attribute_types_and_no_alias_means_two() -> None:
    assert len(ATTRIBUTE_TYPES) == 34
    spellings = [s.lower() for t in ATTRIBUTE_TYPES for s in (t.name, *t.aliases)]
    assert len(spellings) == len(set(spellings))


@pytest.mark.parametrize(
    ("alias", "oid"), [("SN", "2.5.4.4"), ("S", "2.5.4.8"), ("T", "2.5.4.12"), ("E", "1.2.840.113549.1.9.1")]
)
def test_ambiguous_aliases_mean_what_the_table_says(alias: str, oid: str) -> None:
    assert BY_ALIAS[alias.lower()].oid == oid


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("C=CA", der.PRINTABLE_STRING),
        ("SERIALNUMBER=1", der.PRINTABLE_STRING),
        ("dnQualifier=1", der.PRINTABLE_STRING),
        ("DC=com", der.IA5_STRING),
        ("E=a@b.example", der.IA5_STRING),
        ("CN=x", der.UTF8_STRING),
        ("1.2.3.4=x", der.UTF8_STRING),
    ],
)
def test_values_get_the_string_type_of_their_attribute(text: str, tag: int) -> None:
    assert Name.parse(text).attributes[0][0].raw[0] == tag


@pytest.mark.parametrize(
    "text",
    [
        "CN",
        "=x",
        "CN=",
        "CN=a,",
        ",CN=a",
        "CN=a,,O=b",
        "CN=a+",
        'CN="a',
        'CN="a"b',
        'CN=a"b',
        "CN=a\\",
        "CN=\\FF",
        "CN=#0c",
        "CN=#zz",
        "CN=#",
        "C=Canada",
        "C=1A",
        "DC=ü",
        "SERIALNUMBER=a_b",
        "unknown=x",
        "1.2.=x",
        "CN=a\nb",
        "CN=" + "x" * 65,
        "CN=a+CN=a",
        "CN=" + "x" * 20_000,
        "/",
    ],
)
def test_text_that_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Name.parse(text)
    assert caught.value.code in {"invalid-name", "invalid-oid"}


def test_a_slash_within_a_value_of_the_slash_form_is_kept() -> None:
    assert Name.parse("/O=Example/CN=host/www.example.com").common_names == ("host/www.example.com",)
    assert Name.parse("/CN=a\\/O=b").common_names == ("a/O=b",)


def test_only_escaped_outer_spaces_belong_to_a_value() -> None:
    assert Name.parse("  CN = \\ a\\   ").common_names == (" a ",)
    assert Name.parse("CN=a\n").common_names == ("a",)


def test_the_empty_name_is_empty() -> None:
    assert Name.parse("") == Name.parse("  ") == EMPTY_NAME == Name.build([])
    assert EMPTY_NAME.is_empty
    assert EMPTY_NAME.rfc4514 == ""


def test_multi_valued_rdns_are_sorted_and_kept_together() -> None:
    name = Name.parse("CN=a+OU=b+UID=c,O=d")
    assert [len(rdn) for rdn in name.attributes] == [1, 3]
    assert name.der == Name.parse("UID=c+CN=a+OU=b,O=d").der
    assert name.der == Name.build([("O", "d"), [("OU", "b"), ("UID", "c"), ("CN", "a")]]).der


def test_the_slash_form_is_what_openssl_means(openssl: Callable[..., str], tmp_path: object) -> None:
    subject = "/C=CA/O=Example, Inc./OU=a+UID=b/CN=www.example.com"
    key = openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout")
    (path := tmp_path / "key.pem").write_text(key)  # type: ignore[operator]
    request = openssl("req", "-new", "-utf8", "-key", str(path), "-subj", subject)
    assert pyca.load_pem_x509_csr(request.encode()).subject.public_bytes() == Name.parse(subject).der


def test_unknown_types_print_as_dotted_numbers_with_hexadecimal_values() -> None:
    name = Name.build([("1.2.3.4", "x")])
    assert name.rfc4514 == "1.2.3.4=#0c0178"
    assert Name.parse(name.rfc4514) == name


def test_names_match_without_regard_to_case_space_string_type_and_unicode_form() -> None:
    assert Name.parse("CN=ACME  Inc").key == Name.parse("cn= acme inc ").key
    assert Name.build([("O", der.printable_string("acme"))]).key == Name.build([("O", der.utf8_string("Acme"))]).key
    assert Name.build([("O", der.tlv(der.BMP_STRING, "é".encode("utf-16-be")))]).key == Name.parse("O=E\u0301").key
    assert Name.parse("CN=STRASSE").key == Name.parse("CN=straße").key
    assert Name.parse("CN=a,O=b").key != Name.parse("O=b,CN=a").key
    assert Name.parse("CN=a,OU=b").key != Name.parse("CN=a+OU=b").key
    assert len(Name.parse("CN=a").key) == 32


@pytest.mark.parametrize("value", ["\x00", "a\x00b", "\x1b[31m", "\u202e", "\n", "\x7f", "\u2028"])
def test_non_printable_characters_are_escaped_in_text(value: str) -> None:
    name = Name.build([("CN", value)])
    assert name.rfc4514.isascii()
    assert name.rfc4514.isprintable()
    assert Name.parse(name.rfc4514).common_names == (value,)


@pytest.mark.parametrize(
    "encoded",
    [
        "",
        "3000 00",
        "3100",
        "3002 3100",
        "3004 3102 3000",
        "300b 3109 3007 0603550403 1300 00",
        "300a 3108 3006 0603550403 0c",
        "300d 310b 3009 0603550403 0c02 c328",
    ],
)
def test_encodings_that_are_no_name_are_refused(encoded: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Name.from_der(bytes.fromhex(encoded))
    assert caught.value.code == "invalid-name"


def test_the_number_of_rdns_is_bounded() -> None:
    rdn = der.read_tlv(Name.parse("CN=a").der).content
    with pytest.raises(InvalidInput, match="more than 64"):
        Name.from_der(der.sequence(rdn * 65))
    with pytest.raises(InvalidInput, match="more than 64"):
        Name.build([("CN", "a")] * 65)


def test_attributes_out_of_der_order_are_refused() -> None:
    first, second = (der.children(der.read_tlv(Name.parse(t).der).content)[0].content for t in ("CN=a", "OU=b"))
    with pytest.raises(InvalidInput, match="order"):
        Name.from_der(der.sequence(der.tlv(der.SET, second + first)))


_values = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=64)
_aliases = st.sampled_from(["CN", "O", "OU", "L", "givenName", "T", "UID", "1.2.3.4"])


@given(st.lists(st.tuples(_aliases, _values), max_size=6))
def test_any_built_name_survives_its_text(rdns: list[tuple[str, str]]) -> None:
    name = Name.build(rdns)
    assert Name.parse(name.rfc4514) == name
    assert Name.from_der(name.der).rfc4514 == name.rfc4514


@given(_values, _values)
def test_an_escaped_value_cannot_add_an_attribute(first: str, second: str) -> None:
    name = Name.parse(f"CN={escape_value(first)},OU={escape_value(second)}")
    assert [[a.value for a in rdn] for rdn in name.attributes] == [[second], [first]]


@given(st.text(max_size=60))
def test_arbitrary_text_never_raises_anything_but_invalid_input(text: str) -> None:
    try:
        name = Name.parse(text)
    except InvalidInput:
        return
    assert Name.parse(name.rfc4514).key == name.key


@given(st.data())
def test_damaged_encodings_stay_displayable_or_are_refused(data: st.DataObject) -> None:
    damaged = bytearray(Name.parse("CN=Zoë+UID=7,DC=example,E=a@b.example,C=CA,1.2.3=x").der)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        name = Name.from_der(bytes(damaged))
    except InvalidInput:
        return
    assert name.rfc4514.isprintable()
    assert len(name.key) == 32
