"""`intaglio hsm import` and `export`: client configuration of hardware security modules on this host."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.commands import Cli, command
from intaglio.cli.database import database_running
from intaglio.core.errors import InvalidInput

if TYPE_CHECKING:
    from intaglio.keystore.client_files import Imported

Preset = Annotated[str, typer.Option(help="nshield or luna.")]


def app(parent: typer.Typer) -> None:
    """Add the commands of this module to the noun."""
    examples = (
        "intaglio hsm import --preset nshield --from /opt/nfast/kmdata --yes",
        "intaglio hsm import --preset luna --cert-dir cert --chrystoki Chrystoki.conf --yes",
        "intaglio hsm import --preset luna --package setup.zip --yes",
    )
    command(parent, "import", example=examples, local=True)(import_)
    command(parent, "export", example="intaglio hsm export --preset nshield --out /media/safe", local=True)(export)


def import_(
    cli: Cli,
    preset: Preset,
    source: Annotated[
        str | None, typer.Option("--from", help="nShield: kmdata folder, exported folder, or tar or tar.gz of it.")
    ] = None,
    package: Annotated[str | None, typer.Option(help="Luna: client package (zip) of a cloud service.")] = None,
    cert_dir: Annotated[str | None, typer.Option(help="Luna: certificate folder of the client.")] = None,
    chrystoki: Annotated[str | None, typer.Option(help="Luna: Chrystoki.conf of the client.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Take over the client configuration of a hardware security module on this host, in place of an earlier one.

    The client's library finds it from then on; running servers begin anew with it. Do the same on every host.
    """
    given = {"--from": source, "--package": package, "--cert-dir": cert_dir, "--chrystoki": chrystoki}
    wanted = _alternative(preset, {name for name, value in given.items() if value is not None})
    cli.confirm(f"Replace the client configuration of {preset} on this host?", yes=yes)
    with cli.out.waiting("Copying"):
        found = _imported(cli, wanted, {name: Path(value) for name, value in given.items() if value is not None})
        _recorded(cli, preset, "hsm-files.import", files=found.files)
    for warning in found.warnings:
        cli.out.warning(warning)
    result = {"preset": preset, "folder": str(found.folder), "files": found.files, "warnings": list(found.warnings)}
    cli.out.result(result, f"{found.files} file(s) in {found.folder}. Try it: intaglio hsm slots {preset}")


def export(
    cli: Cli,
    preset: Preset,
    out: Annotated[str, typer.Option("--out", "-o", help="Folder to write to.")],
    compressed: Annotated[bool, typer.Option("--tar", "-t", help="As one tar.gz.")] = False,
) -> None:
    """Write the client configuration that was taken over, to keep it or to import it on another host."""
    from intaglio.keystore import client_files

    _require_preset(preset)
    with cli.out.waiting("Copying"):
        written = client_files.export(cli.settings, preset, Path(out), compressed=compressed)
        _recorded(cli, preset, "hsm-files.export")
    cli.out.result({"preset": preset, "written": str(written)}, f"Wrote {written}.")


_ALTERNATIVES = {
    "nshield": ({"--from"},),
    "luna": ({"--package"}, {"--cert-dir", "--chrystoki"}),
}


def _alternative(preset: str, given: set[str]) -> set[str]:
    """The options given, if they are one of the sets that belong together. Raises InvalidInput."""
    _require_preset(preset)
    if given not in _ALTERNATIVES[preset]:
        ways = ", or ".join(" with ".join(sorted(way)) for way in _ALTERNATIVES[preset])
        raise InvalidInput(
            f"These options do not belong together for {preset}: {', '.join(sorted(given)) or 'none'}.",
            code="options-exclusive",
            remedy=f"Give {ways}.",
        )
    return given


def _require_preset(preset: str) -> None:
    if preset not in _ALTERNATIVES:
        raise InvalidInput(
            f'There is no client configuration to take over for "{preset}".',
            code="hsm-preset-unknown",
            remedy=f"Use one of: {', '.join(_ALTERNATIVES)}. Other products need none: name their library, and "
            "variables in INTAGLIO_PKCS11_ENVIRONMENT.",
            target="--preset",
        )


def _imported(cli: Cli, wanted: set[str], given: dict[str, Path]) -> Imported:
    from intaglio.keystore import client_files

    if wanted == {"--from"}:
        return client_files.import_nshield(cli.settings, given["--from"])
    if wanted == {"--package"}:
        return client_files.import_luna_package(cli.settings, given["--package"])
    return client_files.import_luna(cli.settings, given["--cert-dir"], given["--chrystoki"])


def _recorded(cli: Cli, preset: str, action: str, **facts: Any) -> None:
    """The audit record; after an import, running servers take up the tokens of that client anew."""
    with database_running(cli.settings) as url:
        asyncio.run(_record(url, preset, action, facts))


async def _record(url: str, preset: str, action: str, facts: dict[str, Any]) -> None:
    import getpass

    from intaglio.core.principal import operator
    from intaglio.db.engine import Database
    from intaglio.keystore.tokens import client_files_changed

    database = Database(url, pool_size=2)
    try:
        async with database.transaction() as tx:
            await client_files_changed(tx, operator(getpass.getuser()), preset, action, facts)
    finally:
        await database.close()
