from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core import identifiers
from intaglio.core.errors import InvalidInput
from intaglio.core.identifiers import CA_ID, ORGANIZATION_NAME, RESERVED_WORDS, USER_NAME, Grammar


@pytest.mark.parametrize(
    ("grammar", "longest"), [(USER_NAME, 13), (ORGANIZATION_NAME, 14), (CA_ID, 18)], ids=["user", "organization", "ca"]
)
def test_names_have_their_lengths(grammar: Grammar, longest: int) -> None:
    for name in ("abc", "a" * longest, "0-_"):
        assert grammar.check(name, target="name") == name
    for name in ("ab", "a" * (longest + 1), ""):
        with pytest.raises(InvalidInput) as refused:
            grammar.check(name, target="name")
        assert refused.value.target == "name"


@given(st.text(min_size=3, max_size=13))
def test_names_have_only_their_alphabet(name: str) -> None:
    if re.fullmatch(r"[a-z0-9_-]{3,13}", name, re.ASCII) and name not in RESERVED_WORDS and "\n" not in name:
        assert USER_NAME.check(name, target="name") == name
    else:
        with pytest.raises(InvalidInput):
            USER_NAME.check(name, target="name")


@pytest.mark.parametrize("word", sorted(word for word in RESERVED_WORDS if 3 <= len(word) <= 13))
def test_reserved_words_are_refused_for_everything(word: str) -> None:
    for grammar in (USER_NAME, ORGANIZATION_NAME, CA_ID):
        with pytest.raises(InvalidInput) as refused:
            grammar.check(word, target="name")
        assert refused.value.code == "reserved-word"


def test_serial_numbers_are_positive_have_twenty_octets_and_differ() -> None:
    serials = {identifiers.new_serial_number() for _ in range(2000)}
    assert len(serials) == 2000
    assert {len(serial) for serial in serials} == {20}
    assert all(1 <= serial[0] <= 0x7F for serial in serials)


@given(st.integers(0, 2**160 - 1))
def test_serial_numbers_are_read_however_they_are_written(number: int) -> None:
    octets = identifiers.serial_octets(number)
    shown = identifiers.serial_hex(octets)
    pairs = ":".join(shown[at : at + 2] for at in range(0, len(shown), 2))
    for text in (shown, shown.lower(), f"0x{shown}", f"00{shown}", pairs, f" {shown} "):
        assert identifiers.serial_from_hex(text) == octets


@given(st.text(max_size=100))
def test_anything_else_is_not_a_serial_number(text: str) -> None:
    digits = text.strip().replace(":", "").removeprefix("0x").removeprefix("0X")
    if re.fullmatch(r"[0-9a-fA-F]{1,80}", digits, re.ASCII):
        return
    with pytest.raises(InvalidInput):
        identifiers.serial_from_hex(text)


def test_row_keys_are_version_7_and_grow_with_time() -> None:
    keys = [identifiers.new_id() for _ in range(100)]
    assert {(key.version, key.variant) for key in keys} == {(7, "specified in RFC 4122")}
    stamps = [key.int >> 80 for key in keys]
    assert stamps == sorted(stamps)
    assert len(set(keys)) == 100


def test_one_time_secrets_have_160_bits() -> None:
    assert re.fullmatch(r"[0-9a-f]{40}", identifiers.new_secret())
    assert identifiers.new_secret() != identifiers.new_secret()
