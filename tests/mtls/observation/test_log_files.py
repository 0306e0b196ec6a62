"""Cutting a log into chunks of whole lines, from any place where an import ended."""

from __future__ import annotations

import gzip
import hashlib
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.cli.mtls import logs
from intaglio.cli.mtls.logs import _Log
from intaglio.core.errors import InvalidInput

_LINES = st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"") + b"\n"), max_size=30)


@given(_LINES, st.binary(max_size=10).map(lambda rest: rest.replace(b"\n", b"")), st.integers(0, 30))
def test_chunks_are_the_whole_lines_after_the_place(lines: list[bytes], unfinished: bytes, done: int) -> None:
    start = sum(map(len, lines[:done]))
    log = _Log(io.BytesIO(b"".join(lines) + unfinished))
    chunks = list(log.chunks(start))
    left = lines[done:]
    assert sum(chunk.octets for chunk in chunks) == sum(map(len, left))
    assert "".join(chunk.text for chunk in chunks) == "".join(line.decode("utf-8", "replace") for line in left)
    if chunks:
        assert chunks[0].before == (hashlib.sha256(lines[done - 1]).hexdigest() if done else "")
        assert chunks[-1].after == hashlib.sha256(left[-1]).hexdigest()


def test_a_log_without_a_whole_line_has_no_name_yet() -> None:
    assert _Log(io.BytesIO(b"half")).source() is None
    assert _Log(io.BytesIO(b"")).source() is None
    assert _Log(io.BytesIO(b"one\ntwo\n")).source() == hashlib.sha256(b"one\n").hexdigest()


def test_a_line_of_megabytes_is_cut_yet_counted_whole() -> None:
    log = _Log(io.BytesIO(b"x" * 3_000_000 + b"\nend\n"))
    (chunk,) = log.chunks(0)
    assert chunk.octets == 3_000_005
    assert [len(line) for line in chunk.text.splitlines()] == [16_400, 3]


def test_packed_log_that_becomes_absurdly_long_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "_UNSUSPECTED", 1 << 20)
    bomb, honest = tmp_path / "bomb.gz", tmp_path / "honest.gz"
    bomb.write_bytes(gzip.compress(b"\0" * (32 << 20)))
    honest.write_bytes(gzip.compress(b"".join(b"%d one line of a log\n" % number for number in range(100_000))))
    with pytest.raises(InvalidInput) as refused, logs._opened(str(bomb)):
        pass
    assert refused.value.code == "log-too-large"
    with logs._opened(str(honest)) as log:
        assert log.size > 1 << 20
