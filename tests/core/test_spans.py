"""Spans of time as operators write them."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from intaglio.core.errors import InvalidInput
from intaglio.core.spans import Span, format_span, parse_span


class _Model(BaseModel):
    wait: Span


@pytest.mark.parametrize(
    ("text", "span"),
    [
        ("5s", timedelta(seconds=5)),
        ("500ms", timedelta(milliseconds=500)),
        ("8h", timedelta(hours=8)),
        ("1h30m", timedelta(hours=1, minutes=30)),
        (" 2D ", timedelta(days=2)),
        ("0s", timedelta(0)),
    ],
)
def test_a_span_is_read(text: str, span: timedelta) -> None:
    assert parse_span(text) == span


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "5 s", "5sec", "1.5h", "5s5s", "٥s", "1" * 10 + "s", "1s" * 40])
def test_what_is_no_span_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_span(text)
    assert caught.value.code == "span-unreadable"


@given(st.integers(min_value=0, max_value=10**11))
def test_what_is_written_is_read_again(milliseconds: int) -> None:
    span = timedelta(milliseconds=milliseconds)
    assert parse_span(format_span(span)) == span


def test_a_model_reads_and_writes_text() -> None:
    assert _Model.model_validate({"wait": "90s"}).model_dump(mode="json") == {"wait": "1m30s"}
    with pytest.raises(ValidationError, match="not a span"):
        _Model.model_validate({"wait": "soon"})
