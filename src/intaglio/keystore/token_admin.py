"""Use cases of operators: which tokens there are, their PINs, what is in them, and whether they work.

All need ``keys.manage``. A token and its PIN are tried in a process of their own before they are recorded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from pkcs11.exceptions import PKCS11Error
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from sqlalchemy import delete, func, insert, select, text, update

from intaglio.asn1.algorithms import load_public_key
from intaglio.audit.record import record
from intaglio.core.errors import IntaglioError, InvalidInput, NotFound, NotSupported, StateConflict, Unavailable
from intaglio.core.identifiers import new_id
from intaglio.core.principal import Permission, Principal
from intaglio.db.engine import Transaction
from intaglio.keystore.models import hsm_token, private_key
from intaglio.keystore.pkcs11 import modules
from intaglio.keystore.pkcs11.objects import TokenObject
from intaglio.keystore.pkcs11.provider import Pkcs11Provider
from intaglio.keystore.probing import Report, probe
from intaglio.keystore.service import KeyStore
from intaglio.keystore.tokens import PREFIX, TokenInfo, Tokens, info, purpose_of

_C = hsm_token.c
_LONGEST_ID = 128  # octets of a CKA_ID
_ADOPTING = 0x1A7A6150  # advisory lock: two who adopt the same object must not both


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class TokenPlace(_Value):
    """A token to be used. At least one of ``label``, ``serial`` and ``slot`` says which one of the library's."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,39}$", description="Keys name it as pkcs11:NAME.")
    module: str = Field(max_length=40, description="Name of a PKCS #11 module of the server.")
    label: str | None = Field(default=None, max_length=32)
    serial: str | None = Field(default=None, max_length=64)
    slot: int | None = Field(default=None, ge=0, lt=1 << 63)
    sessions: int = Field(default=8, ge=1, le=1000, description="Sessions open at a time, per process.")
    timeout: float = Field(default=10.0, ge=1, le=120, description="Seconds that an operation may wait.")
    load_sharing: bool = Field(default=False, description="Several tokens of that name hold the same keys.")


class NewToken(TokenPlace):
    """A token with its PIN. ``check`` False records it unseen, for a token that is not there yet."""

    pin: SecretStr = Field(min_length=1, max_length=255)
    check: bool = True


class TokenChanges(_Value):
    """What can be changed of a token; what is left out stays."""

    module: str | None = Field(default=None, max_length=40)
    label: str | None = Field(default=None, max_length=32)
    serial: str | None = Field(default=None, max_length=64)
    slot: int | None = Field(default=None, ge=0, lt=1 << 63)
    sessions: int | None = Field(default=None, ge=1, le=1000)
    timeout: float | None = Field(default=None, ge=1, le=120)
    load_sharing: bool | None = None
    check: bool = True


async def list_tokens(view: Transaction, principal: Principal) -> list[TokenInfo]:
    """Every configured token, by name."""
    principal.require(Permission.KEYS_MANAGE)
    c = private_key.c
    counted = select(c.provider, func.count().label("n")).where(c.destroyed_at.is_(None)).group_by(c.provider)
    keys = {row["provider"]: row["n"] for row in await view.all(counted)}
    rows = await view.all(select(hsm_token).order_by(_C.name))
    return [info(row, keys.get(PREFIX + row["name"], 0)) for row in rows]


async def show_token(view: Transaction, principal: Principal, name: str) -> TokenInfo:
    """One token. Raises NotFound (``hsm-token-unknown``)."""
    principal.require(Permission.KEYS_MANAGE)
    return info(await _row(view, name), await _count(view, name))


async def add_token(tokens: Tokens, principal: Principal, wanted: NewToken) -> TokenInfo:
    """Record a token after it was found and took its PIN.

    Raises InvalidInput (``token-not-named``, ``token-pin-wrong``), NotFound and Refused for its module, StateConflict
    (``already-exists``), Unavailable (``token-unavailable``) when it is not there.
    """
    principal.require(Permission.KEYS_MANAGE)
    values: dict[str, Any] = wanted.model_dump(exclude={"pin", "check"})
    await _require_new(tokens, values)
    pin = wanted.pin.get_secret_value()
    state = await _proved(tokens, values, pin) if wanted.check else "unproved"
    sealed = tokens.master.seal(pin.encode(), purpose=purpose_of(wanted.name))
    return await _record(tokens, principal, values, sealed, state)


