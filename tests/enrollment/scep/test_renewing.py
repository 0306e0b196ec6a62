"""A certificate asks for its successor."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update
from tests.enrollment.scep.conftest import CHALLENGE, SOURCE, Call, Desk
from tests.support.scep_client import Device, rsa_key

from intaglio.authority.certificates import RevocationReason, StoredCertificate
from intaglio.authority.models import certificate as certificates
from intaglio.core import clock
from intaglio.enrollment import pipeline
from intaglio.enrollment.scep.messages import MessageType
from intaglio.enrollment.values import Applicant
from intaglio.x509.certificates import CertificateInfo


async def enrolled(desk: Desk, **more: Any) -> Device:
    """A device with a certificate."""
    device = desk.device(rsa_key(1))
    return device.holding((await device.enrol(CHALLENGE, **more)).certificate)


async def stored(desk: Desk, info: CertificateInfo | None) -> StoredCertificate:
    assert info is not None
    found = await pipeline.presented(desk.enrollment, desk.endpoint, info.der)
    assert found is not None
    return found


async def set_end(desk: Desk, device: Device, **ago: int) -> None:
    """Have the certificate of a device ended so long ago, as far as is recorded."""
    assert device.certificate is not None
    async with desk.enrollment.database.transaction() as tx:
        ended = update(certificates).where(certificates.c.serial == device.certificate.serial)
        await tx.execute(ended.values(not_after=clock.now() - timedelta(**ago)))


@pytest.mark.parametrize("kind", [MessageType.RENEWAL_REQ, MessageType.PKCS_REQ])
async def test_a_certificate_gets_its_successor_without_a_challenge(desk: Desk, kind: MessageType) -> None:
    device = await enrolled(desk, dns=["a.example", "b.example"])
    info = (await device.renew(rsa_key(2), kind=kind, dns=["a.example"])).certificate
    old, new = await stored(desk, device.certificate), await stored(desk, info)
    assert new.previous_id == old.id
    assert old.status == "valid"
    assert info.spki != device.request()
    assert info.san is not None
    assert info.san.text == ["dNSName=a.example"]


async def test_the_old_certificate_is_superseded_where_somebody_wants_that(new_desk: Call) -> None:
    desk = await new_desk(options={"revoke_on_renewal": True})
    device = await enrolled(desk)
    message = await device.message(device.request(key=rsa_key(2)), MessageType.RENEWAL_REQ)
    first = (await device.send(message)).certificate
    old = await stored(desk, device.certificate)
    assert (old.status, old.reason) == ("revoked", RevocationReason.SUPERSEDED)
    # The answer was lost: the same message gets the same certificate, another one gets none.
    assert (await device.send(message)).certificate.der == first.der
    assert (await device.renew(rsa_key(3))).fail_info == "2"


async def test_a_revoked_certificate_gets_no_successor(desk: Desk) -> None:
    device = await enrolled(desk)
    assert device.certificate is not None
    applicant = Applicant("operator", "none", SOURCE)
    serial = device.certificate.serial
    await pipeline.revoke(desk.enrollment, desk.endpoint, applicant, serial, RevocationReason.KEY_COMPROMISE)
    reply = await device.renew(rsa_key(2))
    assert (reply.status, reply.fail_info) == ("2", "2")
    assert (await desk.audited("scep.renew"))[0]["code"] == "certificate-revoked"


@pytest.mark.parametrize("asked", [{"subject": "CN=device-2"}, {"dns": ["b.example"]}, {"dns": ["a.example", "c.d"]}])
async def test_a_renewal_asks_for_no_other_names(desk: Desk, asked: dict[str, Any]) -> None:
    device = await enrolled(desk, dns=["a.example"])
    reply = await device.renew(rsa_key(2), **asked)
    assert (reply.status, reply.fail_info) == ("2", "2")


async def test_a_certificate_that_this_ca_never_issued_renews_nothing(desk: Desk) -> None:
    stranger = desk.device()
    assert (await stranger.renew()).fail_info == "4"
    foreign = stranger.holding((await stranger.office())[1])  # the CA's own, without its key
    answer = await foreign.post(await foreign.message(foreign.request(), MessageType.RENEWAL_REQ))
    reply = await desk.device().read(answer)
    assert reply.fail_info == "1"


async def test_a_certificate_of_another_profile_renews_nothing(desk: Desk, new_desk: Call) -> None:
    device = await enrolled(desk)
    other = await new_desk(profile="scep-digital-signature")
    elsewhere = Device(desk.http, "/scep/main/demo~issuing/scep-digital-signature", device.key, device.certificate)
    assert (await elsewhere.renew(rsa_key(2))).fail_info == "2"
    assert (await other.audited("scep.renew"))[0]["code"] == "scep-renewal-profile"


async def test_an_ended_certificate_is_renewed_within_the_grace_only(desk: Desk) -> None:
    device = await enrolled(desk)
    await set_end(desk, device, days=2)
    assert (await device.renew(rsa_key(2))).fail_info == "2"
    await desk.change(options={"renewal_grace_days": 3})
    assert (await device.renew(rsa_key(2))).status == "0"


async def test_a_certificate_is_not_renewed_before_its_window(desk: Desk) -> None:
    await desk.change(options={"renewal_window_days": 30})
    device = await enrolled(desk)
    assert (await device.renew(rsa_key(2))).fail_info == "2"
    await desk.change(options={"renewal_window_days": 366})
    assert (await device.renew(rsa_key(2))).status == "0"


async def test_renewal_can_be_switched_off_and_is_not_advertised_then(desk: Desk) -> None:
    device = await enrolled(desk)
    await desk.change(options={"renewal": False})
    assert (await device.renew(rsa_key(2))).fail_info == "2"
    assert "Renewal" not in (await device.get("GetCACaps")).text.split()
    assert (await device.renew(rsa_key(2), kind=MessageType.PKCS_REQ, challenge=CHALLENGE)).status == "0"
