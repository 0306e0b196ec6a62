"""Writing what a server has rendered: only where it belongs, whoever is the server and whoever was there before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from intaglio.cli.mtls.render import _write
from intaglio.core.errors import InvalidInput, StateConflict


def files(name: str = "issuers/root-1.pem", mode: str = "644") -> list[dict[str, Any]]:
    return [{"name": name, "mode": mode, "text": "x"}]


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("../evil", "644"), ("/etc/evil", "644"), ("a/../../evil", "644"), ("a/b/c", "644"), (".ssh", "644"),
        ("..", "644"), ("", "644"), ("a\nb", "644"), ("refresh", "4755"), ("refresh", "777"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("out", ["folder", "files.tar"])
def test_file_of_a_strange_name_or_mode_is_not_written(tmp_path: Path, out: str, name: str, mode: str) -> None:
    with pytest.raises(InvalidInput):
        _write(str(tmp_path / out), files(name, mode), force=True)
    assert list(tmp_path.rglob("*")) == []


def test_nothing_is_written_through_a_folder_that_leads_elsewhere(tmp_path: Path) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "folder"
    elsewhere.mkdir()
    (elsewhere / "root-1.pem").write_text("theirs")
    folder.mkdir()
    (folder / "issuers").symlink_to(elsewhere)
    with pytest.raises(StateConflict):
        _write(str(folder), files(), force=True)
    assert (elsewhere / "root-1.pem").read_text() == "theirs"


def test_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path: Path) -> None:
    theirs, folder = tmp_path / "theirs", tmp_path / "folder"
    theirs.write_text("theirs")
    folder.mkdir()
    (folder / "trust.pem").symlink_to(theirs)
    _write(str(folder), files("trust.pem"), force=True)
    assert theirs.read_text() == "theirs"
    assert (folder / "trust.pem").read_text() == "x"


def test_archive_is_not_written_through_a_link(tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("theirs")
    os.symlink(theirs, tmp_path / "files.tar")
    for force in (False, True):
        with pytest.raises((InvalidInput, StateConflict)):
            _write(str(tmp_path / "files.tar"), files(), force=force)
    assert theirs.read_text() == "theirs"


def test_what_is_rendered_is_written_as_it_is(tmp_path: Path) -> None:
    _write(str(tmp_path / "new"), [*files(), *files("refresh", "755"), *files("token.conf", "600")], force=False)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "new").rglob("*") if path.is_file()}
    assert modes == {"root-1.pem": 0o644, "refresh": 0o755, "token.conf": 0o600}
