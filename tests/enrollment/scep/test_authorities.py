"""Registration authorities: made, shared, renewed with overlap, replaced after a change of the CA's key."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update
from tests.enrollment.scep.conftest import CHALLENGE, Call, Desk
from tests.support.authority import OPERATOR
from tests.support.scep_client import rsa_key
from tests.support.tokens import SoftHsm

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority.cas.renewal import rekey_ca
from intaglio.authority.models import certificate as certificates
from intaglio.core import clock
from intaglio.core.errors import NotFound, StateConflict
from intaglio.core.troubles import Troubles
from intaglio.enrollment.scep import models, registration, upkeep
from intaglio.enrollment.scep.options import RaOptions
from intaglio.enrollment.scep.registration import RegistrationAuthority
from intaglio.keystore.models import private_key
from intaglio.keystore.pkcs11.provider import Pkcs11Provider
from intaglio.x509.certificates import read_certificate
from intaglio.x509.cms.signed import read_signed_data


async def current(desk: Desk, **options: Any) -> RegistrationAuthority:
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    return await registration.ensure(desk.enrollment.authority, ca, RaOptions(**options))


async def shift(desk: Desk, ra: RegistrationAuthority, **back: int) -> None:
    """Move the dates of a registration authority, as far as is recorded."""
    by, c = timedelta(**back), models.ra.c
    values = {"not_before": c.not_before - by, "not_after": c.not_after - by}
    async with desk.enrollment.database.transaction() as tx:
        await tx.execute(update(models.ra).where(c.id == ra.id).values(**values))
        tx.changed_configuration()
    await desk.enrollment.authority.reload()


async def count(desk: Desk) -> int:
    async with desk.enrollment.database.read() as view:
        return int(await view.scalar(select(func.count()).select_from(models.ra)))


async def test_upkeep_makes_what_an_endpoint_needs_and_renews_it_in_time(desk: Desk) -> None:
    made = await current(desk)
    assert await upkeep.renew_due(desk.enrollment, Troubles()) == 0
    await shift(desk, made, days=250)
    assert await upkeep.renew_due(desk.enrollment, Troubles()) == 1
    assert (await current(desk)).id != made.id
    assert await upkeep.renew_due(desk.enrollment, Troubles()) == 0


async def test_who_knows_the_old_one_is_served_by_it_until_its_end(desk: Desk) -> None:
    device, old = desk.device(), await current(desk)
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    new = await registration.renew(desk.enrollment.authority, OPERATOR, ca, RaOptions())
    await desk.enrollment.authority.reload()
    assert (await device.office())[0].der == new.certificate.der
    message = await device.message(device.request(challenge=CHALLENGE), recipient=old.certificate)
    answer = await device.post(message)
    assert (await device.read(answer)).status == "0"
    assert read_signed_data(answer.content).certificates == (old.certificate.der,)
    await shift(desk, old, days=400)
    assert (await device.send(message)).fail_info == "1"


async def test_keys_are_destroyed_after_the_end(desk: Desk) -> None:
    old = await current(desk)
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    await registration.renew(desk.enrollment.authority, OPERATOR, ca, RaOptions())
    assert await registration.destroy_old_keys(desk.enrollment.authority) == 0
    await shift(desk, old, days=400)
    assert await registration.destroy_old_keys(desk.enrollment.authority) == 1
    async with desk.enrollment.database.read() as view:
        query = select(private_key.c.destroyed_at).where(private_key.c.id == old.key_id)
        assert await view.scalar(query) is not None
    assert await count(desk) == 1


async def test_endpoints_that_want_the_same_share_one_and_others_have_their_own(new_desk: Call) -> None:
    await new_desk()
    other = await new_desk(profile="scep-digital-signature")
    strong = await new_desk(profile="scep-non-repudiation", options={"ra": {"key_algorithm": "rsa-3072"}})
    place = "/scep/main/demo~issuing/"
    shared = [
        (await Desk(each.enrollment, each.endpoint, each.http, place + each.endpoint.profile).device().office())[0]
        for each in (other, strong)
    ]
    assert shared[0].der == (await current(other)).certificate.der
    assert shared[1].key_algorithm is KeyAlgorithm.RSA_3072
    assert await count(other) == 2


async def test_two_keys_sign_and_decrypt_apart(desk: Desk) -> None:
    await desk.change(options={"ra": {"separate": True}})
    device = desk.device()
    encryption, signing, issuing, _ = await device.office()
    assert (encryption.key_usage, signing.key_usage) == ({"keyEncipherment"}, {"digitalSignature"})
    answer = await device.post(await device.message(device.request(challenge=CHALLENGE), recipient=encryption))
    assert (await device.read(answer)).certificate.verify_signed_by(issuing.spki)
    assert read_signed_data(answer.content).signer_certificate().der == signing.der


async def test_its_certificates_may_come_from_a_profile_of_the_ca(desk: Desk) -> None:
    await desk.change(options={"ra": {"profile": "scep-digital-signature-key-encipherment"}})
    assert (await desk.device().enrol(CHALLENGE)).status == "0"


async def test_a_profile_that_is_not_for_registration_authorities_is_refused_when_it_is_chosen(
    desk: Desk, new_desk: Call
) -> None:
    unfit = {"ra": {"profile": "scep-non-repudiation"}}
    with pytest.raises(StateConflict, match="lack the key usage keyEncipherment"):
        await desk.change(options=unfit)
    with pytest.raises(StateConflict, match="lack the key usage keyEncipherment"):
        await new_desk(profile="scep-digital-signature", options=unfit)
    with pytest.raises(NotFound, match="nope"):
        await desk.change(options={"ra": {"profile": "nope"}})
    assert (await desk.device().enrol(CHALLENGE)).status == "0"


async def test_a_revoked_one_is_replaced(desk: Desk) -> None:
    made = await current(desk)
    async with desk.enrollment.database.transaction() as tx:
        row = update(certificates).where(certificates.c.id == made.certificate_id)
        await tx.execute(row.values(status="revoked", revoked_at=clock.now(), reason=0))
    assert await upkeep.renew_due(desk.enrollment, Troubles()) == 1
    await desk.enrollment.authority.reload()
    assert (await desk.device().enrol(CHALLENGE)).status == "0"
    assert (await desk.device().enrol(CHALLENGE, recipient=made.certificate)).fail_info == "1"


async def test_one_that_no_endpoint_wants_any_more_is_destroyed_after_its_end(desk: Desk) -> None:
    made = await current(desk, lifetime_days=30)
    await shift(desk, made, days=40)
    assert await registration.destroy_old_keys(desk.enrollment.authority) == 1


async def test_many_processes_make_one(desk: Desk) -> None:
    found = await asyncio.gather(*(current(desk, lifetime_days=30) for _ in range(4)))
    assert len({ra.id for ra in found}) == 1


# ---- a change of the CA's key ----------------------------------------------------------------------------------------


async def test_the_next_ca_is_told_by_whom_the_old_one_vouched_for(desk: Desk) -> None:
    device, old = desk.device(), await current(desk)
    answer = await device.get("GetNextCACert")
    assert answer.status_code == 404
    assert "GetNextCACert" not in (await device.get("GetCACaps")).text

    await rekey_ca(desk.enrollment.authority, OPERATOR, "demo~issuing")
    await desk.enrollment.authority.reload()
    assert "GetNextCACert" in (await device.get("GetCACaps")).text.split()
    answer = await device.get("GetNextCACert")
    assert answer.headers["content-type"] == "application/x-x509-next-ca-cert"
    signed = read_signed_data(answer.content)
    signed.verify(old.certificate)
    told = [read_certificate(each) for each in read_signed_data(signed.content or b"").certificates]
    assert [each.der for each in told] == [each.der for each in await device.office()]
    assert told[0].verify_signed_by(told[1].spki)
    assert told[1].spki != (await desk.enrollment.authority.current()).ca("demo~issuing").keys[1].spki


async def test_certificates_of_the_old_key_are_renewed_under_the_new_one(desk: Desk) -> None:
    device = desk.device(rsa_key(1))
    holder = device.holding((await device.enrol(CHALLENGE)).certificate)
    await rekey_ca(desk.enrollment.authority, OPERATOR, "demo~issuing")
    await desk.enrollment.authority.reload()
    renewed = (await holder.renew(rsa_key(2))).certificate
    assert renewed.verify_signed_by((await device.office())[1].spki)


@pytest.mark.parametrize("days", [7, 3650])
async def test_none_outlives_its_ca(desk: Desk, days: int) -> None:
    made = await current(desk, lifetime_days=days)
    ca = (await desk.enrollment.authority.current()).ca("demo~issuing")
    assert made.not_after <= ca.certificate.not_after
    assert made.not_after <= clock.now() + timedelta(days=days)


async def test_its_key_may_be_in_a_token(desk: Desk, tmp_path: Path) -> None:
    hsm = SoftHsm(tmp_path)
    hsm.make("one")
    provider = Pkcs11Provider(hsm.settings("one"))
    desk.enrollment.authority.keystore.register(provider)
    await desk.change(options={"ra": {"provider": "pkcs11:one"}})
    device = desk.device()
    assert (await device.enrol(CHALLENGE)).status == "0"
    assert "decrypt" in hsm.pkcs11_tool("one", "--list-objects", "--type", "privkey")
    provider.close()