async def declare_token(tokens: Tokens, principal: Principal, wanted: TokenPlace) -> TokenInfo:
    """Record a token unseen and without its PIN; until that is set, its keys are refused.

    Raises InvalidInput (``token-not-named``), NotFound and Refused for its module, StateConflict (``already-exists``).
    """
    principal.require(Permission.KEYS_MANAGE)
    values = wanted.model_dump()
    await _require_new(tokens, values)
    return await _record(tokens, principal, values, None, "none")


async def change_token(tokens: Tokens, principal: Principal, name: str, changes: TokenChanges) -> TokenInfo:
    """Change where a token is found or how it is used. Raises what :func:`add_token` raises, and NotFound."""
    principal.require(Permission.KEYS_MANAGE)
    wanted = changes.model_dump(exclude={"check"}, exclude_none=True)
    async with tokens.database.read() as view:
        row = await _row(view, name)
    values = {**{column: row[column] for column in _LOCATING}, **wanted}
    _require_named(values)
    modules.require(tokens.settings, values["module"])
    state = row["pin_state"]
    if changes.check and state not in ("wrong", "none") and _LOCATING.intersection(wanted):
        state = await _proved(tokens, {**values, "name": name}, tokens.pin(row))
    async with tokens.database.transaction() as tx:
        await _lock(tx, name, row["revision"])
        await _update(tx, name, **wanted, pin_state=state)
        record(tx, principal, "hsm-token.change", "hsm-token", name, **wanted)
        return info(await _row(tx, name), await _count(tx, name))


