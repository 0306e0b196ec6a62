"""The configured tokens: their rows, and for each the provider of this process.

A provider is made when the first key of its token is used, and made anew when the token's configuration changed. The
PIN is sealed in the row. No process tries a PIN that another one found wrong: who logs in holds the row's lock, and
what came of it is in the row before the next one looks.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict
from sqlalchemy import select, update

from intaglio.audit.record import record
from intaglio.core.errors import IntaglioError, Unavailable
from intaglio.core.principal import SYSTEM, Principal
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database, Transaction
from intaglio.keystore.models import hsm_token, private_key

if TYPE_CHECKING:
    from intaglio.keystore.pkcs11.provider import Pkcs11Provider
    from intaglio.keystore.pkcs11.token import TokenSettings

#: What the names of providers begin with that are tokens.
PREFIX = "pkcs11:"

_LOGIN_PATIENCE = 30.0  # seconds that a thread waits for its turn to log in


class TokenInfo(BaseModel):
    """A configured token. ``label``, ``serial`` and ``slot`` say which token of the library is meant, None is "any".

    ``sessions`` bounds the open sessions of each process, ``timeout`` is in seconds. ``pin_state`` is none (there is no
    PIN), unproved, accepted or wrong; a wrong one is not tried again until another one is set. ``keys`` is how many of
    our private keys are in it.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    provider: str
    module: str
    label: str | None
    serial: str | None
    slot: int | None
    sessions: int
    timeout: float
    load_sharing: bool
    pin_state: str
    revision: int
    keys: int
    created_at: AwareDatetime
    changed_at: AwareDatetime


class Tokens:
    """Providers of the configured tokens in one process."""

    def __init__(self, settings: Settings, master: MasterKey, database: Database) -> None:
        self.settings = settings
        self.master = master
        self.database = database
        self._providers: dict[str, tuple[int, Pkcs11Provider]] = {}

    async def provider(self, view: Transaction, name: str) -> Pkcs11Provider | None:
        """The provider ``pkcs11:<token>``, None when there is no such token.

        Raises Unavailable (``token-unavailable``) when its library cannot be used here.
        """
        if name in self._providers:
            return self._providers[name][1]
        if not name.startswith(PREFIX):
            return None
        row = await view.one_or_none(select(hsm_token).where(hsm_token.c.name == name.removeprefix(PREFIX)))
        if row is None:
            return None
        if name not in self._providers:  # another task may have been faster
            self._providers[name] = row["revision"], self._made(row)
        return self._providers[name][1]

    async def hold(self, tx: Transaction, name: str) -> None:
        """See that the token of a provider is not removed before this transaction, which puts a key there, has ended.

        Logging in goes on meanwhile. Raises Unavailable when it has just been removed.
        """
        query = select(hsm_token.c.name).where(hsm_token.c.name == name.removeprefix(PREFIX))
        if await tx.scalar(query.with_for_update(read=True, key_share=True)) is None:
            raise Unavailable(f'The token of "{name}" was removed just now.', code="token-unavailable")

    async def names(self, view: Transaction) -> Sequence[str]:
        """Names of the providers there could be."""
        return [PREFIX + row["name"] for row in await view.all(select(hsm_token.c.name).order_by(hsm_token.c.name))]

    async def refresh(self, view: Transaction) -> set[str]:
        """Drop the providers whose token was changed or removed; returns their names."""
        if not self._providers:
            return set()
        c = hsm_token.c
        now = {PREFIX + row["name"]: row["revision"] for row in await view.all(select(c.name, c.revision))}
        changed = {name for name, (revision, _) in self._providers.items() if now.get(name) != revision}
        for name in changed:
            self._providers.pop(name)[1].close()
        return changed

    def close(self) -> None:
        """End all threads and sessions."""
        for _, provider in self._providers.values():
            provider.close()
        self._providers.clear()

    def token_settings(self, row: Mapping[Any, Any]) -> TokenSettings:
        """How the token of a row is used. Raises NotFound, Refused for its library."""
        from intaglio.keystore.pkcs11 import modules
        from intaglio.keystore.pkcs11.token import Locator, TokenSettings

        return TokenSettings(
            name=row["name"],
            module=modules.require(self.settings, row["module"]),
            locator=Locator(row["label"], row["serial"], row["slot"]),
            pin=self.pin(row),
            sessions=row["sessions"],
            timeout=row["timeout"],
            load_sharing=row["load_sharing"],
        )

    def pin(self, row: Mapping[Any, Any]) -> str | None:
        """The PIN of a row. Raises Unavailable when the master key does not open it."""
        sealed = row["sealed_pin"]
        return None if sealed is None else self.master.open(sealed, purpose=purpose_of(row["name"])).decode()

    def _made(self, row: Mapping[Any, Any]) -> Pkcs11Provider:
        from intaglio.keystore.pkcs11.provider import Pkcs11Provider

        if row["pin_state"] == "none":
            raise Unavailable(
                f'The PIN of the token "{row["name"]}" is not recorded.',
                code="token-unavailable",
                remedy=f"Record it: intaglio hsm token set-pin {row['name']}",
            )
        try:
            settings = self.token_settings(row)
        except IntaglioError as error:
            raise Unavailable(
                f'The token "{row["name"]}" cannot be used by this process: {error.detail}',
                code="token-unavailable",
                remedy=error.remedy,
            ) from error
        guard = LoginGuard(self.database, row["name"], row["revision"], asyncio.get_running_loop())
        return Pkcs11Provider(settings, guard)


