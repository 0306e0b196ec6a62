"""PEM text made to take long."""

from __future__ import annotations

import time

import pytest

from intaglio.x509 import pem

_BEGIN = b"-----BEGIN CERTIFICATE-----\n"


@pytest.mark.parametrize(
    "text",
    [
        _BEGIN * 30_000, (_BEGIN + b"-" * 4) * 25_000, b"-" * 800_000, _BEGIN + b"\n" * 800_000,
        b"-----BEGIN A-----\n" * 40_000,
    ],
    ids=range(5),
)  # fmt: skip
def test_text_with_many_beginnings_is_read_in_time(text: bytes) -> None:
    """Time of the processor, so that it says the same on a busy machine; the first took minutes."""
    started = time.process_time()
    assert pem.blocks(text, ("CERTIFICATE",), limit=10) == []
    assert time.process_time() - started < 5


def test_block_behind_a_beginning_without_an_end_is_found() -> None:
    whole = pem.encode("CERTIFICATE", b"0" * 100)
    assert pem.blocks(_BEGIN + whole.encode(), ("CERTIFICATE",), limit=10) == [("CERTIFICATE", b"0" * 100)]