async def set_pin(
    tokens: Tokens, principal: Principal, name: str, pin: SecretStr, *, check: bool = True
) -> TokenInfo:
    """Record another PIN, after the token took it; every process logs in anew.

    Raises NotFound, InvalidInput (``token-pin-wrong``), Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    async with tokens.database.read() as view:
        row = await _row(view, name)
    digits = pin.get_secret_value()
    state = await _proved(tokens, row, digits) if check else "unproved"
    async with tokens.database.transaction() as tx:
        await _lock(tx, name, row["revision"])
        sealed = tokens.master.seal(digits.encode(), purpose=purpose_of(name))
        await _update(tx, name, sealed_pin=sealed, pin_state=state)
        record(tx, principal, "hsm-token.set-pin", "hsm-token", name, pin_state=state)
        return info(await _row(tx, name), await _count(tx, name))


async def remove_token(tokens: Tokens, principal: Principal, name: str) -> None:
    """Forget a token that no key of ours is in any more; the token itself stays as it is.

    Raises NotFound, StateConflict (``token-in-use``).
    """
    principal.require(Permission.KEYS_MANAGE)
    async with tokens.database.transaction() as tx:
        await _lock(tx, name)
        if count := await _count(tx, name):
            raise StateConflict(
                f'{count} private key(s) of this installation are in the token "{name}".',
                code="token-in-use",
                remedy=f"See intaglio key list --filter 'provider={PREFIX}{name}'; migrate or delete them first.",
            )
        await tx.execute(delete(hsm_token).where(_C.name == name))
        leftover = private_key.c.provider == PREFIX + name
        due = leftover & private_key.c.erasure_due
        left = [str(row["id"]) for row in await tx.all(select(private_key.c.id).where(due).order_by(private_key.c.id))]
        await tx.execute(update(private_key).where(due).values(erasure_due=False))
        # What was destroyed here and is still in the token stays there: whoever has it must know.
        facts: dict[str, Any] = {"still_there": left[:50]} if left else {}
        record(tx, principal, "hsm-token.remove", "hsm-token", name, **facts)
        tx.changed_configuration()


async def check_token(
    tokens: Tokens, principal: Principal, name: str, *, pin: SecretStr | None = None, debug_level: int = 0
) -> Report:
    """Try a token: find it, log in, and have every algorithm generate, sign, be verified, and be deleted.

    ``pin`` instead of the recorded one; ``debug_level`` is for nShield's client (CKNFAST_DEBUG) and ignored by others.
    A recorded PIN that is known as wrong is not tried. Raises NotFound, Unavailable when the module crashes.
    """
    principal.require(Permission.KEYS_MANAGE)
    async with tokens.database.read() as view:
        row = await _row(view, name)
    module = modules.require(tokens.settings, row["module"])
    if pin is None and row["pin_state"] in _UNUSABLE:
        state = row["pin_state"]
        detail = f"{_UNUSABLE[state]}: intaglio hsm token set-pin"
        return Report(({"about": "token", "what": "log in", "ok": False, "detail": detail},), (), None, state)
    given = pin.get_secret_value() if pin is not None else tokens.pin(row)
    debug = {"CKNFAST_DEBUG": str(debug_level)} if module.name == "nshield" and debug_level else {}
    report = await probe(module, "check", **_locating(row), name=name, pin=given, environment=debug)
    async with tokens.database.transaction() as tx:
        if pin is None and report.pin != "untried" and report.pin != row["pin_state"]:
            mine = (_C.name == name, _C.revision == row["revision"])
            await tx.execute(update(hsm_token).where(*mine).values(pin_state=report.pin))
        record(tx, principal, "hsm-token.check", "hsm-token", name, ok=report.ok, fault=report.fault)
    return report


async def list_slots(tokens: Tokens, principal: Principal, module: str) -> Sequence[Mapping[str, Any]]:
    """The slots of a module and the tokens in them, whether recorded here or not.

    Raises NotFound and Refused for the module, Unavailable (``hsm-module-failed``).
    """
    principal.require(Permission.KEYS_MANAGE)
    found = modules.require(tokens.settings, module)
    report = await probe(found, "slots")
    if not report.ok:
        raise Unavailable(
            f"The PKCS #11 module {module} cannot be used ({report.fault}).",
            code="hsm-module-failed",
            remedy="Is its client software set up? See also INTAGLIO_PKCS11_ENVIRONMENT.",
        )
    return report.slots


async def list_objects(
    keystore: KeyStore, tokens: Tokens, principal: Principal, name: str
) -> list[tuple[TokenObject, UUID | None]]:
    """What is in a token, and of a key pair which private key of ours it is. Raises NotFound, Unavailable."""
    principal.require(Permission.KEYS_MANAGE)
    async with tokens.database.read() as view:
        provider = await _provider(keystore, view, name)
        known = await _known(keystore, view, provider)
    found = await provider.dispatcher.run(provider.everything)
    return [(each, known.get(each.id) if each.kind.endswith("key") else None) for each in found]


async def delete_object(keystore: KeyStore, tokens: Tokens, principal: Principal, name: str, cka_id: str) -> int:
    """Destroy a key pair in a token that is none of ours; returns how many objects that were.

    Raises NotFound, StateConflict (``key-in-use``) for a key of ours, Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    reference = _octets(cka_id)
    async with tokens.database.transaction() as tx:
        provider = await _provider(keystore, tx, name)
        await tx.execute(text(f"SELECT pg_advisory_xact_lock({_ADOPTING})"))
        if (mine := (await _known(keystore, tx, provider)).get(reference.hex())) is not None:
            raise StateConflict(
                f"The key pair is the private key {mine} of this installation.",
                code="key-in-use",
                remedy=f"Delete that one: intaglio key delete {mine}.",
            )
        destroyed = await provider.dispatcher.run(lambda: provider.destroy_object(reference))
        if not destroyed:
            raise NotFound(f'The token "{name}" has no key pair {reference.hex()}.', code="token-object-unknown")
        record(tx, principal, "hsm-object.delete", "hsm-token", name, id=reference.hex(), objects=destroyed)
    return destroyed


