"""`intaglio init`: what must exist before the first start."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from intaglio.cli.commands import Cli, command, noun
from intaglio.core.errors import StateConflict

if TYPE_CHECKING:
    from intaglio.core.secrets import MasterKey
    from intaglio.core.settings import Settings

app = noun("Prepare the data folder: master key, database, first administrator.")


@command(app, "init", example="intaglio init --data-dir /var/lib/intaglio --hostname pki.example", local=True)
def init(
    cli: Cli,
    admin: Annotated[str, typer.Option(help="Name of the first administrator.")] = "admin",
    email: Annotated[str, typer.Option(help="His e-mail address.")] = "",
    hostname: Annotated[
        str | None, typer.Option(help="Public name in CRL, OCSP and AIA URLs; kept in intaglio.toml.")
    ] = None,
) -> None:
    """Prepare the data folder: master key, database, first administrator.

    Creates what is missing and says what there was already; nothing is ever overwritten. The one-time secret of the
    first administrator is printed once and is good for 7 days.
    """
    folder = cli.settings.data_dir
    done: dict[str, Any] = {"data_dir": str(folder), "folder": _make_folder(folder)}
    done["settings"] = _write_settings(folder, hostname)
    settings = cli.settings_with() if hostname else cli.settings
    with cli.out.waiting("Preparing the database"):
        master, done["master_key"] = _master_key(settings)
        done.update(_prepare_database(settings, master, admin, email))
    secret = done.get("secret")
    text = "\n".join(
        [
            f"data folder    {folder} ({done['folder']})",
            f"master key     {settings.master_key_file or settings.master_key_path} ({done['master_key']})",
            f"database       {done['database']}",
            f"administrator  {done['administrator']}",
        ]
    )
    if secret:
        text += (
            f'\n\nOne-time secret of "{admin}": {secret}\nIt is shown only now. Use it with `intaglio login` within 7 '
            "days. Keep a copy of the master key in a safe place: without it the keys in the database are lost."
        )
    cli.out.result(done, text)


def _make_folder(folder: Path) -> str:
    # As root the embedded PostgreSQL runs as an unprivileged account that must be able to pass through.
    mode = 0o711 if os.geteuid() == 0 else 0o700
    if folder.is_dir():
        return "exists"
    try:
        folder.mkdir(mode=mode, parents=True)
        folder.chmod(mode)
    except OSError as error:
        raise StateConflict(
            f"The data folder {folder} cannot be made: {error.strerror}.",
            code="data-dir-unusable",
            remedy="Run as a user who may, or choose another folder with --data-dir.",
        ) from None
    return "created"


def _write_settings(folder: Path, hostname: str | None) -> str:
    path = folder / "intaglio.toml"
    if path.exists():
        return "exists"
    if hostname is None:
        return "none"
    import json

    path.write_text(
        f"# Boot settings of Intaglio; `intaglio settings boot` lists all of them.\nhostname = {json.dumps(hostname)}\n"
    )
    return "created"


def _master_key(settings: Settings) -> tuple[MasterKey, str]:
    from intaglio.core.secrets import MasterKey, load_master_key, write_master_key

    path = settings.master_key_path
    if settings.master_key is not None or path.exists():
        return load_master_key(settings), "exists"
    if settings.database_url is None and (settings.data_dir / "postgres" / "data" / "PG_VERSION").exists():
        raise StateConflict(
            f"There is a database, but its master key {path} is missing.",
            code="master-key-missing",
            remedy="Restore the master key file from backup; a new one could not open the keys in the database.",
        )
    created = MasterKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_master_key(path, created)
    return created, "created"


def _prepare_database(settings: Settings, master: MasterKey, admin: str, email: str) -> dict[str, Any]:
    from intaglio.cli.database import database_running
    from intaglio.db.migrate import migrate

    with database_running(settings) as url:
        applied = migrate(url)
        done: dict[str, Any] = {"database": f"migrated: {', '.join(applied)}" if applied else "up to date"}
        done.update(asyncio.run(_populate(settings, master, url, admin, email)))
        return done


async def _populate(settings: Settings, master: MasterKey, url: str, admin: str, email: str) -> dict[str, Any]:
    from intaglio.authority.bootstrap import ensure_platform_ca
    from intaglio.authority.context import Authority
    from intaglio.db.engine import Database
    from intaglio.identity.users import create_first_administrator
    from intaglio.keystore.service import KeyStore

    database = Database(url, pool_size=2)
    keystore = KeyStore(master)
    try:
        secret: str | None = None
        try:
            async with database.transaction() as tx:
                secret = (await create_first_administrator(tx, name=admin, email=email)).get_secret_value()
        except StateConflict as error:
            if error.code != "already-initialized":
                raise
        authority = Authority(settings, database, keystore)
        await authority.start()
        try:
            await ensure_platform_ca(authority)
        finally:
            await authority.stop()
    finally:
        keystore.close()
        await database.close()
    if secret is None:
        return {"administrator": "exists"}
    return {"administrator": f"{admin} (created)", "name": admin, "secret": secret}
