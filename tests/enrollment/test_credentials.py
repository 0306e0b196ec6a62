"""Passwords, shared secrets and challenges: who is let in, how often, and what an attacker gets."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.enrollment.conftest import NewEndpointAt
from tests.support.authority import OPERATOR

from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput, RateLimited, Refused, Unauthenticated
from intaglio.core.secrets import MasterKey
from intaglio.enrollment import challenges, credentials, models, upkeep
from intaglio.enrollment.context import Enrollment
from intaglio.enrollment.credential_administration import (
    MadeCredential,
    NewCredential,
    create_credential,
    delete_credential,
)
from intaglio.enrollment.credentials import Bound
from intaglio.enrollment.sealed import SEALED_COLUMNS
from intaglio.enrollment.values import Endpoint
from intaglio.keystore.rewrap import rewrap
from intaglio.x509.extensions import MS_NTDS_CA_SECURITY, Extension
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name

SOURCE = "192.0.2.7"
SECRET = "correct-horse-battery"


async def made(
    enrollment: Enrollment, endpoint: Endpoint, kind: str, secret: str | None = SECRET, **more: Any
) -> MadeCredential:
    given = None if secret is None else SecretStr(secret)
    wish = NewCredential(kind=kind, secret=given, **more)  # type: ignore[arg-type]
    return await create_credential(enrollment, OPERATOR, endpoint.protocol, endpoint.name, wish)


async def redeem(
    enrollment: Enrollment, endpoint: Endpoint, challenge: str, transaction: str = "t-1", **more: str
) -> challenges.Redeemed:
    given = {"subject": "CN=phone", "source": SOURCE, **more}
    return await challenges.redeem(enrollment, endpoint, challenge, transaction=transaction, **given)


async def test_a_user_is_known_by_name_and_password(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("est")
    await made(enrollment, endpoint, "password", name="router-7")
    for _ in range(2):  # the second time from memory
        who = await credentials.password(enrollment, endpoint, "router-7", SECRET, SOURCE)
        assert (who.name, who.method, who.source) == ("router-7", "password", SOURCE)
    for user, given in (("router-7", "wrong"), ("router-8", SECRET), ("", ""), ("router-7\0", SECRET)):
        with pytest.raises(Unauthenticated) as refusal:
            await credentials.password(enrollment, endpoint, user, given, SOURCE)
        assert refusal.value.code == "credential-unknown"


async def test_a_password_of_one_endpoint_is_none_at_another(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    one, two = await new_endpoint("est"), await new_endpoint("est", profile="est-non-repudiation")
    await made(enrollment, one, "password", name="router-7")
    await credentials.password(enrollment, one, "router-7", SECRET, SOURCE)
    with pytest.raises(Unauthenticated):
        await credentials.password(enrollment, two, "router-7", SECRET, SOURCE)


async def test_a_deleted_password_counts_no_longer_though_it_is_remembered(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    await made(enrollment, endpoint, "password", name="router-7")
    await credentials.password(enrollment, endpoint, "router-7", SECRET, SOURCE)
    await delete_credential(enrollment, OPERATOR, endpoint.protocol, endpoint.name, "password", "router-7")
    with pytest.raises(Unauthenticated):
        await credentials.password(enrollment, endpoint, "router-7", SECRET, SOURCE)


async def test_who_guesses_has_to_wait_and_others_have_not(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("est")
    await made(enrollment, endpoint, "password", name="router-7")
    for _ in range(credentials.MOST_FAILURES):
        with pytest.raises(Unauthenticated):
            await credentials.password(enrollment, endpoint, "router-7", "guess", SOURCE)
    with pytest.raises(RateLimited) as refusal:
        await credentials.password(enrollment, endpoint, "router-7", SECRET, SOURCE)
    assert refusal.value.retry_after is not None
    await credentials.password(enrollment, endpoint, "router-7", SECRET, "198.51.100.1")
    with clock.frozen(clock.now() + credentials.FAILURE_PERIOD + timedelta(seconds=1)):
        await credentials.password(enrollment, endpoint, "router-7", SECRET, SOURCE)


async def test_a_credential_ends_at_its_date(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint, end = await new_endpoint("cmp"), clock.now() + timedelta(hours=1)
    await made(enrollment, endpoint, "mac", name="plant", not_after=end)
    found = await credentials.shared_secret(enrollment, endpoint, "mac", "plant")
    assert found.secret == SECRET.encode()
    with clock.frozen(end + timedelta(seconds=1)), pytest.raises(Unauthenticated):
        await credentials.shared_secret(enrollment, endpoint, "mac", "plant")


async def test_a_secret_is_spent_as_often_as_it_may_be(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("acme")
    created = await made(enrollment, endpoint, "eab", None, name="kid-1", uses=2)
    assert len(credentials.opened(enrollment.master_key, created.stored)) == 32

    async def use() -> bool:
        try:
            async with enrollment.database.transaction() as tx:
                await credentials.spend(tx, created.stored.id)
        except Unauthenticated:
            return False
        return True

    assert sorted(await asyncio.gather(*(use() for _ in range(5)))) == [False, False, False, True, True]
    with pytest.raises(Unauthenticated):
        await credentials.shared_secret(enrollment, endpoint, "eab", "kid-1")


async def test_what_is_stored_tells_no_secret(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    scep, est = await new_endpoint("scep"), await new_endpoint("est")
    await made(enrollment, scep, "challenge", name="all")
    await made(enrollment, est, "password", name="router-7")
    async with enrollment.database.read() as view:
        rows = await view.all(select(models.credential))
    assert SECRET not in str([dict(row) for row in rows])
    assert SECRET.encode().hex() not in str([bytes(row["digest"] or b"").hex() for row in rows])


async def test_a_rotated_master_key_opens_and_finds_everything(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    scep, cmp = await new_endpoint("scep"), await new_endpoint("cmp")
    await made(enrollment, scep, "challenge", name="all")
    await made(enrollment, cmp, "mac", name="plant")
    enrollment.master_key = ring = enrollment.master_key.rotated()
    await rewrap(enrollment.database, ring, SEALED_COLUMNS)
    enrollment.master_key = MasterKey({ring.current: ring.keys[ring.current]}, ring.current)
    assert (await redeem(enrollment, scep, SECRET)).kind == "challenge"
    assert (await credentials.shared_secret(enrollment, cmp, "mac", "plant")).secret == SECRET.encode()


async def test_a_static_challenge_serves_many_and_several_overlap(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("scep")
    await made(enrollment, endpoint, "challenge", name="old")
    await made(enrollment, endpoint, "challenge", "another-secret-12", name="new")
    for challenge, transaction in ((SECRET, "t-1"), ("another-secret-12", "t-2"), (SECRET, "t-3")):
        assert (await redeem(enrollment, endpoint, challenge, transaction)).kind == "challenge"
    for wrong in ("", "x", "x" * 1000, SECRET + "\0", SECRET.upper(), "\udcff"):
        with pytest.raises(Unauthenticated):
            await redeem(enrollment, endpoint, wrong)


async def test_a_one_time_challenge_belongs_to_the_first_transaction_also_on_two_processes(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("scep")
    created = await made(enrollment, endpoint, "one-time", None, bound=Bound(subject="CN=phone"))

    async def attempt(transaction: str) -> bool:
        try:
            return (await redeem(enrollment, endpoint, created.secret, transaction)).bound.subject == "CN=phone"
        except Unauthenticated:
            return False

    found = await asyncio.gather(*(attempt(f"t-{number}") for number in range(5)))
    assert sum(found) == 1
    winner = found.index(True)
    assert await attempt(f"t-{winner}")  # a retry of the same transaction


async def test_a_challenge_made_elsewhere_is_good_for_its_subject_until_it_ends(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("scep")
    await made(enrollment, endpoint, "derived", name="mdm")
    end = clock.now() + timedelta(hours=1)
    mine = challenges.derived(SECRET.encode(), endpoint.name, end, "CN=phone")
    assert (await redeem(enrollment, endpoint, mine)).kind == "derived"
    assert (await redeem(enrollment, endpoint, mine)).kind == "derived"  # the same transaction again
    for challenge, transaction, subject in (
        (mine, "t-2", "CN=phone"),
        (challenges.derived(SECRET.encode(), endpoint.name, end, "CN=phone-2"), "t-3", "CN=phone"),
        (challenges.derived(b"another key", endpoint.name, end, "CN=phone"), "t-4", "CN=phone"),
        (challenges.derived(SECRET.encode(), "other", end, "CN=phone"), "t-5", "CN=phone"),
        (challenges.derived(SECRET.encode(), endpoint.name, clock.now() - timedelta(seconds=5)), "t-6", "CN=phone"),
    ):
        source = f"198.51.100.{transaction[-1]}"
        with pytest.raises(Unauthenticated):
            await redeem(enrollment, endpoint, challenge, transaction, subject=subject, source=source)
    anybody = challenges.derived(SECRET.encode(), endpoint.name, end)
    assert (await redeem(enrollment, endpoint, anybody, "t-7", subject="CN=tablet")).kind == "derived"


async def test_a_webhook_that_nobody_may_be_sent_to_lets_nobody_in(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("scep")
    await made(enrollment, endpoint, "webhook", name="mdm", url="https://127.0.0.1:9/check")
    with pytest.raises(IntaglioError) as refusal:
        await redeem(enrollment, endpoint, "whatever-it-is")
    assert (refusal.value.status, refusal.value.code) == (503, "challenge-webhook-failed")


@pytest.mark.parametrize(
    "more",
    [
        {"url": "http://devices.example/"},
        {"url": "https://"},
        {"url": "https://[::1"},
        {"url": "https://who@devices.example/"},
        {"url": "https://devices.example/", "ca_certificate": "no certificate"},
        {"url": "https://devices.example/", "bound": Bound(subject="no name")},
        {"url": "https://devices.example/", "bound": Bound(sans=(("dns", "not a name"),))},
        {"url": "https://devices.example/", "bound": Bound(sans=(("nothing", "phone.example"),))},
    ],
)
async def test_a_credential_that_could_never_be_used_is_not_made(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, more: dict[str, Any]
) -> None:
    endpoint = await new_endpoint("scep")
    with pytest.raises(InvalidInput):
        await made(enrollment, endpoint, "webhook", name="mdm", **more)


async def test_an_acme_account_is_not_bound_to_what_nobody_looks_at(
    enrollment: Enrollment, new_endpoint: NewEndpointAt
) -> None:
    endpoint = await new_endpoint("acme")
    with pytest.raises(InvalidInput) as refusal:
        await made(enrollment, endpoint, "eab", None, bound=Bound(subject="CN=www.example.com"))
    assert refusal.value.code == "credential-bound"


async def test_guessing_challenges_is_limited(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("scep")
    await made(enrollment, endpoint, "challenge", name="all")
    for number in range(credentials.MOST_FAILURES):
        with pytest.raises(Unauthenticated):
            await redeem(enrollment, endpoint, f"guess-number-{number}")
    with pytest.raises(RateLimited):
        await redeem(enrollment, endpoint, SECRET)
    assert (await redeem(enrollment, endpoint, SECRET, source="198.51.100.9")).kind == "challenge"


async def test_what_is_over_is_dropped(enrollment: Enrollment, new_endpoint: NewEndpointAt) -> None:
    endpoint = await new_endpoint("scep")
    await made(enrollment, endpoint, "one-time", None)
    await made(enrollment, endpoint, "challenge", name="all")
    with pytest.raises(Unauthenticated):
        await redeem(enrollment, endpoint, "wrong-challenge")
    with clock.frozen(clock.now() + upkeep.KEPT + timedelta(days=2)):
        await upkeep.tidy(enrollment.database)
    async with enrollment.database.read() as view:
        assert [row["kind"] for row in await view.all(select(models.credential.c.kind))] == ["challenge"]
        assert await view.all(select(models.counter)) == []


def test_a_bound_credential_asks_only_for_its_names() -> None:
    bound = Bound(subject="CN=phone, O=Demo", sans=(("dns", "phone.example"), ("dns", "tablet.example")))
    right = Name.parse("CN=phone,O=Demo")
    bound.require(right, None)
    bound.require(right, GeneralNames.build([("dns", "phone.example")]))
    for subject, names in (
        (Name.parse("CN=phone"), None),
        (right, GeneralNames.build([("dns", "phone.example"), ("dns", "www.example")])),
    ):
        with pytest.raises(Refused) as refusal:
            bound.require(subject, names)
        assert refusal.value.code == "name-not-allowed"


async def test_who_tries_many_users_has_to_wait_too(
    enrollment: Enrollment, new_endpoint: NewEndpointAt, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "MOST_FAILURES_OF_A_SOURCE", 3)
    endpoint = await new_endpoint("est")
    for number in range(3):
        with pytest.raises(Unauthenticated):
            await credentials.password(enrollment, endpoint, f"user-{number}", "guess", SOURCE)
    with pytest.raises(RateLimited):
        await credentials.password(enrollment, endpoint, "user-9", "guess", SOURCE)
    with pytest.raises(Unauthenticated):
        await credentials.password(enrollment, endpoint, "user-9", "guess", "198.51.100.1")


@pytest.mark.parametrize("common_name", ["www.bank.example", " www.bank.example ", "192.0.2.1", "root@bank.example"])
def test_a_bound_credential_does_not_get_other_names_by_way_of_the_common_name(common_name: str) -> None:
    bound = Bound(sans=(("dns", "phone.example"),))
    bound.require(Name.build([("CN", "phone.example")]), None)
    bound.require(Name.build([("CN", "A phone, in a drawer")]), None)
    with pytest.raises(Refused) as refusal:
        bound.require(Name.build([("CN", common_name)]), GeneralNames.build([("dns", "phone.example")]))
    assert refusal.value.code == "name-not-allowed"


def test_a_bound_credential_gets_no_security_identifier() -> None:
    administrator = Extension(MS_NTDS_CA_SECURITY, False, b"S-1-5-21-1-2-3-500")
    name = Name.build([("CN", "phone.example")])
    Bound().require(name, None, [administrator])
    for bound in (Bound(subject="CN=phone.example"), Bound(sans=(("dns", "phone.example"),))):
        with pytest.raises(Refused) as refusal:
            bound.require(name, None, [administrator])
        assert refusal.value.code == "name-not-allowed"
