"""What one process changes holds for every other at its next decision; nobody has to tell it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from sqlalchemy import update
from tests.support.authority import OPERATOR, issue_server_certificate, issuing_wish, make_hierarchy, root_wish

from intaglio.authority import custom_profiles, models, ocsp_signers
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.renewal import rekey_ca, renew_ca
from intaglio.authority.cas.values import CaChanges, CreatedCa
from intaglio.authority.cas.views import get_ca, list_cas
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.configuration import changing
from intaglio.authority.context import Authority
from intaglio.authority.organizations import create_organization, delete_organization
from intaglio.authority.revocation import change_status, hold, revocation, unhold
from intaglio.authority.rights import revoke_right
from intaglio.core.errors import IntaglioError, NotFound, Refused, StateConflict
from intaglio.core.identifiers import serial_from_hex
from intaglio.core.principal import Permission
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore
from intaglio.x509.certificates import read_certificate


@pytest_asyncio.fixture
async def other(authority: Authority, database_url: str) -> AsyncIterator[Authority]:
    """A second process over the same database, that hears nothing."""
    database, keystore = Database(database_url, pool_size=4), KeyStore(authority.keystore.master)
    started = Authority(authority.settings, database, keystore)
    await started.start()
    yield started
    await started.stop()
    keystore.close()
    await database.close()


async def test_a_profile_taken_away_elsewhere_is_refused(
    authority: Authority, organization: str, other: Authority
) -> None:
    await make_hierarchy(authority)
    await issue_server_certificate(other, "demo~issuing")
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(profiles=["privatessl-tls-client"]))
    with pytest.raises(NotFound) as refusal:
        await issue_server_certificate(other, "demo~issuing")
    assert refusal.value.code == "profile-unknown"


async def test_a_ca_deleted_elsewhere_issues_nothing(authority: Authority, organization: str, other: Authority) -> None:
    await make_hierarchy(authority)
    await issue_server_certificate(other, "demo~issuing")
    await delete_ca(authority, OPERATOR, "demo~issuing")
    with pytest.raises(NotFound):
        await issue_server_certificate(other, "demo~issuing")


async def test_a_ca_rekeyed_elsewhere_issues_with_its_new_key(
    authority: Authority, organization: str, other: Authority
) -> None:
    await make_hierarchy(authority)
    before = await issue_server_certificate(other, "demo~issuing")
    await rekey_ca(authority, OPERATOR, "demo~issuing")
    after = await issue_server_certificate(other, "demo~issuing")
    keys = [read_certificate(issued.chain[0]).spki for issued in (before, after)]
    assert keys[0] != keys[1]
    assert read_certificate(after.der).verify_signed_by(keys[1])


async def test_a_profile_activated_elsewhere_is_issued_under_its_new_version(
    authority: Authority, organization: str, other: Authority
) -> None:
    changes = {"validity": {"default": "P30D"}}
    await custom_profiles.clone_profile(authority, OPERATOR, "privatessl-tls-server", "short-tls", changes)
    await custom_profiles.activate_profile(authority, OPERATOR, "short-tls")
    await create_root(authority, OPERATOR, "demo", root_wish(profiles=["short-tls"]))
    lifetimes = []
    for length in (30, 7):
        revised = {"validity": {"default": f"P{length}D"}}
        draft = await custom_profiles.revise_profile(authority, OPERATOR, "short-tls", revised)
        if draft.state == "draft":
            await custom_profiles.activate_profile(authority, OPERATOR, "short-tls")
        issued = await issue_server_certificate(other, "demo~root", profile="short-tls")
        lifetimes.append(round((issued.not_after - issued.not_before).total_seconds() / 86400))
    assert lifetimes == [30, 7]


async def test_an_issuing_ca_whose_certificate_was_revoked_stops_issuing(
    authority: Authority, organization: str, other: Authority
) -> None:
    _, issuing = await make_hierarchy(authority)
    assert issuing.ca.serial_number is not None
    serial = serial_from_hex(issuing.ca.serial_number)
    root = (await authority.snapshot()).ca("demo~root")
    await issue_server_certificate(other, "demo~issuing")
    await change_status(authority, OPERATOR, root, serial, hold())
    with pytest.raises(StateConflict) as refusal:
        await issue_server_certificate(other, "demo~issuing")
    assert refusal.value.code == "ca-certificate-revoked"
    await change_status(authority, OPERATOR, root, serial, unhold())
    await other.reload()  # a "no" may be told a moment too long, never a "yes"
    await issue_server_certificate(other, "demo~issuing")
    await change_status(authority, OPERATOR, root, serial, revocation(RevocationReason.CA_COMPROMISE))
    with pytest.raises(StateConflict):
        await issue_server_certificate(other, "demo~issuing")
    await authority.reload()
    assert (await get_ca(authority, OPERATOR, "demo~issuing")).certificate_status == "revoked"
    await rekey_ca(authority, OPERATOR, "demo~issuing")
    assert (await get_ca(authority, OPERATOR, "demo~issuing")).certificate_status == "valid"
    await other.reload()
    await issue_server_certificate(other, "demo~issuing")


async def _make_three_levels(authority: Authority) -> tuple[CreatedCa, CreatedCa]:
    """``demo~middle`` below ``demo~policy`` below ``demo~root``; returns the lower two."""
    await create_root(authority, OPERATOR, "demo", root_wish())
    options = {"allow_issuing_below": True}
    policy = await create_issuing(authority, OPERATOR, "demo", issuing_wish("policy", path_length=1, options=options))
    return policy, await create_issuing(authority, OPERATOR, "demo", issuing_wish("middle", "policy"))


async def test_below_a_revoked_ca_nothing_is_issued_except_status(
    authority: Authority, organization: str, other: Authority
) -> None:
    policy, middle = await _make_three_levels(authority)
    await issue_server_certificate(other, "demo~middle")
    assert policy.ca.serial_number is not None
    serial = serial_from_hex(policy.ca.serial_number)
    await change_status(authority, OPERATOR, (await authority.current()).ca("demo~root"), serial, hold())
    with pytest.raises(StateConflict) as refusal:
        await issue_server_certificate(other, "demo~middle")
    assert refusal.value.code == "ca-certificate-revoked"
    assert 'CA "demo~policy", which is above CA "demo~middle", is held' in refusal.value.detail
    await authority.reload()
    with pytest.raises(StateConflict):
        await rekey_ca(authority, OPERATOR, "demo~middle")
    signer = await ocsp_signers.ensure_signer(authority, (await authority.snapshot()).ca("demo~middle"), 1)
    assert signer is not None
    await issue_server_certificate(authority, "demo~root")
    assert middle.ca.certificate_status == "valid"


async def test_below_a_rekeyed_ca_a_renewed_ca_issues_again(authority: Authority, organization: str) -> None:
    policy, _ = await _make_three_levels(authority)
    assert policy.ca.serial_number is not None
    revoked = revocation(RevocationReason.CA_COMPROMISE)
    root = (await authority.snapshot()).ca("demo~root")
    await change_status(authority, OPERATOR, root, serial_from_hex(policy.ca.serial_number), revoked)
    await authority.reload()
    await rekey_ca(authority, OPERATOR, "demo~policy")
    with pytest.raises(StateConflict):
        await issue_server_certificate(authority, "demo~middle")
    await renew_ca(authority, OPERATOR, "demo~middle")
    await issue_server_certificate(authority, "demo~middle")


async def test_a_change_sees_what_others_and_what_itself_changed_before(
    authority: Authority, organization: str, other: Authority
) -> None:
    await make_hierarchy(authority)
    await other.snapshot()
    async with changing(authority, OPERATOR, Permission.CA_CONFIGURE) as change:
        await edit_ca(other, OPERATOR, "demo~issuing", CaChanges(label="Elsewhere"))
        assert change.before.ca("demo~issuing").label != "Elsewhere"
        assert (await change.locked()).ca("demo~issuing").label == "Elsewhere"
    async with changing(authority, OPERATOR, Permission.CA_CONFIGURE) as change:
        assert await change.locked() is change.before
        await change.tx.execute(update(models.ca).values(label="Here"))
        assert (await change.locked()).ca("demo~issuing").label == "Here"


async def test_a_change_that_comes_to_nothing_leaves_nothing_behind(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    with pytest.raises(KeyError):
        await _change_and_fail(authority)
    await authority.reload()
    assert (await authority.snapshot()).ca("demo~issuing").label != "Never"
    await issue_server_certificate(authority, "demo~issuing")


async def _change_and_fail(authority: Authority) -> None:
    async with changing(authority, OPERATOR, Permission.CA_CONFIGURE) as change:
        await change.tx.execute(update(models.ca).values(label="Never", profiles=[]))
        assert (await change.read()).ca("demo~issuing").label == "Never"
        raise KeyError("a fault of the caller")


async def test_what_a_configuration_change_does_not_concern_is_not_made_anew(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    before = await authority.snapshot()
    await edit_ca(authority, OPERATOR, "demo~issuing", CaChanges(label="Servers"))
    after = await authority.snapshot()
    assert after.ca("demo~root") is before.ca("demo~root")
    assert after.ca("demo~issuing").label == "Servers"


async def test_a_subordinate_ca_outside_is_signed_by_a_root_but_not_by_an_issuing_ca(
    authority: Authority, organization: str
) -> None:
    await make_hierarchy(authority)
    for ca in ("root", "issuing"):
        await edit_ca(authority, OPERATOR, f"demo~{ca}", CaChanges(profiles=["tlsproxy-ca-subord"]))
    issued = await issue_server_certificate(authority, "demo~root", profile="tlsproxy-ca-subord")
    assert read_certificate(issued.der).path_len == 0
    with pytest.raises(Refused) as refusal:
        await issue_server_certificate(authority, "demo~issuing", profile="tlsproxy-ca-subord")
    assert refusal.value.code == "path-length-exceeded"


async def test_an_organization_is_deleted_or_gets_a_ca_but_never_both(
    authority: Authority, organization: str, other: Authority
) -> None:
    for _ in range(4):
        name = f"org-{secrets.token_hex(4)}"
        await create_organization(authority, OPERATOR, name)
        outcomes = await asyncio.gather(
            delete_organization(authority, OPERATOR, name),
            create_root(other, OPERATOR, name, root_wish()),
            return_exceptions=True,
        )
        refused = [outcome for outcome in outcomes if isinstance(outcome, IntaglioError)]
        assert [error.code for error in refused] in (["organization-not-empty"], ["organization-unknown"])


async def test_two_processes_cannot_each_take_one_of_the_last_two_administrators(
    authority: Authority, organization: str, other: Authority
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish(administrators=["alice", "bob"]))
    outcomes = await asyncio.gather(
        revoke_right(authority, OPERATOR, "demo~root", "alice"),
        revoke_right(other, OPERATOR, "demo~root", "bob"),
        return_exceptions=True,
    )
    refused = [outcome for outcome in outcomes if isinstance(outcome, Refused)]
    assert [error.code for error in refused] == ["last-administrator"]
    assert len((await get_ca(authority, OPERATOR, "demo~root")).administrators) == 1


async def test_many_cas_are_created_at_once_by_several_processes(
    authority: Authority, organization: str, other: Authority
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish())
    wishes = [
        create_issuing(process, OPERATOR, "demo", issuing_wish(f"issuing-{number}-{index}"))
        for index, process in enumerate((authority, other))
        for number in range(6)
    ]
    made = await asyncio.gather(*wishes)
    assert {created.ca.state for created in made} == {"active"}
    # Whoever came first made the credential of bob, and only he.
    assert [new.name for created in made for new in created.credentials] == ["bob"]
    assert len(await list_cas(authority, OPERATOR)) == 13


async def test_issuing_goes_on_after_a_certificate_that_could_not_be_recorded(
    authority: Authority, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await make_hierarchy(authority)

    async def broken(*_: object) -> None:
        raise ValueError("a value that the driver cannot send")

    with monkeypatch.context() as patched:
        patched.setattr(authority.commits, "_execute", broken)
        with pytest.raises(ValueError, match="cannot send"):
            async with asyncio.timeout(5):
                await issue_server_certificate(authority, "demo~issuing")
    async with asyncio.timeout(5):
        await issue_server_certificate(authority, "demo~issuing")
