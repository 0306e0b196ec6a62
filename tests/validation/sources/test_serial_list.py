"""Lists of serial numbers: what people write, and what must not be taken for one."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import InvalidInput
from intaglio.validation.sources import serial_list
from intaglio.validation.sources.serial_list import serials


def _read(data: bytes) -> list[int]:
    return [int.from_bytes(each) for each in serials(io.BytesIO(data))]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (b"0A\n0B\n", [10, 11]),
        (b"00FF\r\nabc\r\n", [255, 0xABC]),
        (b"# all\n\n 0x1f # www\n01:02:03\n", [0x1F, 0x010203]),
        (b"0A", [10]),
        (b"\xef\xbb\xbf0A\n", [10]),
        (b"00\n000\n", [0, 0]),
        (b"", []),
    ],
)
def test_numbers_are_read_however_they_are_written(text: bytes, numbers: list[int]) -> None:
    assert _read(text) == numbers


@pytest.mark.parametrize(
    "text", [b"0A\nxyz\n", b"<html>\n", b"0A 0B\n", b"-1\n", b"0x\n", b"0" * 2_000, b"\x00\x01\n", b"F" * 200 + b"\n"]
)
def test_anything_else_makes_the_list_unusable(text: bytes) -> None:
    with pytest.raises(InvalidInput) as caught:
        _read(text)
    assert caught.value.code == "serial-list-invalid"


@given(st.lists(st.integers(1, 2**159), max_size=50), st.integers(1, 40))
def test_lists_of_any_length_are_read_whatever_the_blocks(numbers: list[int], block: int) -> None:
    text = b"".join(b"%x\n" % number if number % 3 else b"00%X\r\n" % number for number in numbers)
    usual, serial_list._BLOCK = serial_list._BLOCK, block
    try:
        assert _read(text) == numbers
    finally:
        serial_list._BLOCK = usual


@given(st.binary(max_size=500))
def test_any_octets_end_in_numbers_or_one_clear_error(data: bytes) -> None:
    try:
        numbers = _read(data)
    except InvalidInput:
        return
    assert all(0 <= number < 2**320 for number in numbers)
