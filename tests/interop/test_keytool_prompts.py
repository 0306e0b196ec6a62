"""What a person at a terminal is asked by `intaglio keytool`: passwords twice, the subject step by step."""

from __future__ import annotations

import os
import pty
import select
import sys
from pathlib import Path

from tests.support.programs import PATIENCE, run

from intaglio.core.clock import monotonic

_INTAGLIO = str(Path(sys.executable).with_name("intaglio"))
_PASSWORD = "correct horse battery staple"


def _typed(folder: Path, arguments: list[str], answers: list[tuple[str, str]]) -> tuple[int, str]:
    """Exit status and everything shown, when a person answers each question in turn."""
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["NO_COLOR"] = "1"
        os.execv(_INTAGLIO, [_INTAGLIO, "keytool", *arguments])
    shown, waiting, deadline = "", list(answers), monotonic() + PATIENCE
    seen = 0
    try:
        while True:
            assert monotonic() < deadline, shown
            if not select.select([terminal], [], [], 1.0)[0]:
                continue
            try:
                shown += os.read(terminal, 4096).decode("utf-8", "replace")
            except OSError:  # the program has ended
                break
            while waiting and waiting[0][0] in shown[seen:]:
                question, answer = waiting.pop(0)
                seen = shown.index(question, seen) + len(question)
                os.write(terminal, f"{answer}\n".encode())
    finally:
        os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), shown


def test_a_new_password_is_asked_for_twice_and_never_shown(tmp_path: Path) -> None:
    asked = [("Password of a.key: ", _PASSWORD), ("Password of a.key, again: ", _PASSWORD)]
    status, shown = _typed(tmp_path, ["key", "generate", "--out", "a.key"], asked)
    assert status == 0, shown
    assert _PASSWORD not in shown
    (tmp_path / "pw").write_text(_PASSWORD)
    run("openssl", "pkey", "-in", "a.key", "-passin", "file:pw", "-noout", cwd=tmp_path)


def test_two_different_entries_write_nothing(tmp_path: Path) -> None:
    asked = [("Password of a.key: ", _PASSWORD), ("again: ", "something else altogether")]
    status, shown = _typed(tmp_path, ["key", "generate", "--out", "a.key"], asked)
    assert status == 1
    assert "differ" in shown
    assert not (tmp_path / "a.key").exists()


def test_the_subject_is_asked_for_step_by_step(tmp_path: Path) -> None:
    (tmp_path / "pw").write_text(_PASSWORD)
    run(_INTAGLIO, "keytool", "key", "generate", "--out", "a.key", "--password-file", "pw", cwd=tmp_path)
    asked = [
        ("Country", "CA"), ("State", ""), ("City", "Ottawa"), ("Organization", "Example"), ("unit", ""),
        ("Common name", "alice"), ("E-mail", ""), ("Password of a.key: ", _PASSWORD),
    ]  # fmt: skip
    status, shown = _typed(tmp_path, ["csr", "--key", "a.key", "--out", "a.csr", "--email", "a@example.com"], asked)
    assert status == 0, shown
    told = run("openssl", "req", "-in", "a.csr", "-noout", "-subject", "-nameopt", "RFC2253", cwd=tmp_path)
    assert told.strip() == "subject=CN=alice,O=Example,L=Ottawa,C=CA"


def test_without_a_terminal_nothing_is_asked_and_the_remedy_is_told(tmp_path: Path) -> None:
    from tests.support.programs import refused

    told = refused(_INTAGLIO, "keytool", "key", "generate", "--out", "a.key", cwd=tmp_path)
    assert "--password-file" in told
