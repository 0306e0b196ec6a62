"""Creating root and issuing CAs."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.support.authority import (
    OPERATOR,
    issuing_wish,
    make_hierarchy,
    openssl,
    root_wish,
    tenant,
    verify_chain,
)

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit.models import audit_record
from intaglio.authority import models
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.values import NewRoot, SubjectAttribute
from intaglio.authority.cas.views import get_ca, get_chain, list_cas
from intaglio.authority.context import Authority
from intaglio.authority.organizations import create_organization
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, Refused, StateConflict, Unauthenticated, Unavailable
from intaglio.core.principal import ANONYMOUS, Permission, Principal
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore.service import KeyStore
from intaglio.x509.certificates import read_certificate

_OPENSSL_KNOWS = [algorithm for algorithm in KeyAlgorithm if not algorithm.startswith("ml-dsa")]


async def test_an_issuing_ca_below_a_root_of_ours_is_signed_at_once(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    _, issuing = await make_hierarchy(authority)
    assert (issuing.ca.state, issuing.ca.issuer, issuing.ca.generation) == ("active", "demo~root", 1)
    chain = await get_chain(authority, OPERATOR, "demo~issuing")
    verify_chain(tmp_path, chain)
    text = openssl("x509", "-noout", "-text", "-inform", "der", stdin=chain[0])
    assert "X509v3 Basic Constraints: critical\n                CA:TRUE, pathlen:0" in text
    assert "X509v3 Key Usage: critical\n                Digital Signature, Certificate Sign, CRL Sign" in text
    assert "URI:http://pki.example/crl/demo/root/crl.crl" in text
    assert "OCSP - URI:http://pki.example/ocsp/demo/root" in text
    assert "Extended Key Usage" not in text


async def test_the_certificate_of_an_issuing_ca_is_recorded_like_every_other(
    authority: Authority, organization: str
) -> None:
    _, issuing = await make_hierarchy(authority)
    async with authority.database.read() as view:
        rows = await view.all(
            select(models.certificate).where(models.certificate.c.subject == "CN=issuing,O=Demo,C=CA")
        )
        actions = [row["action"] for row in await view.all(select(audit_record.c.action).order_by(audit_record.c.seq))]
    assert [row["serial"].hex().upper() for row in rows] == [issuing.ca.serial_number]
    assert actions.count("ca.create") == 3  # client CA, root, issuing CA
    assert actions.count("key.generate") == 3


@pytest.mark.parametrize("algorithm", _OPENSSL_KNOWS)
async def test_every_key_type_signs_with_its_algorithm(
    authority: Authority, organization: str, algorithm: KeyAlgorithm, tmp_path: Path
) -> None:
    root = await create_root(authority, OPERATOR, "demo", root_wish(key_algorithm=algorithm))
    await create_issuing(authority, OPERATOR, "demo", issuing_wish(key_algorithm=algorithm))
    chain = await get_chain(authority, OPERATOR, "demo~issuing")
    verify_chain(tmp_path, chain)
    text = openssl("x509", "-noout", "-text", "-inform", "der", stdin=chain[1])
    assert f"Signature Algorithm: {algorithm.signature_name}".lower() in text.lower()
    assert root.ca.retirement_note == algorithm.retirement_note


@pytest.mark.parametrize("algorithm", [a for a in KeyAlgorithm if a not in _OPENSSL_KNOWS])
async def test_a_post_quantum_hierarchy_verifies(
    authority: Authority, organization: str, algorithm: KeyAlgorithm
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish(key_algorithm=algorithm))
    made = await create_issuing(authority, OPERATOR, "demo", issuing_wish(key_algorithm=algorithm))
    issuing, root = map(read_certificate, await get_chain(authority, OPERATOR, "demo~issuing"))
    assert issuing.verify_signed_by(root.spki)
    assert root.verify_signed_by(root.spki)
    assert made.ca.ocsp_key_algorithm == algorithm


async def test_default_and_chosen_expiry_dates(authority: Authority, organization: str) -> None:
    with clock.frozen(datetime(2030, 1, 15, 12, tzinfo=UTC)):
        root, issuing = await make_hierarchy(authority)
        assert root.ca.not_after == datetime(2050, 1, 15, 12, tzinfo=UTC)
        assert issuing.ca.not_after == datetime(2040, 1, 15, 12, tzinfo=UTC)
        chosen = datetime(2031, 6, 1, tzinfo=UTC)
        short = await create_issuing(authority, OPERATOR, "demo", issuing_wish("short", not_after=chosen))
        assert short.ca.not_after == chosen


async def test_an_issuing_ca_ends_with_its_root_at_the_latest(authority: Authority, organization: str) -> None:
    end = datetime(2030, 1, 1, tzinfo=UTC)
    await create_root(authority, OPERATOR, "demo", root_wish(not_after=end))
    issuing = await create_issuing(authority, OPERATOR, "demo", issuing_wish())
    assert issuing.ca.not_after == end
    exactly = await create_issuing(authority, OPERATOR, "demo", issuing_wish("exactly", not_after=end))
    assert exactly.ca.not_after == end
    wish = issuing_wish("beyond", not_after=end + timedelta(seconds=1))
    with pytest.raises(Refused) as refusal:
        await create_issuing(authority, OPERATOR, "demo", wish)
    assert (refusal.value.code, refusal.value.target) == ("validity-beyond-issuer", "not_after")


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("/C=CA/O=Demo/CN=Root Å", "CN=Root Å,O=Demo,C=CA"),
        ("commonname=Root,ORG=Demo,Country=CA", "CN=Root,O=Demo,C=CA"),
        ([SubjectAttribute(type="C", value="CA"), SubjectAttribute(type="CN", value="Root")], "CN=Root,C=CA"),
        ("CN=Root,2.5.4.97=NTRCA-1", "CN=Root,organizationIdentifier=NTRCA-1"),
    ],
)
async def test_the_subject_is_taken_in_every_spelling(
    authority: Authority, organization: str, subject: Any, shown: str
) -> None:
    made = await create_root(authority, OPERATOR, "demo", root_wish(subject=subject))
    assert made.ca.subject.lower() == shown.lower()


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"name": "ab"}, "name"),
        ({"name": "a" * 19}, "name"),
        ({"name": "UPPER"}, "name"),
        ({"name": "cas"}, "name"),
        ({"subject": "O=Demo,C=CA"}, "subject"),
        ({"subject": "CN= ,O=Demo"}, "subject"),
        ({"profiles": []}, "profiles"),
        ({"profiles": [" "]}, "profiles"),
        ({"profiles": ["no-such-profile"]}, "profiles"),
        ({"profiles": ["basic-ca-root"]}, "profiles"),
        ({"administrators": []}, "administrators"),
        ({"administrators": ["", "  "], "auditors": ["bob"]}, "administrators"),
        ({"administrators": ["al\x01ice"]}, "administrators"),
        ({"auditors": ["ALICE"]}, "auditors"),
        ({"not_after": datetime(2020, 1, 1, tzinfo=UTC)}, "not_after"),
    ],
)
async def test_a_bad_field_is_named(
    authority: Authority, organization: str, changes: dict[str, Any], target: str
) -> None:
    with pytest.raises(InvalidInput) as refusal:
        await create_root(authority, OPERATOR, "demo", root_wish(**changes))
    assert refusal.value.target == target
    assert await list_cas(authority, OPERATOR) == []


async def test_a_root_lives_twenty_years_at_most(authority: Authority, organization: str) -> None:
    wish = root_wish(not_after=datetime(2090, 1, 1, tzinfo=UTC))
    with pytest.raises(Refused) as refusal:
        await create_root(authority, OPERATOR, "demo", wish)
    assert refusal.value.code == "validity-beyond-profile"


async def test_underscores_in_profile_ids_and_blank_rows_are_accepted(authority: Authority, organization: str) -> None:
    wish = root_wish(
        profiles=["privatessl_tls_server", "", "privatessl-tls-server"],
        administrators=["alice", "", " alice "],
        auditors=["", "bob"],
    )
    made = await create_root(authority, OPERATOR, "demo", wish)
    assert made.ca.profiles == ("privatessl-tls-server",)
    assert (made.ca.administrators, made.ca.auditors) == (("alice",), ("bob",))


async def test_a_ca_id_is_unique_in_its_organization_only(authority: Authority, organization: str) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish())
    with pytest.raises(StateConflict) as refusal:
        await create_root(authority, OPERATOR, "demo", root_wish())
    assert refusal.value.code == "ca-exists"
    await create_organization(authority, OPERATOR, "other")
    other = await create_root(authority, OPERATOR, "other", root_wish())
    assert other.ca.id == "other~root"


async def test_of_many_that_create_the_same_ca_at_once_one_succeeds(authority: Authority, organization: str) -> None:
    wishes = [create_root(authority, OPERATOR, "demo", root_wish()) for _ in range(6)]
    outcomes = await asyncio.gather(*wishes, return_exceptions=True)
    refused = [outcome for outcome in outcomes if isinstance(outcome, StateConflict)]
    assert {error.code for error in refused} == {"ca-exists"}
    assert len(outcomes) - len(refused) == 1
    async with authority.database.read() as view:
        assert await view.scalar(select(func.count()).where(models.ca.c.name == "root")) == 1


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"issuer": "nobody"}, "issuer-unknown"),
        ({"issuer": "clients"}, "issuer-not-root"),
        ({"issuer": "issuing"}, "issuer-not-root"),
        ({"subject": "CN=root,O=demo,C=CA"}, "subject-equals-issuer"),
    ],
)
async def test_an_unsuitable_issuer_is_refused(
    authority: Authority, organization: str, changes: dict[str, Any], code: str
) -> None:
    await make_hierarchy(authority)
    with pytest.raises(Refused) as refusal:
        await create_issuing(authority, OPERATOR, "demo", issuing_wish("second", **changes))
    assert (refusal.value.code, refusal.value.target) == (code, "issuer")


async def test_deeper_chains_need_the_option_and_room_in_the_path_length(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish())
    policy = issuing_wish("policy", path_length=1, options={"allow_issuing_below": True})
    await create_issuing(authority, OPERATOR, "demo", policy)
    below = await create_issuing(authority, OPERATOR, "demo", issuing_wish("below", "policy"))
    assert below.ca.issuer == "demo~policy"
    verify_chain(tmp_path, await get_chain(authority, OPERATOR, "demo~below"))
    for issuer, changes in (("policy", {"path_length": 1}), ("below", {})):
        with pytest.raises(Refused):
            await create_issuing(authority, OPERATOR, "demo", issuing_wish("deeper", issuer, **changes))


async def test_without_ocsp_certificates_below_name_no_responder(authority: Authority, organization: str) -> None:
    root = await create_root(authority, OPERATOR, "demo", root_wish(ocsp_key_algorithm="off"))
    await create_issuing(authority, OPERATOR, "demo", issuing_wish(ocsp_key_algorithm="rsa-2048"))
    certificate = read_certificate((await get_chain(authority, OPERATOR, "demo~issuing"))[0])
    assert root.ca.ocsp_key_algorithm is None
    assert certificate.ocsp_urls == ()
    assert (await get_ca(authority, OPERATOR, "demo~issuing")).ocsp_key_algorithm == KeyAlgorithm.RSA_2048


async def test_without_crls_certificates_below_have_no_distribution_point(
    authority: Authority, organization: str
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish(options={"crl_interval_hours": None}))
    await create_issuing(authority, OPERATOR, "demo", issuing_wish())
    assert read_certificate((await get_chain(authority, OPERATOR, "demo~issuing"))[0]).crl_urls == ()


async def test_others_neither_see_nor_reach_the_cas_of_an_organization(authority: Authority) -> None:
    carol, dave = tenant("carol"), tenant("dave")
    await create_organization(authority, carol, "hers")
    await create_root(authority, carol, "hers", root_wish())
    assert [ca.id for ca in await list_cas(authority, carol)] == ["hers~root"]
    assert await list_cas(authority, dave) == []
    known = await _refusal(get_ca(authority, dave, "hers~root"))
    unknown = await _refusal(get_ca(authority, dave, "none~root"))
    assert (known.code, known.detail.replace("hers", "none")) == (unknown.code, unknown.detail)
    await _refusal(create_root(authority, dave, "hers", root_wish("mine")))
    await _refusal(list_cas(authority, dave, organization="hers"))


async def test_permissions_are_needed(authority: Authority, organization: str) -> None:
    viewer = Principal("user", "erin", frozenset({Permission.CA_VIEW}))
    with pytest.raises(Forbidden):
        await create_root(authority, viewer, "demo", root_wish())
    with pytest.raises(Unauthenticated):
        await list_cas(authority, ANONYMOUS)


async def test_when_the_keystore_fails_nothing_is_left_and_a_retry_works(
    authority: Authority, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    working = authority.keystore.generate

    async def absent(*_: object, **__: object) -> None:
        raise Unavailable("The token is not present.", code="token-absent")

    monkeypatch.setattr(authority.keystore, "generate", absent)
    with pytest.raises(Unavailable):
        await create_root(authority, OPERATOR, "demo", root_wish())
    assert await list_cas(authority, OPERATOR) == []
    monkeypatch.setattr(authority.keystore, "generate", working)
    assert (await create_root(authority, OPERATOR, "demo", root_wish())).ca.state == "active"


async def test_without_the_database_creation_is_unavailable(keystore: KeyStore, authority: Authority) -> None:
    gone = Database("postgresql://nobody@127.0.0.1:1/none", pool_size=2, timeout=2)
    lost = type(authority)(authority.settings, gone, KeyStore(MasterKey.generate()))
    with pytest.raises(Unavailable):
        await create_root(lost, OPERATOR, "demo", root_wish())
    await gone.close()


def test_an_unknown_key_type_is_refused() -> None:
    with pytest.raises(ValueError, match="rsa-1024"):
        NewRoot(**(root_wish().model_dump() | {"key_algorithm": "rsa-1024"}))


async def _refusal(attempt: Any) -> NotFound:
    with pytest.raises(NotFound) as refusal:
        await attempt
    return refusal.value
