"""`intaglio dev`: chores for developers."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import InvalidInput

app = noun("Chores for developers, in a checkout.")

Check = Annotated[bool, typer.Option("--check", help="Only say what is out of date; exit code 1 when something is.")]


@command(
    app,
    "migrations",
    example=("intaglio dev migrations --check", "intaglio dev migrations --write 'Add the table of drills'"),
    local=True,
)
def migrations(
    cli: Cli,
    check: Check = False,
    write: Annotated[
        str | None, typer.Option(metavar="MESSAGE", help="Write a migration for what the tables in the code add.")
    ] = None,
) -> None:
    """Compare the migrations with the tables in the code, on a throw-away database."""
    import intaglio.tables  # noqa: F401 - the tables of every package are compared
    from intaglio.db import migrate

    if check == (write is not None):
        raise InvalidInput("Say --check or --write MESSAGE.", code="option-needed")
    with _throw_away_database() as url:
        migrate.migrate(url)
        found = migrate.check(url)
        if write is not None:
            revision = migrate.write_revision(url, write) if found else None
            text = f"Wrote migration {revision}; read it before it is committed." if revision else "Nothing to write."
            cli.out.result({"revision": revision}, text)
            return
    cli.out.result(
        {"ok": not found, "findings": found}, "\n".join(found) or "The migrations make the tables in the code."
    )
    if found:
        raise typer.Exit(1)


@command(app, "reference", example=("intaglio dev reference --check", "intaglio dev reference --write"), local=True)
def reference(
    cli: Cli,
    check: Check = False,
    write: Annotated[bool, typer.Option("--write", help="Write docs/reference anew.")] = False,
) -> None:
    """Generate docs/reference: commands, profiles, errors, settings, OpenAPI documents."""
    from intaglio.cli.reference import documents

    if check == write:
        raise InvalidInput("Say --check or --write.", code="option-needed")
    folder = _checkout() / "docs" / "reference"
    wanted = documents()
    stale = [name for name, text in wanted.items() if _contents(folder / name) != text]
    stale += [path.name for path in sorted(folder.glob("*")) if path.name not in wanted]
    if write:
        folder.mkdir(parents=True, exist_ok=True)
        for name in stale:
            if name in wanted:
                (folder / name).write_text(wanted[name])
            else:
                (folder / name).unlink()
        cli.out.result({"written": stale}, f"Wrote {', '.join(stale)}." if stale else "All up to date.")
        return
    text = f"Out of date: {', '.join(stale)}. Run: intaglio dev reference --write" if stale else "All up to date."
    cli.out.result({"ok": not stale, "stale": stale}, text)
    if stale:
        raise typer.Exit(1)


def _contents(path: Path) -> str | None:
    return path.read_text() if path.exists() else None


def _checkout() -> Path:
    root = Path(__file__).resolve().parents[3]
    if not (root / "pyproject.toml").exists():
        raise InvalidInput("This command works in a checkout of the sources only.", code="not-a-checkout")
    return root


@contextlib.contextmanager
def _throw_away_database() -> Iterator[str]:
    from intaglio.cli.database import quiet
    from intaglio.db.embedded import EmbeddedPostgres

    with tempfile.TemporaryDirectory(prefix="intaglio-dev-") as name:
        Path(name).chmod(0o711)  # as root the server runs as an account that must pass through
        embedded = EmbeddedPostgres(Path(name))
        quiet()
        embedded.start()
        try:
            yield embedded.url
        finally:
            embedded.stop()