async def adopt_object(
    keystore: KeyStore, tokens: Tokens, principal: Principal, name: str, cka_id: str, label: str
) -> UUID:
    """Take a key pair that is in a token already as a private key of ours, after it proved that it signs.

    Returns the id of the private key. Raises NotFound, InvalidInput (``key-algorithm-not-allowed``), StateConflict
    (``already-exists``), Unavailable.
    """
    principal.require(Permission.KEYS_MANAGE)
    reference = _octets(cka_id)
    async with tokens.database.transaction() as tx:
        provider = await _provider(keystore, tx, name)
        await tokens.hold(tx, provider.name)
        await tx.execute(text(f"SELECT pg_advisory_xact_lock({_ADOPTING})"))
        if (mine := (await _known(keystore, tx, provider)).get(reference.hex())) is not None:
            raise StateConflict(f"That is the private key {mine} already.", code="already-exists")
        spki = await provider.dispatcher.run(lambda: provider.public_key(reference))
        algorithm, key_id = load_public_key(spki)[1], new_id()
        protection = (await provider.dispatcher.run(lambda: provider.protection(reference))).as_json()
        await tx.execute(
            insert(private_key).values(
                id=key_id, provider=provider.name, algorithm=algorithm.value, label=label, public_key=spki,
                reference=reference, protection=protection, created_at=tx.now,
            )
        )  # fmt: skip
        await keystore.prove(await keystore.load(tx, key_id))
        tx.after_rollback(lambda: keystore.forget(key_id))
        facts: dict[str, Any] = {"label": label, "algorithm": algorithm.value, "provider": provider.name}
        facts |= {"id": reference.hex(), "protection": protection}
        record(tx, principal, "key.adopt", "key", str(key_id), **facts)
    return key_id


# ---- steps -----------------------------------------------------------------------------------------------------------

#: Why a recorded PIN is not tried, by its state.
_UNUSABLE = {"wrong": "the recorded PIN is wrong and is not tried again", "none": "no PIN is recorded"}
_LOCATING = frozenset({"module", "label", "serial", "slot", "load_sharing"})


def _locating(values: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: values[name] for name in _LOCATING - {"module"}}


async def _proved(tokens: Tokens, values: Mapping[Any, Any], pin: str | None) -> str:
    """The state of a PIN that the token took. Raises InvalidInput, Unavailable."""
    module = modules.require(tokens.settings, values["module"])
    report = await probe(module, "login", **_locating(values), name=values["name"], pin=pin)
    if report.pin == "wrong":
        raise InvalidInput(
            f'The token "{values["name"]}" does not accept this PIN.',
            code="token-pin-wrong",
            remedy="Mind that tokens lock after a few wrong ones; see the state of its PIN: intaglio hsm slots.",
            target="pin",
        )
    if not report.ok:
        raise Unavailable(
            f'The token "{values["name"]}" cannot be used ({report.fault}).',
            code="token-unavailable",
            remedy="See which tokens there are: intaglio hsm slots. To record it all the same: --unchecked.",
        )
    return "accepted"


def _require_named(values: Mapping[str, Any]) -> None:
    if all(values.get(name) is None for name in ("label", "serial", "slot")):
        raise InvalidInput(
            "It is not said which token of the library is meant.",
            code="token-not-named",
            remedy="Give its label, its serial number or its slot; see intaglio hsm slots.",
            target="label",
        )


async def _require_new(tokens: Tokens, values: Mapping[str, Any]) -> None:
    _require_named(values)
    modules.require(tokens.settings, values["module"])
    async with tokens.database.read() as view:
        if await view.scalar(select(_C.name).where(_C.name == values["name"])) is not None:
            raise StateConflict(f'There is a token "{values["name"]}" already.', code="already-exists", target="name")


