"""What ``intaglio enroll urls`` shows for clients, typed into a terminal as it stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.pki import Pki
from tests.support.programs import run


def type_shown(pki: Pki, endpoint: str, titles: Sequence[str], blanks: Mapping[str, str], folder: Path) -> None:
    """Run the commands of an endpoint that have these titles, in this order; each has to succeed.

    ``blanks`` are the words that a reader replaces, with what he replaces them by. The CA certificates that the
    commands name, and that come from other commands of ours, are in ``folder``.
    """
    (folder / "platform-ca.pem").write_bytes(pki.anchor_file.read_bytes())
    (folder / "root.pem").write_bytes(pki.root_file.read_bytes())
    [shown] = pki.product.json("enroll", "urls", "--filter", f"address={endpoint}")
    scripts = {command["title"]: "\n".join(command["lines"]) for command in shown["commands"]}
    for title in titles:
        script = scripts[title]
        for blank, filling in blanks.items():
            script = script.replace(blank, filling)
        run("bash", "-euo", "pipefail", "-c", script, cwd=folder)