class LoginGuard:
    """Lets one process at a time log in to a token, and none with a PIN that is known as wrong."""

    def __init__(self, database: Database, name: str, revision: int, loop: asyncio.AbstractEventLoop) -> None:
        self._database = database
        self._name = name
        self._revision = revision
        self._loop = loop
        self._loop_thread = threading.get_ident()
        # Not one of the threads that may all be waiting for this login.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"login-{name}")
        self._wrong = False  # known here even if it could not be recorded

    def __call__(self, attempt: Callable[[], None]) -> None:
        """Run ``attempt`` when it is its turn. Raises what it raises, PinRefused, Unavailable."""
        if threading.get_ident() == self._loop_thread:
            raise RuntimeError("a token is not used in the thread of an event loop")
        future = asyncio.run_coroutine_threadsafe(self._attempt(attempt), self._loop)
        try:
            future.result(_LOGIN_PATIENCE)
        except TimeoutError:
            # It goes on, holding the row as long as it may: what the token says of the PIN in the end must not be lost.
            raise Unavailable(
                f'The token "{self._name}" could not be logged in to in time.', code="token-unavailable", retry_after=2
            ) from None

    async def _attempt(self, attempt: Callable[[], None]) -> None:
        from intaglio.keystore.pkcs11 import errors

        wrong: Exception | None = None
        c = hsm_token.c
        mine = (c.name == self._name, c.revision == self._revision)
        async with self._database.transaction() as tx:
            state = await tx.scalar(select(c.pin_state).where(*mine).with_for_update(key_share=True))
            if state is None:
                raise errors.unavailable(self._name, "its configuration has just been changed")
            if state == "wrong":
                raise errors.pin_wrong(self._name)
            try:
                await self._loop.run_in_executor(self._thread, self._once, attempt)
            except errors.WRONG_PIN as error:
                wrong = error
            now = "wrong" if wrong is not None else "accepted"
            if now != state:
                await tx.execute(update(hsm_token).where(*mine).values(pin_state=now))
                record(tx, SYSTEM, "hsm-token.pin-state", "hsm-token", self._name, state=now)
        if wrong is not None:
            raise wrong

    def _once(self, attempt: Callable[[], None]) -> None:
        """The attempt, unless one before it found the PIN wrong. Attempts come one after the other."""
        from intaglio.keystore.pkcs11 import errors

        if self._wrong:
            raise errors.WRONG_PIN[0]("it was wrong before")
        try:
            attempt()
        except errors.WRONG_PIN:
            self._wrong = True
            raise


def info(row: Mapping[Any, Any], keys: int) -> TokenInfo:
    """What is shown of a row."""
    shown = {name: row[name] for name in TokenInfo.model_fields if name not in ("provider", "keys")}
    return TokenInfo(**shown, provider=PREFIX + row["name"], keys=keys)


async def key_references(view: Transaction) -> dict[str, list[bytes]]:
    """CKA_IDs of our keys by provider, of those that are in tokens."""
    c = private_key.c
    query = select(c.id, c.provider, c.reference).where(c.provider.startswith(PREFIX), c.destroyed_at.is_(None))
    found: dict[str, list[bytes]] = {}
    for row in await view.all(query):
        found.setdefault(row["provider"], []).append(bytes(row["reference"] or row["id"].bytes))
    return found


async def client_files_changed(
    tx: Transaction, principal: Principal, module: str, action: str, facts: Mapping[str, Any]
) -> None:
    """Record that the client configuration of a module was imported or exported on this host; after an import every
    process takes up its tokens anew."""
    record(tx, principal, action, "hsm-module", module, **facts)
    if action.endswith(".import"):
        statement = update(hsm_token).where(hsm_token.c.module == module)
        await tx.execute(statement.values(revision=hsm_token.c.revision + 1, changed_at=tx.now))
        tx.changed_configuration()


def purpose_of(name: str) -> str:
    """What the sealed PIN of a token is bound to."""
    return f"hsm-pin:{name}"
