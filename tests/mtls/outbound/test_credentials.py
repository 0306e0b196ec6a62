"""Client credentials for calls to others: taken in, shared, rotated, announced before they end."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.mtls.outbound.conftest import PASSWORD, Partner
from tests.support.authority import OPERATOR, tenant

from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, generate_private_key
from intaglio.audit.models import audit_record
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.keystore.models import private_key
from intaglio.mtls.context import Mtls
from intaglio.mtls.outbound import rotation, service, sharing
from intaglio.mtls.outbound.service import Wanted
from intaglio.mtls.outbound.values import NewOutbound, Outbound
from intaglio.mtls.toolkit.certificates import self_signed
from intaglio.mtls.toolkit.pkcs12_writer import encode_pkcs12
from intaglio.mtls.toolkit.requests import make_request
from intaglio.x509.certificates import pem, read_certificate
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

_SECRET = SecretStr(PASSWORD)


async def _new(mtls: Mtls, name: str = "payments-api", **options: str) -> Outbound:
    return await service.create(mtls, OPERATOR, "demo", NewOutbound(name, "api.example.com", **options))  # type: ignore[arg-type]


async def _imported(mtls: Mtls, partner: Partner, client: str = "client", **options: int) -> Outbound:
    await _new(mtls)
    data = partner.pkcs12(client, **options)
    return await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", data, _SECRET)


async def test_the_first_import_is_in_use_at_once(mtls: Mtls, organization: str, partner: Partner) -> None:
    assert (await _new(mtls)).state == "draft"
    data = partner.pkcs12("client")
    found = await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", data, _SECRET)
    assert found.state == "active"
    assert found.current is not None
    assert found.current.info is not None
    assert found.current.info.subject.rfc4514 == "CN=client"


async def test_the_key_lies_sealed_in_the_database(mtls: Mtls, organization: str, partner: Partner) -> None:
    found = await _imported(mtls, partner)
    assert found.current is not None
    async with mtls.database.read() as view:
        row = await view.one_or_none(select(private_key).where(private_key.c.id == found.current.private_key_id))
    assert row is not None
    assert row["label"] == "outbound:demo/payments-api"
    assert mtls.master_key.open(row["sealed"], purpose=f"key:{row['id']}")[:1] == b"\x30"


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("password", "password-wrong"), ("no-key", "pkcs12-without-key"), ("mismatch", "key-mismatch"),
        ("expired", "credential-expired"), ("garbage", "pkcs12-unreadable"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_is_refused_with_the_reason(
    mtls: Mtls, organization: str, partner: Partner, case: str, code: str
) -> None:
    await _new(mtls)
    data, password = _broken(partner, case)
    with pytest.raises(IntaglioError) as refusal:
        await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", data, SecretStr(password))
    assert refusal.value.code == code
    assert (await service.get(mtls, OPERATOR, "demo", "payments-api")).credentials == ()


def _broken(partner: Partner, case: str) -> tuple[bytes, str]:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

    if case == "password":
        return partner.pkcs12("client"), "wrong"
    if case == "garbage":
        return b"\x30\x03\x02\x01\x03", PASSWORD
    encryption = BestAvailableEncryption(PASSWORD.encode())
    certificate = x509.load_pem_x509_certificate(partner.client("client").read_bytes())
    if case == "no-key":
        return pkcs12.serialize_key_and_certificates(b"x", None, None, [certificate], encryption), PASSWORD
    key = generate_private_key(KeyAlgorithm.ECDSA_P256)
    if case == "mismatch":
        made = pkcs12.serialize_key_and_certificates(b"x", key, None, [certificate], encryption)  # type: ignore[arg-type]
        return made, PASSWORD
    request = parse_request(make_request(key, Name.parse("CN=old")))
    old = self_signed(request, key, now=clock.now() - timedelta(days=10), days=5)
    return encode_pkcs12(key, old, [], PASSWORD), PASSWORD


async def test_a_key_made_in_place_waits_for_its_certificate(mtls: Mtls, organization: str) -> None:
    await _new(mtls)
    made = await service.request(mtls, OPERATOR, "demo", "payments-api", Wanted("CN=intaglio", [("dns", "a.example")]))
    request = parse_request(made)
    assert request.subject.rfc4514 == "CN=intaglio"
    issuer = generate_private_key(KeyAlgorithm.ECDSA_P256)
    foreign = parse_request(make_request(issuer, Name.parse("CN=foreign")))
    with pytest.raises(InvalidInput) as refusal:
        await service.install(
            mtls, OPERATOR, "demo", "payments-api", pem(self_signed(foreign, issuer, now=clock.now()))
        )
    assert refusal.value.code == "key-mismatch"
    certificate = await _signed_by_its_own_key(mtls, made)
    found = await service.install(mtls, OPERATOR, "demo", "payments-api", pem(certificate))
    assert found.state == "active"
    with pytest.raises(StateConflict) as conflict:
        await service.install(mtls, OPERATOR, "demo", "payments-api", pem(certificate))
    assert conflict.value.code == "no-open-request"


async def test_a_key_is_made_among_the_costly_work_while_nobody_waits_for_the_database(
    mtls: Mtls, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []

    def making(algorithm: KeyAlgorithm) -> PrivateKey:
        seen.append((threading.current_thread().name.startswith("costly"), mtls.database.connections_in_use))
        return generate_private_key(algorithm)

    monkeypatch.setattr(service, "generate_private_key", making)
    await _new(mtls)
    await service.request(mtls, OPERATOR, "demo", "payments-api", Wanted("CN=intaglio", key_algorithm="P-384"))
    assert seen == [(True, 0)]
    for stranger in (tenant("mallory"), Principal("user", "bob", frozenset({Permission.MTLS_VIEW}))):
        with pytest.raises((NotFound, Forbidden)):
            await service.request(mtls, stranger, "demo", "payments-api", Wanted("CN=intaglio"))
    await service.retire(mtls, OPERATOR, "demo", "payments-api")
    with pytest.raises(StateConflict):
        await service.request(mtls, OPERATOR, "demo", "payments-api", Wanted("CN=intaglio"))
    assert len(seen) == 1  # nobody makes us work who gets nothing
    async with mtls.database.read() as view:
        about_keys = select(audit_record.c.action).where(audit_record.c.action.like("key.%"))
        made = await view.all(about_keys.order_by(audit_record.c.seq.desc()).limit(2))
    assert [row["action"] for row in made] == ["key.destroy", "key.generate"]


async def _signed_by_its_own_key(mtls: Mtls, request: bytes) -> bytes:
    async with mtls.database.read() as view:
        found = await service.load(view, "demo", "payments-api")
        credential = found.credential("requested")
        assert credential is not None
        signer = await mtls.authority.keystore.load(view, credential.private_key_id)
    return self_signed(parse_request(request), signer.private_key, now=clock.now())


async def test_sharing_is_recorded_until_it_is_confirmed(mtls: Mtls, organization: str, partner: Partner) -> None:
    found = await _imported(mtls, partner)
    assert found.current is not None
    found, given = await sharing.share(
        mtls, OPERATOR, "demo", "payments-api", api="Payments API", contact="ops@example.com"
    )
    assert found.current is not None
    (trust,) = found.current.trusts
    assert (trust.state, trust.api, trust.sha256) == ("shared", "Payments API", given.sha256)
    assert read_certificate(given.pem).der == found.current.certificate
    found = await sharing.confirm(mtls, OPERATOR, "demo", "payments-api", trust.id)
    assert found.current is not None
    assert found.current.confirmed


async def test_nothing_is_switched_before_the_partner_confirmed(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    await _imported(mtls, partner)
    found, _ = await sharing.share(mtls, OPERATOR, "demo", "payments-api", api="Payments API")
    second = partner.pkcs12("second")
    found = await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", second, _SECRET)
    assert found.state == "rotating"
    assert found.current is not None
    assert found.current.info is not None
    assert found.current.info.subject.rfc4514 == "CN=client"
    with pytest.raises(StateConflict) as refusal:
        await rotation.switch(mtls, OPERATOR, "demo", "payments-api")
    assert (refusal.value.code, refusal.value.extra["missing"]) == ("not-confirmed", ["Payments API"])
    found, _ = await sharing.share(mtls, OPERATOR, "demo", "payments-api", api="Payments API")
    ready = found.credential("ready")
    assert ready is not None
    await sharing.confirm(mtls, OPERATOR, "demo", "payments-api", ready.trusts[0].id)
    found = await rotation.switch(mtls, OPERATOR, "demo", "payments-api")
    assert found.state == "active"
    assert [each.state for each in found.credentials] == ["current", "superseded"]


async def test_a_reason_allows_an_unconfirmed_switch(mtls: Mtls, organization: str, partner: Partner) -> None:
    await _imported(mtls, partner)
    await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", partner.pkcs12("second"), _SECRET)
    found = await rotation.switch(mtls, OPERATOR, "demo", "payments-api", reason="The old key was stolen.")
    assert found.current is not None
    assert found.current.info is not None
    assert found.current.info.subject.rfc4514 == "CN=second"


async def test_the_end_is_announced_30_days_and_72_hours_before(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    found = await _imported(mtls, partner, days=365)
    assert found.current is not None
    assert found.current.not_after is not None
    end = found.current.not_after
    stages = {}
    async with mtls.database.read() as view:
        for before in (timedelta(days=31), timedelta(days=30), timedelta(hours=72), timedelta(0)):
            stages[before] = [each.stage for each in await rotation.due(view, end - before)]
    assert list(stages.values()) == [[], ["early"], ["late"], ["expired"]]


async def test_a_short_lived_one_is_announced_only_72_hours_before(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    found = await _imported(mtls, partner, "short", days=20)
    assert found.current is not None
    assert found.current.not_after is not None
    async with mtls.database.read() as view:
        assert await rotation.due(view, found.current.not_after - timedelta(days=10)) == []
        (due,) = await rotation.due(view, found.current.not_after - timedelta(hours=71))
    assert (due.name, due.stage, due.successor) == ("payments-api", "late", False)


async def test_a_retired_interface_has_no_keys_left(mtls: Mtls, organization: str, partner: Partner) -> None:
    found = await _imported(mtls, partner)
    assert found.current is not None
    retired = await service.retire(mtls, OPERATOR, "demo", "payments-api")
    assert retired.state == "retired"
    async with mtls.database.read() as view:
        sealed = await view.scalar(
            select(private_key.c.sealed).where(private_key.c.id == found.current.private_key_id)
        )
    assert sealed is None
    with pytest.raises(StateConflict):
        await sharing.share(mtls, OPERATOR, "demo", "payments-api", api="x")


async def test_only_members_with_the_permission_see_and_change(
    mtls: Mtls, organization: str, partner: Partner
) -> None:
    await _imported(mtls, partner)
    viewer = Principal("user", "mallory", frozenset({Permission.MTLS_VIEW}))
    assert await service.listing(mtls, viewer) == []
    with pytest.raises(NotFound):
        await service.get(mtls, tenant("mallory"), "demo", "payments-api")
    with pytest.raises(Forbidden):
        await service.create(mtls, viewer, "demo", NewOutbound("x", "x.example"))
    assert [each.name for each in await service.listing(mtls, OPERATOR)] == ["payments-api"]


@pytest.mark.parametrize(
    ("pattern", "host", "allowed"),
    [
        ("api.example.com", "api.example.com", True), ("api.example.com", "API.example.com.", True),
        ("api.example.com", "evil.example.com", False), ("*.example.com", "api.example.com", True),
        ("*.example.com", "a.b.example.com", False), ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False), ("192.0.2.1", "192.0.2.1", True),
    ],
)  # fmt: skip
async def test_the_credential_is_shown_only_to_its_hosts(
    mtls: Mtls, organization: str, pattern: str, host: str, allowed: bool
) -> None:
    found = await service.create(mtls, OPERATOR, "demo", NewOutbound("x", pattern))
    assert found.allows(host) == allowed


async def test_keys_do_not_pile_up_without_end(
    mtls: Mtls, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "_MOST_CREDENTIALS", 3)
    await service.create(mtls, OPERATOR, "demo", NewOutbound("payments-api", "api.example"))
    for _ in range(3):
        await service.request(mtls, OPERATOR, "demo", "payments-api", service.Wanted("CN=client"))
    with pytest.raises(StateConflict) as refusal:
        await service.request(mtls, OPERATOR, "demo", "payments-api", service.Wanted("CN=client"))
    assert refusal.value.code == "too-many"


@pytest.mark.parametrize("text", ["x\x1b[2Jx", "a\nb", "x" * 201])
async def test_words_for_people_are_words(mtls: Mtls, organization: str, partner: Partner, text: str) -> None:
    """What is shown in terminals and mails of others must not move their cursor."""
    with pytest.raises(InvalidInput):
        await service.create(mtls, OPERATOR, "demo", NewOutbound("payments-api", "api.example", text))
    await service.create(mtls, OPERATOR, "demo", NewOutbound("payments-api", "api.example"))
    data = partner.pkcs12("client")
    await service.import_pkcs12(mtls, OPERATOR, "demo", "payments-api", data, SecretStr(PASSWORD))
    for given in ({"api": text}, {"api": "x", "contact": text}):
        with pytest.raises(InvalidInput):
            await sharing.share(mtls, OPERATOR, "demo", "payments-api", **given)
    await sharing.share(mtls, OPERATOR, "demo", "payments-api", api="Payments")
    with pytest.raises(StateConflict):
        await sharing.share(mtls, OPERATOR, "demo", "payments-api", api=" Payments ")
