"""A token that was declared: of no use until its PIN is recorded, and from then on as any other."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr
from tests.keystore.test_tokens import House
from tests.support.tokens import PIN, SoftHsm

from intaglio.core.errors import Forbidden, InvalidInput, Unavailable
from intaglio.core.principal import Principal, operator
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore import token_admin
from intaglio.keystore.token_admin import TokenChanges, TokenPlace

OPERATOR = operator("root")


async def test_a_declared_token_works_once_its_pin_is_recorded(
    database: Database, master_key: MasterKey, tmp_path: Path
) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.make("one")
    house = House(hsm, database, master_key)
    try:
        place = TokenPlace(name="main", module="softhsm2", label="one")
        with pytest.raises(Forbidden):
            await token_admin.declare_token(house.tokens, Principal("user", "eve"), place)
        with pytest.raises(InvalidInput):
            await token_admin.declare_token(house.tokens, OPERATOR, place.model_copy(update={"label": None}))
        assert (await token_admin.declare_token(house.tokens, OPERATOR, place)).pin_state == "none"
        with pytest.raises(Unavailable, match="PIN of the token") as refused:
            await house.generate()
        assert refused.value.remedy is not None
        report = await token_admin.check_token(house.tokens, OPERATOR, "main")
        assert (report.ok, report.pin) == (False, "none")
        changed = await token_admin.change_token(house.tokens, OPERATOR, "main", TokenChanges(serial=None, slot=None))
        assert changed.pin_state == "none", "nothing is tried without a PIN"
        await token_admin.set_pin(house.tokens, OPERATOR, "main", SecretStr(PIN))
        await house.refresh()
        key = await house.generate()
        assert await key.sign(b"data")
        assert await house.pin_state() == "accepted"
    finally:
        house.keystore.close()
