"""Directories (LDAP servers) that CRLs are read from. Their passwords are sealed under the master key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator
from sqlalchemy import delete, insert, select, update

from intaglio.audit.record import record
from intaglio.core.errors import NotFound, StateConflict
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Row, Transaction
from intaglio.keystore.rewrap import SealedColumn
from intaglio.validation import models
from intaglio.validation.authorities.values import NAME, PemText
from intaglio.validation.context import Validation
from intaglio.validation.sources.ldap import Directory

_D = models.status_directory


def purpose_of(directory_id: object) -> str:
    """What the sealed password of a directory is bound to."""
    return f"status-directory:{directory_id}"


SEALED = SealedColumn(_D, _D.c.id, _D.c.sealed, purpose_of)


def _ldap_url(text: str) -> str:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError("this is not a URL") from None
    host = parts.hostname and text.isascii() and text.isprintable() and " " not in text
    if parts.scheme not in ("ldap", "ldaps") or not host or port == 0 or len(text) > 300:
        raise ValueError("a URL such as ldap://host:389 or ldaps://host:636 is expected")
    if parts.path.strip("/") or parts.query or parts.fragment or parts.username is not None:
        raise ValueError("a URL of the server alone is expected; the entry stands with the CRL")
    return text.rstrip("/")


class DirectorySpec(BaseModel):
    """A directory as an operator writes it. Without a user name it is read anonymously."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(pattern=f"^(?:{NAME.pattern})$")
    url: Annotated[str, AfterValidator(_ldap_url)] = Field(description="ldap://host:port or ldaps://host:port.")
    start_tls: bool = Field(default=False, description="Go over to TLS after connecting by ldap.")
    server_ca: PemText = Field(default="", description="CA of the server (PEM); empty: those the system trusts.")
    user_name: str = Field(default="", max_length=1_000, description="Distinguished name to log in with.")
    password: SecretStr | None = Field(
        default=None, max_length=1_000, description="Never shown. Null keeps the one that is set; empty removes it."
    )

    @model_validator(mode="after")
    def _fits_together(self) -> DirectorySpec:
        if self.start_tls and self.url.startswith("ldaps:"):
            raise ValueError("start_tls goes with ldap://")
        if self.password and self.password.get_secret_value() and not self.user_name:
            raise ValueError("a password needs a user name")
        return self


@dataclass(frozen=True)
class DirectoryView:
    """A directory as it is shown."""

    name: str
    url: str
    start_tls: bool
    server_ca: str
    user_name: str
    has_password: bool
    created_by: str
    created_at: datetime
    changed_at: datetime

    @property
    def is_protected(self) -> bool:
        """Whether what is read, and the password, goes over TLS."""
        return self.start_tls or self.url.startswith("ldaps:")


async def listing(validation: Validation, principal: Principal) -> list[DirectoryView]:
    """All directories. Needs ``validation.view``."""
    principal.require(Permission.VALIDATION_VIEW)
    async with validation.database.read() as view:
        return _views(await view.all(select(_D).order_by(_D.c.name)))


async def save(validation: Validation, principal: Principal, spec: DirectorySpec) -> DirectoryView:
    """Define a directory, or change the one of this name. Needs ``validation.manage``."""
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        known = await tx.one_or_none(select(_D).where(_D.c.name == spec.name).with_for_update())
        directory_id = known["id"] if known else new_id()
        values: dict[str, Any] = spec.model_dump(exclude={"name", "password"})
        values["changed_at"] = tx.now
        if spec.password is not None:
            values["sealed"] = _sealed(validation.master_key, directory_id, spec.password)
        elif known and _is_for_another(known, spec):
            values["sealed"] = None
        if known:
            await tx.execute(update(_D).where(_D.c.id == directory_id).values(**values))
        else:
            made = {"id": directory_id, "name": spec.name, "created_by": principal.name, "created_at": tx.now}
            await tx.execute(insert(_D).values(**made, **values))
        verb = "change" if known else "create"
        facts: dict[str, Any] = {name: getattr(spec, name) for name in ("url", "start_tls", "user_name")}
        facts["password"] = "kept" if "sealed" not in values else "set" if values["sealed"] else "none"
        record(tx, principal, f"status-directory.{verb}", "status-directory", spec.name, **facts)
        return _views([await _row(tx, spec.name)])[0]


async def remove(validation: Validation, principal: Principal, name: str) -> None:
    """Delete a directory. Needs ``validation.manage``. Raises NotFound, StateConflict (``directory-in-use``)."""
    principal.require(Permission.VALIDATION_MANAGE)
    async with validation.database.transaction() as tx:
        found = await _row(tx, name)
        a = models.status_authority.c
        wanted = [{"directory": name}]
        users = await tx.all(select(a.name).where(a.options.contains({"crls": wanted})).limit(10))
        if users:
            names = ", ".join(row["name"] for row in users)
            raise StateConflict(f'"{name}" is used by {names}.', code="directory-in-use")
        await tx.execute(delete(_D).where(_D.c.id == found["id"]))
        record(tx, principal, "status-directory.delete", "status-directory", name)


async def load(view: Transaction, master_key: MasterKey, name: str) -> Directory:
    """A directory with its password, to connect to it. Raises NotFound, Unavailable."""
    row = await _row(view, name)
    password = b"" if row["sealed"] is None else master_key.open(row["sealed"], purpose=purpose_of(row["id"]))
    names = ("name", "url", "start_tls", "server_ca", "user_name")
    return Directory(**{member: row[member] for member in names}, password=SecretStr(password.decode()))


async def _row(view: Transaction, name: str) -> Row:
    found = await view.one_or_none(select(_D).where(_D.c.name == name))
    if found is None:
        raise NotFound(f'There is no directory "{name[:100]}".', code="directory-unknown")
    return found


def _is_for_another(known: Row, spec: DirectorySpec) -> bool:
    """Whether a password was given for another server or name, or to be sent over TLS only."""
    same = (known["url"], known["user_name"]) == (spec.url, spec.user_name)
    return not same or (known["start_tls"] and not spec.start_tls)


def _sealed(master_key: MasterKey, directory_id: object, password: SecretStr) -> bytes | None:
    text = password.get_secret_value()
    return master_key.seal(text.encode(), purpose=purpose_of(directory_id)) if text else None


def _views(rows: Sequence[Row]) -> list[DirectoryView]:
    names = ("name", "url", "start_tls", "server_ca", "user_name", "created_by", "created_at", "changed_at")
    return [DirectoryView(**{n: row[n] for n in names}, has_password=row["sealed"] is not None) for row in rows]
