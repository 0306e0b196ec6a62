"""Configured tokens: added, changed, locked out and set right; keys made, adopted, moved and destroyed in them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from pkcs11 import exceptions as ck
from pydantic import SecretStr
from sqlalchemy import select, update
from tests.support.eventually import eventually
from tests.support.tokens import PIN, SoftHsm

from intaglio.asn1 import algorithms
from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit.models import audit_record
from intaglio.core.errors import (
    Forbidden,
    IntaglioError,
    InvalidInput,
    NotFound,
    NotSupported,
    StateConflict,
    Unavailable,
)
from intaglio.core.principal import ALL_PERMISSIONS, Permission, Principal, operator
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.keystore import token_admin, tokens
from intaglio.keystore.audit_key import LABEL, audit_public_keys
from intaglio.keystore.erasure import erase_due
from intaglio.keystore.migration import migrate_key
from intaglio.keystore.models import hsm_token, private_key
from intaglio.keystore.rewrap import SEALED_COLUMNS, rewrap
from intaglio.keystore.service import KeyStore, Signer
from intaglio.keystore.token_admin import NewToken, TokenChanges
from intaglio.keystore.token_health import TokenHealth
from intaglio.keystore.tokens import LoginGuard, Tokens

OPERATOR = operator("root")
P256 = KeyAlgorithm.ECDSA_P256
MAIN = "pkcs11:main"


class House:
    """The keystore of one process with tokens."""

    def __init__(self, hsm: SoftHsm, database: Database, master: MasterKey) -> None:
        self.hsm = hsm
        self.database = database
        self.tokens = Tokens(Settings(pkcs11_environment=hsm.environment), master, database)
        self.keystore = KeyStore(master, tokens=self.tokens)

    async def add(self, name: str = "main", label: str = "one", **changes: Any) -> None:
        values = {"name": name, "module": "softhsm2", "label": label, "pin": SecretStr(PIN), **changes}
        await token_admin.add_token(self.tokens, OPERATOR, NewToken(**values))

    async def generate(self, algorithm: KeyAlgorithm = P256, provider: str = MAIN, label: str = "a test") -> Signer:
        async with self.database.transaction() as tx:
            return await self.keystore.generate(tx, algorithm, label, provider=provider, principal=OPERATOR)

    async def load(self, signer: Signer) -> Signer:
        async with self.database.read() as view:
            return await self.keystore.load(view, signer.key_id)

    async def refresh(self) -> None:
        async with self.database.read() as view:
            await self.keystore.refresh(view)

    async def pin_state(self, name: str = "main") -> str:
        async with self.database.read() as view:
            return (await token_admin.show_token(view, OPERATOR, name)).pin_state

    async def row(self, signer: Signer) -> Any:
        async with self.database.read() as view:
            return await view.one_or_none(select(private_key).where(private_key.c.id == signer.key_id))


@pytest_asyncio.fixture
async def house(database: Database, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[House]:
    hsm = SoftHsm(tmp_path)
    hsm.make("one")
    hsm.make("two")
    made = House(hsm, database, master_key)
    yield made
    made.keystore.close()


async def signs(signer: Signer) -> bool:
    public = algorithms.load_public_key(signer.spki)[0]
    signature = await signer.sign(b"to be signed")
    return algorithms.verify(public, signer.algorithm.signature_oid, signature, b"to be signed")


async def test_a_token_is_recorded_only_after_it_took_its_pin(house: House) -> None:
    with pytest.raises(InvalidInput) as refused:
        await house.add(pin=SecretStr("0000"))
    assert (refused.value.code, refused.value.target) == ("token-pin-wrong", "pin")
    with pytest.raises(Unavailable, match="no token with label other"):
        await house.add(label="other")
    with pytest.raises(InvalidInput) as unnamed:
        await house.add(label=None)
    assert unnamed.value.target == "label"
    with pytest.raises(NotFound) as unknown:
        await house.add(module="nothing")
    assert (unknown.value.code, unknown.value.target) == ("hsm-module-unknown", "module")
    async with house.database.read() as view:
        assert await token_admin.list_tokens(view, OPERATOR) == []
    await house.add()
    with pytest.raises(StateConflict):
        await house.add()
    assert await house.pin_state() == "accepted"


async def test_a_pin_is_nowhere_to_be_read(house: House) -> None:
    await house.add()
    async with house.database.read() as view:
        shown = (await token_admin.show_token(view, OPERATOR, "main")).model_dump_json()
        row = await view.one_or_none(select(hsm_token))
        trail = [str(dict(each)) for each in await view.all(select(audit_record))]
    assert row is not None
    assert PIN.encode() not in bytes(row["sealed_pin"])
    assert not any(PIN in each for each in [shown, *trail])
    assert PIN not in repr(house.tokens.token_settings(row))


async def test_keys_in_several_tokens_and_in_software_live_side_by_side(house: House) -> None:
    await house.add()
    await house.add("second", "two", sessions=2)
    made = [await house.generate(provider=each) for each in (MAIN, "pkcs11:second", "software")]
    assert [each.inline for each in made] == [False, False, True]
    for signer in made:
        house.keystore.forget(signer.key_id)
        assert await signs(await house.load(signer))
    assert made[0].key_id.hex in house.hsm.pkcs11_tool("one", "--list-objects")
    assert made[0].key_id.hex not in house.hsm.pkcs11_tool("two", "--list-objects")
    with pytest.raises(NotSupported) as refused:
        await house.generate(provider="pkcs11:third")
    assert "pkcs11:second" in refused.value.remedy


async def test_a_key_whose_transaction_came_to_nothing_does_not_stay_in_its_token(house: House) -> None:
    await house.add()

    async def fail() -> None:
        async with house.database.transaction() as tx:
            await house.keystore.generate(tx, P256, "a test", provider=MAIN)
            raise RuntimeError("changed my mind")

    with pytest.raises(RuntimeError):
        await fail()
    async with house.database.read() as view:
        provider = await house.tokens.provider(view, MAIN)
    assert provider is not None

    async def gone() -> bool:
        return await provider.dispatcher.run(provider.everything) == []

    await eventually(gone)


async def test_a_pin_that_went_wrong_is_tried_by_one_process_only_and_set_right_for_all(
    house: House, master_key: MasterKey
) -> None:
    await house.add()
    signer = await house.generate()
    house.hsm.set_pin("one", PIN, "081508")
    processes = [House(house.hsm, house.database, master_key) for _ in range(3)]
    for process in processes:
        with pytest.raises(Unavailable) as refused:
            await signs(await process.load(signer))
        assert refused.value.code == "token-pin-wrong"
    assert await house.pin_state() == "wrong"
    async with house.database.read() as view:
        trail = await view.all(select(audit_record).where(audit_record.c.action == "hsm-token.pin-state"))
    assert len(trail) == 1
    with pytest.raises(InvalidInput):
        await token_admin.set_pin(house.tokens, OPERATOR, "main", SecretStr(PIN))
    await token_admin.set_pin(house.tokens, OPERATOR, "main", SecretStr("081508"))
    for process in processes:
        await process.refresh()
        assert await signs(await process.load(signer))
        process.keystore.close()


async def test_a_pin_that_turns_out_wrong_after_nobody_waited_any_more_is_not_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.add()
    monkeypatch.setattr(tokens, "_LOGIN_PATIENCE", 0.2)
    guard = LoginGuard(house.database, "main", 1, asyncio.get_running_loop())
    answered, attempts = threading.Event(), 0

    def attempt() -> None:
        nonlocal attempts
        attempts += 1
        answered.wait(10)
        raise ck.PinIncorrect

    with pytest.raises(Unavailable):
        await asyncio.to_thread(guard, attempt)
    answered.set()

    async def known() -> bool:
        return await house.pin_state() == "wrong"

    await eventually(known)
    async with house.database.transaction() as tx:  # as if it could not have been recorded
        await tx.execute(update(hsm_token).values(pin_state="unproved"))
    monkeypatch.setattr(tokens, "_LOGIN_PATIENCE", 10.0)
    with pytest.raises(ck.PinIncorrect):
        await asyncio.to_thread(guard, attempt)
    assert (attempts, await house.pin_state()) == (1, "wrong")


async def test_a_check_says_what_works_and_does_not_try_a_pin_known_as_wrong(house: House) -> None:
    await house.add()
    good = await token_admin.check_token(house.tokens, OPERATOR, "main")
    assert good.ok, good.fault
    assert good.token is not None
    assert good.token["token"]["serial"]
    bad = await token_admin.check_token(house.tokens, OPERATOR, "main", pin=SecretStr("0000"))
    assert (bad.ok, bad.pin, await house.pin_state()) == (False, "wrong", "accepted")
    async with house.database.transaction() as tx:
        await tx.execute(update(hsm_token).values(pin_state="wrong"))
    untried = await token_admin.check_token(house.tokens, OPERATOR, "main")
    assert (untried.ok, untried.slots) == (False, ())
    with pytest.raises(NotFound):
        await token_admin.check_token(house.tokens, OPERATOR, "other")


async def test_a_changed_token_is_followed_by_its_keys(house: House) -> None:
    await house.add()
    signer = await house.generate()
    changed = await token_admin.change_token(house.tokens, OPERATOR, "main", TokenChanges(sessions=1, timeout=5))
    assert (changed.sessions, changed.keys) == (1, 1)
    await house.refresh()
    assert await signs(await house.load(signer))
    with pytest.raises(Unavailable):
        await token_admin.change_token(house.tokens, OPERATOR, "main", TokenChanges(label="gone"))
    await token_admin.change_token(house.tokens, OPERATOR, "main", TokenChanges(label="two"))
    await house.refresh()
    with pytest.raises(Unavailable) as refused:
        await signs(await house.load(signer))
    assert refused.value.code == "token-key-missing"


async def test_a_token_in_use_is_not_removed(house: House) -> None:
    await house.add()
    signer = await house.generate()
    with pytest.raises(StateConflict) as refused:
        await token_admin.remove_token(house.tokens, OPERATOR, "main")
    assert refused.value.code == "token-in-use"
    async with house.database.transaction() as tx:
        await house.keystore.destroy(tx, signer.key_id)
    assert await erase_due(house.database, house.keystore) == 1
    await token_admin.remove_token(house.tokens, OPERATOR, "main")
    async with house.database.read() as view:
        assert await token_admin.list_tokens(view, OPERATOR) == []


async def test_a_key_destroyed_while_its_token_is_away_is_destroyed_there_later(house: House) -> None:
    await house.add()
    signer = await house.generate()
    house.hsm.take_away()
    async with house.database.transaction() as tx:
        await house.keystore.destroy(tx, signer.key_id)
    assert await erase_due(house.database, house.keystore) == 0
    assert (await house.row(signer))["erasure_due"] is True
    house.hsm.put_back()
    assert signer.key_id.hex in house.hsm.pkcs11_tool("one", "--list-objects")

    async def erased() -> bool:
        return await erase_due(house.database, house.keystore) == 1

    await eventually(erased)
    assert (await house.row(signer))["erasure_due"] is False
    assert signer.key_id.hex not in house.hsm.pkcs11_tool("one", "--list-objects")


async def test_keys_that_stay_in_a_token_that_is_removed_are_named(house: House) -> None:
    await house.add()
    signer = await house.generate()
    house.hsm.take_away()
    async with house.database.transaction() as tx:
        await house.keystore.destroy(tx, signer.key_id)
    assert await erase_due(house.database, house.keystore) == 0
    await token_admin.remove_token(house.tokens, OPERATOR, "main")
    async with house.database.read() as view:
        query = select(audit_record.c.detail).where(audit_record.c.action == "hsm-token.remove")
        assert (await view.scalar(query))["still_there"] == [str(signer.key_id)]
    house.hsm.put_back()


@pytest.mark.parametrize("algorithm", [P256, KeyAlgorithm.RSA_2048, KeyAlgorithm.ED25519])
async def test_a_software_key_moves_into_a_token_and_only_a_kept_copy_can_go_back(
    house: House, algorithm: KeyAlgorithm
) -> None:
    await house.add()
    signer, kept = [await house.generate(algorithm, "software") for _ in range(2)]
    moved = await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, MAIN)
    assert moved.protection is not None
    assert (moved.protection["extractable"], moved.protection["never_extractable"]) == (False, False)
    found = await house.load(signer)
    assert (found.spki, found.provider, (await house.row(signer))["sealed"]) == (signer.spki, MAIN, None)
    assert await signs(found)
    with pytest.raises(NotSupported) as refused:
        await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, "software")
    assert (refused.value.code, "rekey" in refused.value.remedy) == ("key-not-exportable", True)
    with pytest.raises(StateConflict):
        await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, MAIN)

    await migrate_key(house.database, house.keystore, OPERATOR, kept.key_id, MAIN, keep=True)
    assert await signs(await house.load(kept))
    await migrate_key(house.database, house.keystore, OPERATOR, kept.key_id, "software")
    back = await house.load(kept)
    assert (back.provider, back.spki) == ("software", kept.spki)
    assert await signs(back)


async def test_a_key_that_moves_to_the_token_it_is_in_under_another_name_is_not_lost(house: House) -> None:
    await house.add()
    await house.add("alias", "one")
    signer = await house.generate(provider="software")
    await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, MAIN, keep=True)
    await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, "pkcs11:alias")
    assert await erase_due(house.database, house.keystore) == 1
    found = await house.load(signer)
    assert found.provider == "pkcs11:alias"
    assert await signs(found)
    assert len(await token_admin.list_objects(house.keystore, house.tokens, OPERATOR, "main")) == 2


async def test_what_a_moved_key_leaves_in_a_token_that_is_away_is_destroyed_there_later(house: House) -> None:
    await house.add()
    signer = await house.generate(provider="software")
    await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, MAIN, keep=True)
    house.hsm.take_away()
    await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, "software")
    assert await erase_due(house.database, house.keystore) == 0
    house.hsm.put_back()
    assert signer.key_id.hex in house.hsm.pkcs11_tool("one", "--list-objects")

    async def erased() -> bool:
        return await erase_due(house.database, house.keystore) == 1

    await eventually(erased)
    assert signer.key_id.hex not in house.hsm.pkcs11_tool("one", "--list-objects")
    assert await signs(await house.load(signer))


async def test_a_key_of_ours_is_neither_destroyed_nor_adopted_under_another_name_of_its_token(house: House) -> None:
    await house.add()
    await house.add("alias", "one")
    await house.add("second", "two")
    signer = await house.generate()
    listed = await token_admin.list_objects(house.keystore, house.tokens, OPERATOR, "alias")
    assert {key for _, key in listed} == {signer.key_id}
    with pytest.raises(StateConflict) as refused:
        await token_admin.delete_object(house.keystore, house.tokens, OPERATOR, "alias", signer.key_id.hex)
    assert refused.value.code == "key-in-use"
    with pytest.raises(StateConflict):
        await token_admin.adopt_object(house.keystore, house.tokens, OPERATOR, "alias", signer.key_id.hex, "mine, too")
    assert await signs(await house.load(signer))
    with pytest.raises(NotFound):  # another token is another token
        await token_admin.delete_object(house.keystore, house.tokens, OPERATOR, "second", signer.key_id.hex)


async def test_a_key_that_a_token_cannot_hold_stays_where_it_is(house: House) -> None:
    await house.add()
    signer = await house.generate(KeyAlgorithm.ML_DSA_44, "software")
    with pytest.raises(NotSupported):
        await migrate_key(house.database, house.keystore, OPERATOR, signer.key_id, MAIN)
    assert (await house.load(signer)).provider == "software"
    assert (await house.row(signer))["sealed"] is not None


async def test_a_key_pair_made_by_another_program_is_adopted(house: House) -> None:
    await house.add()
    house.hsm.pkcs11_tool("one", "--keypairgen", "--key-type", "EC:prime256v1", "--id", "c0ffee", "--label", "old",
                          "--usage-sign")  # fmt: skip
    listed = await token_admin.list_objects(house.keystore, house.tokens, OPERATOR, "main")
    assert [(each.label, each.id, key) for each, key in listed] == [("old", "c0ffee", None)] * 2
    key_id = await token_admin.adopt_object(house.keystore, house.tokens, OPERATOR, "main", "c0ffee", "a service")
    async with house.database.read() as view:
        assert await signs(await house.keystore.load(view, key_id))
    listed = await token_admin.list_objects(house.keystore, house.tokens, OPERATOR, "main")
    assert {key for _, key in listed} == {key_id}
    with pytest.raises(StateConflict):
        await token_admin.adopt_object(house.keystore, house.tokens, OPERATOR, "main", "c0ffee", "again")
    with pytest.raises(StateConflict) as refused:
        await token_admin.delete_object(house.keystore, house.tokens, OPERATOR, "main", "c0ffee")
    assert refused.value.code == "key-in-use"
    with pytest.raises(InvalidInput):
        await token_admin.adopt_object(house.keystore, house.tokens, OPERATOR, "main", "not hex", "x")
    with pytest.raises(IntaglioError):
        await token_admin.adopt_object(house.keystore, house.tokens, OPERATOR, "main", "beef", "x")


async def test_a_key_slipped_into_the_table_seals_nothing(house: House) -> None:
    await house.add()
    real = await house.generate(label=LABEL)
    async with house.database.read() as view:
        assert await audit_public_keys(view, house.keystore) == {real.key_id: real.spki}
    forged = algorithms.spki(algorithms.generate_private_key(P256).public_key())
    async with house.database.transaction() as tx:
        await tx.execute(update(private_key).where(private_key.c.id == real.key_id).values(public_key=forged))
    house.keystore.forget(real.key_id)
    async with house.database.read() as view:
        with pytest.raises(Unavailable) as refused:
            await audit_public_keys(view, house.keystore)
    assert refused.value.code == "token-answer-wrong"


async def test_pins_are_sealed_anew_with_everything_else(house: House, master_key: MasterKey) -> None:
    await house.add()
    ring = master_key.rotated()
    await rewrap(house.database, ring, SEALED_COLUMNS)
    later = House(house.hsm, house.database, ring.without(master_key.current))
    assert await signs(await later.generate())
    later.keystore.close()


async def test_the_health_of_tokens_names_what_is_wrong_and_whose_keys_are_out_of_reach(house: House) -> None:
    await house.add()
    await house.add("second", "two")
    signer = await house.generate()
    health = TokenHealth(house.tokens)
    assert await health.states() == {MAIN: "ok", "pkcs11:second": "ok"}
    house.hsm.take_away()
    health = TokenHealth(house.tokens)
    states = await health.states()
    assert set(states.values()) <= {"token-unavailable", "token-key-missing"}
    assert set(await health.keys_out_of_reach()) == {signer.key_id}
    house.hsm.put_back()


async def test_without_the_permission_nothing_is_told_or_done(house: House) -> None:
    nobody = Principal("user", "bob", ALL_PERMISSIONS - {Permission.KEYS_MANAGE})
    await house.add()
    async with house.database.read() as view:
        with pytest.raises(Forbidden):
            await token_admin.list_tokens(view, nobody)
    with pytest.raises(Forbidden):
        await token_admin.check_token(house.tokens, nobody, "main")
    with pytest.raises(Forbidden):
        await token_admin.list_objects(house.keystore, house.tokens, nobody, "main")
    with pytest.raises(Forbidden):
        await token_admin.remove_token(house.tokens, nobody, "main")
    with pytest.raises(Forbidden):
        await token_admin.set_pin(house.tokens, nobody, "main", SecretStr(PIN))
