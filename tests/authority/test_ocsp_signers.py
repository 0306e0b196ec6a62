"""Delegated OCSP signers: what their certificates say, when they are renewed, and that there is only ever one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from sqlalchemy import select
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy, root_wish, verify_chain
from tests.support.relying_party import certificate

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import models, upkeep
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.renewal import rekey_ca
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.directory import CaView, Snapshot
from intaglio.authority.ocsp_signers import OcspSigner, ensure_signer
from intaglio.authority.revocation import change_status, revocation
from intaglio.core import clock
from intaglio.core.errors import NotFound, NotSupported
from intaglio.core.principal import SYSTEM
from intaglio.x509.certificates import read_certificate
from intaglio.x509.lint import deep_lint

_NOON = datetime(2030, 6, 1, 12, 0, 0, tzinfo=UTC)


async def _issuing(authority: Authority) -> CaView:
    await make_hierarchy(authority)
    return (await authority.snapshot()).ca("demo~issuing")


async def _rows(authority: Authority) -> list[OcspSigner]:
    table = models.ocsp_signer
    async with authority.database.read() as view:
        return [OcspSigner.of(row) for row in await view.all(select(table).order_by(table.c.id))]


async def test_the_signer_may_only_sign_answers_for_thirty_days(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    ca = await _issuing(authority)
    signer = await ensure_signer(authority, ca, 1)
    parsed = certificate(signer.certificate)
    extensions = parsed.extensions
    purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage)
    assert (list(purposes.value), purposes.critical) == ([ExtendedKeyUsageOID.OCSP_SIGNING], True)
    usage = extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_cert_sign, usage.crl_sign) == (True, False, False)
    assert extensions.get_extension_for_class(x509.OCSPNoCheck)
    assert parsed.not_valid_after_utc - parsed.not_valid_before_utc <= timedelta(days=30, minutes=10)
    assert parsed.subject.rfc4514_string() == "CN=issuing OCSP,O=Demo,C=CA"
    verify_chain(tmp_path, [signer.certificate, *ca.chain])
    assert deep_lint(signer.certificate, "certificate") == []


async def test_ten_processes_that_need_a_signer_at_once_get_the_same(authority: Authority, organization: str) -> None:
    ca = await _issuing(authority)
    signers = await asyncio.gather(*(ensure_signer(authority, ca, 1) for _ in range(6)))
    assert len({signer.id for signer in signers}) == 1
    assert len(await _rows(authority)) == 1


async def test_upkeep_makes_missing_signers_and_renews_them_after_two_thirds_of_their_life(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _issuing(authority)
        assert await upkeep.renew_ocsp_signers(authority) == 2
        first = await ensure_signer(authority, ca, 1)
        advance(timedelta(days=19))
        assert await upkeep.renew_ocsp_signers(authority) == 0
        advance(timedelta(days=1))
        assert await upkeep.renew_ocsp_signers(authority) == 2
        second = await ensure_signer(authority, ca, 1)
        assert second.id != first.id
        assert second.not_after > first.not_after


async def test_the_key_of_a_replaced_signer_is_destroyed_once_nothing_needs_it(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _issuing(authority)
        first = await ensure_signer(authority, ca, 1)
        advance(timedelta(days=20))
        await ensure_signer(authority, ca, 1)
        await upkeep.prune(authority)
        assert first.id in {signer.id for signer in await _rows(authority)}
        advance(timedelta(days=12))
        await upkeep.prune(authority)
        assert first.id not in {signer.id for signer in await _rows(authority)}
        async with authority.database.read() as view:
            with pytest.raises(NotFound, match="was destroyed"):
                await authority.keystore.load(view, first.key_id)


async def test_a_revoked_signer_is_replaced(authority: Authority, organization: str) -> None:
    ca = await _issuing(authority)
    first = await ensure_signer(authority, ca, 1)
    serial = read_certificate(first.certificate).serial
    await change_status(authority, SYSTEM, ca, serial, revocation(RevocationReason.KEY_COMPROMISE))
    assert await upkeep.renew_ocsp_signers(authority) >= 1
    assert (await ensure_signer(authority, ca, 1)).id != first.id


async def test_a_signer_never_outlives_its_ca_and_is_not_renewed_for_nothing(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        await create_root(authority, OPERATOR, "demo", root_wish(not_after=_NOON + timedelta(days=12)))
        ca = (await authority.snapshot()).ca("demo~root")
        signer = await ensure_signer(authority, ca, 1)
        assert signer.not_after == ca.certificate.not_after
        advance(timedelta(days=11))
        assert await upkeep.renew_ocsp_signers(authority) == 0
        advance(timedelta(days=2))
        assert await upkeep.renew_ocsp_signers(authority) == 0
        with pytest.raises(NotSupported):
            await ensure_signer(authority, ca, 1)


async def test_a_deleted_ca_keeps_its_signer(authority: Authority, organization: str) -> None:
    ca = await _issuing(authority)
    await delete_ca(authority, OPERATOR, ca.full_id)
    assert await upkeep.renew_ocsp_signers(authority) == 2
    assert (await ensure_signer(authority, _deleted(await authority.snapshot(), ca), 1)).ca_id == ca.id


def _deleted(snapshot: Snapshot, ca: CaView) -> CaView:
    found = snapshot.cas[ca.id]
    assert found.state == "deleted"
    return found


async def test_each_key_of_a_ca_has_a_signer_made_with_it(authority: Authority, organization: str) -> None:
    before = await _issuing(authority)
    await rekey_ca(authority, OPERATOR, before.full_id, key_algorithm=KeyAlgorithm.ECDSA_P384)
    assert await upkeep.renew_ocsp_signers(authority) == 3
    ca = (await authority.snapshot()).ca(before.full_id)
    for generation in (1, 2):
        signer = read_certificate((await ensure_signer(authority, ca, generation)).certificate)
        assert signer.verify_signed_by(ca.keys[generation].spki)


async def test_a_ca_without_ocsp_gets_no_signer(authority: Authority, organization: str) -> None:
    await make_hierarchy(authority)
    await create_issuing(authority, OPERATOR, "demo", issuing_wish("silent", ocsp_key_algorithm="off"))
    ca = (await authority.snapshot()).ca("demo~silent")
    with pytest.raises(NotSupported, match="answers no OCSP requests"):
        await ensure_signer(authority, ca, 1)
