"""What is printed: whatever strangers chose, it commands no terminal and makes no rows of its own."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from intaglio.cli.output import Output
from intaglio.core.errors import InvalidInput

EVIL = "a\x1b]0;owned\x07\x9b2J\u202eb\ud800\x00"
_COMMANDS = set(map(chr, [*range(9), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x202E, 0x2066, 0xD800]))


def test_names_of_strangers_command_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    for out in (Output(False), Output(True)):
        out.table([{"claimed": EVIL}], {"claimed": "CALLER"})
        out.members({"claimed": EVIL})
        out.result({"claimed": EVIL}, EVIL)
        out.note(EVIL)
        out.warning(EVIL)
        out.error(EVIL)
        out.refusal(InvalidInput(EVIL, fields=[("x", EVIL + "y")]))
    said = capsys.readouterr()
    assert "\\x1b]0;owned" in said.out
    assert not _COMMANDS & set(said.out + said.err)


def test_line_end_in_a_value_makes_no_row(capsys: pytest.CaptureFixture[str]) -> None:
    Output(False).table([{"path": "/a\nallow  /b"}], {"path": "PATH"})
    assert "/a\\nallow  /b" in capsys.readouterr().out


def test_long_values_keep_their_lines(capsys: pytest.CaptureFixture[str]) -> None:
    Output(False).members({"pem": "-----BEGIN\nabc\n-----END"})
    assert len(capsys.readouterr().out.strip().splitlines()) == 3


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=60))
def test_json_says_the_same_whatever_is_in_it(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Output(True).result({"value": text})
    said = capsys.readouterr().out
    assert json.loads(said) == {"value": text}
    assert not _COMMANDS & set(said)
