"""The DER writer against X.690's own examples and OpenSSL's view; the reader against everything that is not DER."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.asn1 import der
from intaglio.core.errors import InvalidInput


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (256, "02020100"),
        (-1, "0201ff"),
        (-128, "020180"),
        (-129, "0202ff7f"),
    ],
)
def test_integers_have_their_shortest_form(value: int, encoded: str) -> None:
    assert der.integer(value).hex() == encoded


def test_octets_are_an_unsigned_integer() -> None:
    assert der.integer(b"\xff\x00").hex() == "020300ff00"
    assert der.integer(b"\x00\x01").hex() == "020101"


@pytest.mark.parametrize(
    ("dotted", "encoded"),
    [
        ("1.2.840.113549", "06062a864886f70d"),
        ("2.999.3", "0603883703"),
        ("2.5.4.3", "0603550403"),
        ("0.9.2342.19200300.100.1.25", "060a0992268993f22c640119"),
    ],
)
def test_object_identifiers_match_known_encodings(dotted: str, encoded: str) -> None:
    assert der.oid(dotted).hex() == encoded
    assert der.decode_oid(bytes.fromhex(encoded)[2:]) == dotted


@pytest.mark.parametrize(
    "text", ["", "1", "3.1", "1.40", "1.2.", "1..2", "1.02", "a.b", "1.-2", "1.2 ", "1." + "9" * 200]
)
def test_text_that_is_no_object_identifier_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        der.oid(text)
    assert caught.value.code == "invalid-oid"


@pytest.mark.parametrize("content", ["", "80", "8001", "2a80", "ff" * 200])
def test_malformed_object_identifier_octets_are_refused(content: str) -> None:
    with pytest.raises(InvalidInput):
        der.decode_oid(bytes.fromhex(content))


def test_times_switch_to_generalized_time_in_2050() -> None:
    assert der.utc_or_generalized_time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)) == b"\x17\x0d491231235959Z"
    assert der.utc_or_generalized_time(datetime(2050, 1, 1, tzinfo=UTC)) == b"\x18\x0f20500101000000Z"
    assert der.utc_or_generalized_time(datetime(1949, 1, 1, tzinfo=UTC)) == b"\x18\x0f19490101000000Z"


def test_times_are_written_in_utc() -> None:
    local = datetime(2026, 1, 1, 1, 0, tzinfo=timezone(timedelta(hours=2)))
    assert der.generalized_time(local) == b"\x18\x0f20251231230000Z"


@given(st.datetimes(min_value=datetime(1950, 1, 1), max_value=datetime(9999, 12, 31)))  # noqa: DTZ001 - made aware below
def test_written_times_are_read_back(moment: datetime) -> None:
    moment = moment.replace(tzinfo=UTC, microsecond=0)
    assert der.decode_time(der.read_tlv(der.utc_or_generalized_time(moment))) == moment


@pytest.mark.parametrize(
    "text", [b"20260101000000+0100", b"2026010100Z", b"20261301000000Z", b"20260101000000.5Z", b""]
)
def test_times_in_other_forms_are_refused(text: bytes) -> None:
    with pytest.raises(InvalidInput):
        der.decode_time(der.read_tlv(der.tlv(der.GENERALIZED_TIME, text)))


def test_named_bits_lose_trailing_zeros() -> None:
    assert der.named_bits(frozenset({5, 6})).hex() == "03020106"
    assert der.named_bits(frozenset({0, 8})).hex() == "0303078080"
    assert der.named_bits(frozenset()).hex() == "030100"


def test_sets_are_sorted() -> None:
    assert der.set_of(der.integer(2), der.integer(1)) == der.set_of(der.integer(1), der.integer(2))


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65_535, 65_536])
def test_lengths_of_every_form_are_read_back(length: int) -> None:
    content = bytes(length)
    element = der.read_tlv(der.octet_string(content))
    assert (element.tag, element.content) == (der.OCTET_STRING, content)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        ("", "empty"),
        ("30", "no length"),
        ("3080", "indefinite"),
        ("3080020101 0000", "indefinite with end of contents"),
        ("308101", "long form of a short length, cut off"),
        ("30810100", "long form of a short length"),
        ("3082000100", "padded length"),
        ("3085000000000100", "five length octets"),
        ("3002", "content missing"),
        ("1f8101", "high tag number"),
        ("300000", "trailing data"),
    ],
)
def test_what_is_not_der_is_refused(data: str, why: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        der.read_tlv(bytes.fromhex(data))
    assert caught.value.code == "invalid-der", why


def test_an_inner_element_may_not_leave_its_container() -> None:
    with pytest.raises(InvalidInput):
        der.children(bytes.fromhex("0405" + "00" * 3))


def test_nesting_beyond_the_limit_is_refused() -> None:
    data = b""
    for _ in range(20):
        data = der.sequence(data)
    reader = der.Reader(data, max_depth=10)
    for _ in range(10):
        reader = reader.enter()
    with pytest.raises(InvalidInput, match="too deep"):
        reader.enter()


def test_the_number_of_children_is_bounded() -> None:
    with pytest.raises(InvalidInput, match="more than 3"):
        der.children(der.null() * 4, limit=3)
    assert len(list(der.Reader(der.null() * 3).rest(3))) == 3
    with pytest.raises(InvalidInput, match="more than 3"):
        list(der.Reader(der.null() * 4).rest(3))


def test_a_reader_tells_what_is_left() -> None:
    reader = der.Reader(der.integer(1) + der.null())
    assert reader.optional(der.BOOLEAN) is None
    assert der.decode_integer(reader.read(der.INTEGER).content) == 1
    with pytest.raises(InvalidInput, match="trailing"):
        reader.finish()
    assert reader.peek() == der.NULL
    with pytest.raises(InvalidInput, match="0x02 was expected"):
        reader.read(der.INTEGER)


@pytest.mark.parametrize("content", ["", "0001", "ff80", "007f"])
def test_padded_integers_are_refused(content: str) -> None:
    with pytest.raises(InvalidInput):
        der.decode_integer(bytes.fromhex(content))


@pytest.mark.parametrize("content", ["", "08ff", "01", "0101"])
def test_bit_strings_with_wrong_unused_bits_are_refused(content: str) -> None:
    with pytest.raises(InvalidInput):
        der.decode_bit_string(bytes.fromhex(content))


def test_only_two_octets_are_booleans() -> None:
    assert der.decode_boolean(b"\xff") is True
    with pytest.raises(InvalidInput):
        der.decode_boolean(b"\x01")


@given(st.integers(min_value=-(1 << 200), max_value=1 << 200))
def test_integers_round_trip(value: int) -> None:
    assert der.decode_integer(der.read_tlv(der.integer(value)).content) == value


@given(st.lists(st.integers(0, 1 << 64), min_size=0, max_size=8), st.integers(0, 2), st.integers(0, 39))
def test_object_identifiers_round_trip(rest: list[int], first: int, second: int) -> None:
    dotted = ".".join(map(str, [first, second, *rest]))
    assert der.decode_oid(der.read_tlv(der.oid(dotted)).content) == dotted


@given(st.binary(max_size=64))
def test_arbitrary_octets_never_raise_anything_but_invalid_input(data: bytes) -> None:
    try:
        elements = der.children(data)
    except InvalidInput:
        return
    assert b"".join(element.der for element in elements) == data
    assert b"".join(der.tlv(element.tag, element.content) for element in elements) == data
