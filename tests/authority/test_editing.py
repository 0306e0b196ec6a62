"""Editing CAs and the rights on them."""

from __future__ import annotations

import pytest
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy

from intaglio.authority import rights
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges
from intaglio.authority.client_users import client_subject
from intaglio.authority.context import Authority
from intaglio.authority.directory import ClientView
from intaglio.core.errors import InvalidInput, NotFound, Refused


async def _client(authority: Authority, name: str) -> ClientView | None:
    """A client as the gateway finds him by the subject of his certificate."""
    snapshot = await authority.snapshot()
    client_ca = snapshot.ca("demo~clients")
    return snapshot.clients.get((client_ca.id, client_subject("demo", name).key))


async def _rights(authority: Authority, name: str) -> dict[str, str]:
    snapshot, client = await authority.snapshot(), await _client(authority, name)
    grants = client.grants.values() if client else ()
    return {snapshot.cas[grant.ca_id].full_id: grant.right for grant in grants}


async def test_a_known_name_gains_a_right_and_a_new_one_a_credential_too(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    second = await create_issuing(authority, OPERATOR, "demo", issuing_wish("second"))
    assert second.credentials == ()
    edited = await edit_ca(authority, OPERATOR, "demo~second", CaChanges(administrators=["alice", "carol"]))
    assert [made.name for made in edited.credentials] == ["carol"]
    assert edited.ca.administrators == ("alice", "carol")
    assert edited.ca.auditors == ("bob",)
    assert await _rights(authority, "alice") == {
        "demo~root": "administrator", "demo~issuing": "administrator", "demo~second": "administrator"
    }  # fmt: skip


async def test_a_removed_administrator_has_no_right_from_the_next_decision_on(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(administrators=["carol"]))
    assert await _rights(authority, "alice") == {"demo~root": "administrator"}
    assert await _rights(authority, "carol") == {"demo~issuing": "administrator"}


async def test_an_auditor_becomes_administrator(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    edited = await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(administrators=["bob"], auditors=[]))
    assert (edited.ca.administrators, edited.ca.auditors, edited.credentials) == (("bob",), (), ())


async def test_one_profile_and_one_administrator_remain(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    for changes in (CaChanges(administrators=[""]), CaChanges(profiles=[])):
        with pytest.raises(InvalidInput):
            await edit_ca(authority, OPERATOR, "demo~issuing", changes)


async def test_a_removed_profile_is_not_offered_any_more(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["privatessl-tls-client"]))
    ca = (await authority.snapshot()).ca("demo~issuing")
    assert ca.profile("privatessl_tls_client").id == "privatessl-tls-client"
    with pytest.raises(NotFound):
        ca.profile("privatessl-tls-server")


@pytest.mark.parametrize(
    "field", ["not_after", "subject", "key_algorithm", "key_provider", "name", "issuer", "ocsp_key_algorithm"]
)
def test_what_is_fixed_is_named(field: str) -> None:
    with pytest.raises(Refused) as refusal:
        CaChanges.parse({"label": "x", field: "anything"})
    assert (refusal.value.code, refusal.value.target) == ("setting-frozen", field)


async def test_options_and_label_are_edited(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    changes = CaChanges.parse({"label": "Servers", "options": {"crl_on_revoke": True}})
    edited = await edit_ca(authority, OPERATOR, "demo~issuing", changes)
    assert (edited.ca.label, edited.ca.options.crl_on_revoke) == ("Servers", True)
    assert edited.ca.administrators == ("alice",)


async def test_internal_cas_are_not_edited(authority: Authority, organization: str) -> None:
    with pytest.raises(Refused) as refusal:
        await edit_ca(authority, OPERATOR, "demo~clients", CaChanges(label="x"))
    assert refusal.value.code == "ca-internal"


async def test_rights_are_given_and_taken_one_by_one(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    made = await rights.grant_right(authority, OPERATOR, "demo~issuing", "robot", "policy-constrained-tenant")
    assert made is not None
    assert await rights.grant_right(authority, OPERATOR, "demo~issuing", "Robot", "policy-override-tenant") is None
    assert await rights.list_rights(authority, OPERATOR, "demo~issuing") == {
        "alice": "administrator", "bob": "auditor", "robot": "policy-override-tenant"
    }  # fmt: skip
    edited = await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(administrators=["alice"]))
    assert edited.ca.tenants == ("robot",)
    await rights.revoke_right(authority, OPERATOR, "demo~issuing", "robot")
    assert await _rights(authority, "robot") == {}
    with pytest.raises(NotFound):
        await rights.revoke_right(authority, OPERATOR, "demo~issuing", "robot")


async def test_the_last_administrator_is_neither_removed_nor_demoted(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    for attempt in (
        rights.revoke_right(authority, OPERATOR, "demo~issuing", "Alice"),
        rights.grant_right(authority, OPERATOR, "demo~issuing", "alice", "auditor"),
    ):
        with pytest.raises(Refused) as refusal:
            await attempt
        assert refusal.value.code == "last-administrator"
    await rights.grant_right(authority, OPERATOR, "demo~issuing", "bob", "administrator")
    await rights.revoke_right(authority, OPERATOR, "demo~issuing", "alice")
    assert await _rights(authority, "bob") == {"demo~issuing": "administrator"}


async def test_an_unknown_right_is_refused(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    with pytest.raises(InvalidInput) as refusal:
        await rights.grant_right(authority, OPERATOR, "demo~issuing", "alice", "god")
    assert refusal.value.target == "right"
