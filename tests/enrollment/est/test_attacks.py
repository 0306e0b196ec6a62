"""What somebody tries with a password, or a certificate, that is good for something else."""

from __future__ import annotations

import asyncio
import secrets
from datetime import timedelta

import pytest
from sqlalchemy import func, select
from tests.enrollment.conftest import NewEndpointAt
from tests.enrollment.est.conftest import PASSWORD, Est
from tests.enrollment.est.test_operations import octets
from tests.support.requests import request

from intaglio.authority import upkeep
from intaglio.authority.models import certificate as certificates
from intaglio.core import clock
from intaglio.enrollment import pipeline
from intaglio.enrollment.credentials import Bound
from intaglio.enrollment.est.operations import REPEATED_WITHIN
from intaglio.enrollment.values import Applicant, Application, Granted


def code(answer: object) -> str:
    return str(getattr(answer, "text", "")).partition(":")[0]


async def of_profile(est: Est, new_endpoint: NewEndpointAt, profile: str) -> bytes:
    """A certificate for CN=device that the CA of the endpoint issued by another profile."""
    endpoint = await new_endpoint("acme", name=profile, profile=profile)
    await est.enrollment.authority.current()
    csr = request("CN=device", dns=["device.example"])
    made = await pipeline.apply(est.enrollment, Application(endpoint, Applicant("x", "account", ""), csr=csr))
    assert isinstance(made, Granted)
    return made.certificate


@pytest.mark.parametrize("names", ["own", "any"])
@pytest.mark.parametrize("profile", ["privatessl-tls-server", "privatessl-tls-client"])
async def test_a_certificate_for_something_else_enrols_nobody(
    est: Est, new_endpoint: NewEndpointAt, profile: str, names: str
) -> None:
    await est.endpoint(options={"authentication": "certificate", "certificate_names": names})
    est.chain = [await of_profile(est, new_endpoint, profile)]
    csr = request("CN=device", dns=["device.example"])
    for operation in ("simpleenroll", "fullcmc"):
        refused = await est(operation, csr, login=None)
        assert (refused.status_code, code(refused)) == (403, "certificate-untrusted")
    renewed = await est("simplereenroll", csr, login=None)
    assert (renewed.status_code, code(renewed)) == (422, "certificate-other-profile")


async def test_a_certificate_for_servers_enrols_nobody_even_where_its_ca_is_trusted(
    est: Est, new_endpoint: NewEndpointAt
) -> None:
    await est.endpoint(options={"authentication": "certificate", "trusted": [await est.issuer()]})
    csr = request("CN=device", dns=["device.example"])
    est.chain = [await of_profile(est, new_endpoint, "privatessl-tls-server")]
    assert code(await est("simpleenroll", csr, login=None)) == "certificate-untrusted"
    est.chain = [await of_profile(est, new_endpoint, "privatessl-tls-client")]
    assert (await est("simpleenroll", csr, login=None)).status_code == 200


async def test_a_certificate_of_the_profile_counts_by_itself(est: Est) -> None:
    await est.endpoint()
    est.chain = [octets(await est.enrolled(request("CN=device")))]
    assert (await est("simpleenroll", request("CN=device"), login=None)).status_code == 200


async def issued(est: Est) -> int:
    async with est.enrollment.database.read() as view:
        return int(await view.scalar(select(func.count()).where(certificates.c.channel == "est")) or 0)


async def test_a_password_for_one_use_gives_one_key_that_is_made_here(est: Est) -> None:
    endpoint = await est.endpoint(options={"server_keys": True})
    await est.credential(endpoint, name="once", uses=1)
    login, csr = ("once", PASSWORD), request("CN=once")
    assert (await est("serverkeygen", csr, login=login)).status_code == 200
    for operation in ("serverkeygen", "simpleenroll"):
        assert (await est(operation, csr, login=login)).status_code == 401
    assert await issued(est) == 1


async def test_a_password_for_one_use_gives_no_key_beside_a_certificate(est: Est) -> None:
    endpoint = await est.endpoint(options={"server_keys": True})
    await est.credential(endpoint, name="once", uses=1)
    login, csr = ("once", PASSWORD), request("CN=once")
    await est.enrolled(csr, login=login)
    assert (await est("serverkeygen", csr, login=login)).status_code == 401


async def test_a_password_for_one_use_is_not_repeated_when_its_answer_was_forgotten(est: Est) -> None:
    assert REPEATED_WITHIN < upkeep.IDEMPOTENCY_RETENTION
    endpoint = await est.endpoint()
    await est.credential(endpoint, name="once", uses=1)
    login, csr = ("once", PASSWORD), request("CN=once")
    first = await est.enrolled(csr, login=login)
    with clock.frozen(clock.now() + REPEATED_WITHIN - timedelta(minutes=1)):
        assert await est.enrolled(csr, login=login) == first
    with clock.frozen(clock.now() + upkeep.IDEMPOTENCY_RETENTION + timedelta(hours=1)):
        await upkeep.prune(est.enrollment.authority)
        assert (await est("simpleenroll", csr, login=login)).status_code == 401
    assert await issued(est) == 1


@pytest.mark.parametrize("bound", [None, "CN=victim"])
async def test_whoever_knows_a_password_for_any_name_ends_no_certificate_of_another(
    est: Est, bound: str | None
) -> None:
    endpoint = await est.endpoint(options={"renewal_without_certificate": True, "revoke_renewed": True})
    await est.credential(endpoint, name="somebody", bound=Bound(subject=bound))
    victim = await est.enrolled(request("CN=victim"))
    await est.enrolled(request("CN=victim"), "simplereenroll", login=("somebody", PASSWORD))
    found = await pipeline.presented(est.enrollment, endpoint, octets(victim))
    assert found is not None
    assert found.status == ("valid" if bound is None else "revoked")


async def test_a_name_that_is_too_long_to_be_stored_harms_nobody_else(est: Est) -> None:
    """Certificates of the same moment are recorded together."""
    await est.endpoint()
    units = ",".join(f"OU={secrets.token_hex(32)}" for _ in range(50))
    long, *others = await asyncio.gather(
        est("simpleenroll", request(f"CN=long,{units}")),
        *(est("simpleenroll", request(f"CN=device-{number}")) for number in range(4)),
    )
    assert (long.status_code, code(long)) == (400, "not-storable")
    assert [each.status_code for each in others] == [200] * 4


async def test_of_all_who_use_a_password_for_one_use_at_once_one_gets_a_certificate(est: Est) -> None:
    endpoint = await est.endpoint(options={"server_keys": True})
    await est.credential(endpoint, name="once", uses=1)
    operations = ["simpleenroll", "serverkeygen"] * 3
    asked = [request(f"CN=device-{number}") for number in range(len(operations))]
    pairs = zip(operations, asked, strict=True)
    found = await asyncio.gather(*(est(operation, csr, login=("once", PASSWORD)) for operation, csr in pairs))
    assert sorted(each.status_code for each in found) == [200, 401, 401, 401, 401, 401]