async def _record(
    tokens: Tokens, principal: Principal, values: Mapping[str, Any], sealed: bytes | None, state: str
) -> TokenInfo:
    name = values["name"]
    async with tokens.database.transaction() as tx:
        stamps = {"created_at": tx.now, "changed_at": tx.now}
        await tx.execute(insert(hsm_token).values(**values, sealed_pin=sealed, pin_state=state, revision=1, **stamps))
        record(tx, principal, "hsm-token.add", "hsm-token", name, pin_state=state, **values)
        tx.changed_configuration()
        return info(await _row(tx, name), 0)


async def _row(view: Transaction, name: str) -> Mapping[Any, Any]:
    row = await view.one_or_none(select(hsm_token).where(_C.name == name))
    if row is None:
        known = [each["name"] for each in await view.all(select(_C.name).order_by(_C.name))]
        raise NotFound(
            f'There is no token "{name[:80]}".',
            code="hsm-token-unknown",
            remedy=f"Known: {', '.join(known)}." if known else "Record one first: intaglio hsm token add.",
        )
    return row


async def _lock(tx: Transaction, name: str, revision: int | None = None) -> None:
    """Hold the row of a token, unchanged since ``revision`` was read. Raises NotFound, StateConflict."""
    found = await tx.scalar(select(_C.revision).where(_C.name == name).with_for_update())
    if found is None:
        await _row(tx, name)
    if revision is not None and found != revision:
        raise StateConflict(f'The token "{name}" was changed by somebody else just now.', code="concurrent-change")


async def _update(tx: Transaction, name: str, **values: Any) -> None:
    statement = update(hsm_token).where(_C.name == name)
    await tx.execute(statement.values(**values, revision=_C.revision + 1, changed_at=tx.now))
    tx.changed_configuration()


async def _count(view: Transaction, name: str) -> int:
    c = private_key.c
    query = select(func.count()).where(c.provider == PREFIX + name, c.destroyed_at.is_(None))
    return int(await view.scalar(query))


async def _provider(keystore: KeyStore, view: Transaction, name: str) -> Pkcs11Provider:
    await _row(view, name)
    found = await keystore.provider(view, PREFIX + name)
    if not isinstance(found, Pkcs11Provider):
        raise NotSupported(f'"{name}" is no token.', code="keystore-provider-unknown")
    return found


async def _known(keystore: KeyStore, view: Transaction, provider: Pkcs11Provider) -> dict[str, UUID]:
    """Our keys in a token by CKA_ID in hexadecimal, whichever of its names they were put there under."""
    names = [provider.name, *await _other_names(keystore, view, provider)]
    c = private_key.c
    rows = await view.all(select(c.id, c.reference).where(c.provider.in_(names), c.destroyed_at.is_(None)))
    return {bytes(row["reference"] or row["id"].bytes).hex(): row["id"] for row in rows}


async def _other_names(keystore: KeyStore, view: Transaction, provider: Pkcs11Provider) -> list[str]:
    """Providers that are the same token under another name, or may be, for they do not answer."""
    wanted = provider.name.removeprefix(PREFIX)
    rows = await view.all(select(_C.name).where(_C.name != wanted).order_by(_C.name))
    if not rows:
        return []
    mine = await _identities(provider)
    found = []
    for row in rows:
        theirs = None
        with contextlib.suppress(IntaglioError):
            theirs = await _identities(await _provider(keystore, view, row["name"]))
        if mine is None or theirs is None or mine & theirs:
            found.append(PREFIX + row["name"])
    return found


async def _identities(provider: Pkcs11Provider) -> set[tuple[str, str]] | None:
    """Which tokens a provider means, None when that is not to be learned now."""
    try:
        return await provider.dispatcher.run(provider.identities) or None
    except PKCS11Error:
        return None


def _octets(cka_id: str) -> bytes:
    try:
        octets = bytes.fromhex(cka_id)
    except ValueError:
        octets = b""
    if not 0 < len(octets) <= _LONGEST_ID:
        raise InvalidInput(
            "The id of a key pair is its CKA_ID in hexadecimal.",
            code="token-object-id-invalid",
            remedy="See intaglio hsm objects. A key without one gets one by: pkcs11-tool --set-id.",
            target="id",
        )
    return octets
