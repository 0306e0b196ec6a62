"""Passwords that an administrator gives to this room: sealed under the master key, written and never read back."""

from __future__ import annotations

from enum import StrEnum

from pydantic import SecretStr
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert as upsert

from intaglio.audit.record import record
from intaglio.core.errors import InvalidInput
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.models import secret

_LONGEST = 1000


class Secret(StrEnum):
    """What can be set."""

    SMTP_PASSWORD = "smtp-password"  # noqa: S105 - the name of the secret
    S3_SECRET_KEY = "s3-secret-key"  # noqa: S105 - the name of the secret


async def set_secret(mtls: Mtls, principal: Principal, name: Secret, value: SecretStr | None) -> None:
    """Store a password, or remove it with None; every process uses it at once.

    Needs ``platform.manage``. Raises Forbidden, InvalidInput.
    """
    principal.require(Permission.PLATFORM_MANAGE)
    text = None if value is None else value.get_secret_value()
    if text is not None and not 0 < len(text) <= _LONGEST:
        raise InvalidInput(f"A password has 1 to {_LONGEST} characters.", target="password")
    async with mtls.database.transaction() as tx:
        if text is None:
            await tx.execute(delete(secret).where(secret.c.name == name.value))
        else:
            values = {"sealed": mtls.master_key.seal(text.encode(), purpose=purpose_of(name)), "changed_at": tx.now}
            statement = upsert(secret).values(name=name.value, **values)
            await tx.execute(statement.on_conflict_do_update(index_elements=["name"], set_=values))
        record(tx, principal, "enrolment-secret.change", "settings", name.value, present=text is not None)


async def read_secret(view: Transaction, mtls: Mtls, name: Secret) -> str:
    """A stored password; empty when there is none. Raises Unavailable when the master key does not open it."""
    sealed = await view.scalar(select(secret.c.sealed).where(secret.c.name == name.value))
    return "" if sealed is None else mtls.master_key.open(sealed, purpose=purpose_of(name)).decode()


def purpose_of(name: str) -> str:
    """What a sealed password is bound to."""
    return f"enrolment-secret:{name}"
