"""A rotation of the master key leaves nothing behind that only the old key opens."""

from __future__ import annotations

from pydantic import SecretStr
from sqlalchemy import LargeBinary
from tests.mtls.enrolment.conftest import EMAIL, VISITOR, csr_for
from tests.support.authority import OPERATOR
from tests.support.identities import make_user

from intaglio.core.secrets import MasterKey
from intaglio.db.base import metadata
from intaglio.keystore import rewrap
from intaglio.mtls import models, sealed
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment.codes import NewCode, create_code
from intaglio.mtls.enrolment.enrolling import submit_request
from intaglio.mtls.enrolment.sessions import begin_session
from intaglio.mtls.enrolment.stored_secrets import Secret, read_secret, set_secret
from intaglio.mtls.identities.bindings import get_binding
from intaglio.mtls.identities.values import TrustDomain


def test_every_sealed_column_is_known() -> None:
    assert models
    known = {column.column for column in sealed.SEALED_COLUMNS}
    found = {
        column
        for table in metadata.tables.values()
        if table.name.startswith("mtls_")
        for column in table.columns
        if "sealed" in column.name and isinstance(column.type, LargeBinary)
    }
    assert found == known


async def test_after_a_rotation_everything_opens_without_the_old_key(
    mtls: Mtls, trust_domain: TrustDomain, master_key: MasterKey
) -> None:
    code = await create_code(mtls, OPERATOR, NewCode(await make_user(mtls, EMAIL)))
    other = await create_code(mtls, OPERATOR, NewCode(await make_user(mtls, "bob@example.com")))
    assert code.text is not None
    assert other.text is not None
    opened = await begin_session(mtls, code.text, EMAIL, VISITOR)
    issued = await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    await set_secret(mtls, OPERATOR, Secret.SMTP_PASSWORD, SecretStr("correct horse"))
    rotated = master_key.rotated()
    await rewrap.rewrap(mtls.database, rotated, (*rewrap.SEALED_COLUMNS, *sealed.SEALED_COLUMNS))
    mtls.master_key = rotated.without(master_key.current)
    binding = await get_binding(mtls, OPERATOR, issued.binding_id)
    assert binding.details is not None
    assert binding.details.email == EMAIL
    async with mtls.database.read() as view:
        assert await read_secret(view, mtls, Secret.SMTP_PASSWORD) == "correct horse"
    await begin_session(mtls, other.text, "bob@example.com", VISITOR)
