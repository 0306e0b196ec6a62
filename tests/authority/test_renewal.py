"""Renewing and re-keying CAs whose issuer is here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import select
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy, verify_chain

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import internal_profiles, models
from intaglio.authority.cas import renewal
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.cas.views import get_ca, get_chain
from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.errors import NotFound, Refused
from intaglio.x509.certificates import read_certificate


async def test_a_renewed_issuing_ca_keeps_its_key_and_lives_longer(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    with clock.frozen(datetime(2030, 1, 1, tzinfo=UTC)) as advance:
        await make_hierarchy(authority)
        before = read_certificate((await get_chain(authority, OPERATOR, "demo~issuing"))[0])
        advance(timedelta(days=365))
        renewed = await renewal.renew_ca(authority, OPERATOR, "demo~issuing")
        after = read_certificate((await get_chain(authority, OPERATOR, "demo~issuing"))[0])
    assert (after.spki, after.ski, after.subject) == (before.spki, before.ski, before.subject)
    assert after.serial != before.serial
    assert renewed.not_after == datetime(2041, 1, 1, tzinfo=UTC)
    assert renewed.generation == 1
    async with authority.database.read() as view:
        rows = await view.all(select(models.ca_certificate.c.der, models.ca_certificate.c.current))
    assert {row["der"]: row["current"] for row in rows if row["der"] in (before.der, after.der)} == {
        before.der: False,
        after.der: True,
    }


async def test_what_a_renewed_root_issued_before_verifies_with_its_new_certificate(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    await make_hierarchy(authority)
    old_chain = await get_chain(authority, OPERATOR, "demo~issuing")
    await renewal.renew_ca(authority, OPERATOR, "demo~root")
    new_chain = await get_chain(authority, OPERATOR, "demo~issuing")
    assert old_chain[1] != new_chain[1]
    verify_chain(tmp_path, new_chain)


async def test_after_a_rekey_the_new_key_issues_and_the_old_chain_still_verifies(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    await make_hierarchy(authority)
    changed = await renewal.rekey_ca(authority, OPERATOR, "demo~issuing", key_algorithm=KeyAlgorithm.ECDSA_P384)
    assert (changed.generation, changed.key_algorithm, changed.ocsp_key_algorithm) == (2, "ecdsa-p384", "ecdsa-p384")
    ca = (await authority.snapshot()).ca("demo~issuing")
    assert [ca.keys[generation].state for generation in (1, 2)] == ["previous", "current"]
    assert ca.issuer().issuer_urls == ("http://pki.example/aia/demo/issuing/ca-g2.cer",)
    assert ca.issuer().crl_urls == ("http://pki.example/crl/demo/issuing/g2-crl.crl",)
    for generation in (1, 2):
        chain = await get_chain(authority, OPERATOR, "demo~issuing", generation=generation)
        verify_chain(tmp_path, chain)
    with pytest.raises(NotFound):
        await get_chain(authority, OPERATOR, "demo~issuing", generation=3)


async def test_after_a_rekey_of_the_root_old_and_new_issuing_cas_have_their_own_chains(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    await make_hierarchy(authority)
    await renewal.rekey_ca(authority, OPERATOR, "demo~root")
    await create_issuing(authority, OPERATOR, "demo", issuing_wish("later"))
    old = await get_chain(authority, OPERATOR, "demo~issuing")
    new = await get_chain(authority, OPERATOR, "demo~later")
    assert read_certificate(old[1]).spki != read_certificate(new[1]).spki
    verify_chain(tmp_path, old)
    verify_chain(tmp_path, new)
    renewed = await renewal.renew_ca(authority, OPERATOR, "demo~issuing")
    assert renewed.generation == 1
    assert (await get_chain(authority, OPERATOR, "demo~issuing"))[1] == new[1]


async def test_a_renewed_policy_ca_keeps_room_for_the_cas_below_it(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    wish = issuing_wish("policy", path_length=1, options={"allow_issuing_below": True})
    await create_issuing(authority, OPERATOR, "demo", wish)
    await renewal.renew_ca(authority, OPERATOR, "demo~policy")
    assert read_certificate((await get_chain(authority, OPERATOR, "demo~policy"))[0]).path_len == 1
    assert internal_profiles.ca_subordinate(1).id != internal_profiles.ca_subordinate().id


async def test_a_renewal_beyond_the_issuer_or_of_an_internal_ca_is_refused(
    authority: Authority, organization: str
) -> None:
    root, _ = await make_hierarchy(authority)
    assert root.ca.not_after is not None
    beyond = root.ca.not_after + timedelta(days=1)
    with pytest.raises(Refused):
        await renewal.renew_ca(authority, OPERATOR, "demo~issuing", not_after=beyond)
    with pytest.raises(Refused) as refusal:
        await renewal.renew_ca(authority, OPERATOR, "demo~clients")
    assert refusal.value.code == "ca-internal"
    assert (await get_ca(authority, OPERATOR, "demo~issuing")).generation == 1
