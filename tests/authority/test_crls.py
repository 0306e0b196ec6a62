"""CRLs: what stands on them, when they come, and that OpenSSL believes them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from sqlalchemy import insert
from tests.support.authority import OPERATOR, issuing_wish, make_hierarchy, openssl, root_wish
from tests.support.relying_party import certificate, issue_leaf

from intaglio.asn1.algorithms import KeyAlgorithm, load_public_key, verify
from intaglio.authority import crls, models, upkeep
from intaglio.authority.cas.create import create_issuing, create_root
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.renewal import rekey_ca
from intaglio.authority.certificates import RevocationReason
from intaglio.authority.context import Authority
from intaglio.authority.crls import StoredCrl
from intaglio.authority.directory import CaView
from intaglio.authority.options import CaOptions
from intaglio.authority.revocation import change_status, hold, revocation, unhold
from intaglio.core import clock
from intaglio.core.errors import Forbidden, NotFound, NotSupported
from intaglio.core.principal import SYSTEM, Principal
from intaglio.profiles.durations import Duration
from intaglio.profiles.engine import RequestedValidity
from intaglio.x509.certificates import pem
from intaglio.x509.crls import revoked_entry
from intaglio.x509.lint import deep_lint

_NOON = datetime(2030, 6, 1, 12, 0, 0, tzinfo=UTC)


async def _ca(authority: Authority, **options: object) -> CaView:
    """``demo~issuing`` with these options below a root."""
    await create_root(authority, OPERATOR, "demo", root_wish())
    await create_issuing(authority, OPERATOR, "demo", issuing_wish(options=CaOptions.model_validate(options)))
    return (await authority.snapshot()).ca("demo~issuing")


async def _revoke(authority: Authority, ca: CaView, serial: bytes, reason: RevocationReason) -> None:
    await change_status(authority, SYSTEM, ca, serial, revocation(reason))


async def _latest(authority: Authority, ca: CaView, partition: int = 0, *, delta: bool = False) -> StoredCrl:
    async with authority.database.read() as view:
        found = await crls.latest_crl(view, ca, ca.generation, partition, delta)
    assert found is not None
    return found


def _parsed(crl: StoredCrl) -> x509.CertificateRevocationList:
    return x509.load_der_x509_crl(crl.der)


def _serials(crl: StoredCrl) -> set[int]:
    return {entry.serial_number for entry in _parsed(crl)}


def _number(leaf: bytes) -> int:
    return certificate(leaf).serial_number


async def test_a_new_ca_publishes_its_first_crl_at_once(authority: Authority, organization: str) -> None:
    _, _ = await make_hierarchy(authority, organization)
    assert await upkeep.run_due_crls(authority) >= 2
    for name in ("demo~root", "demo~issuing"):
        ca = (await authority.snapshot()).ca(name)
        crl = _parsed(await _latest(authority, ca))
        assert len(crl) == 0
        assert crl.is_signature_valid(certificate(ca.certificate.der).public_key())  # type: ignore[arg-type]
        lifetime = crl.next_update_utc - crl.last_update_utc  # type: ignore[operator]
        assert lifetime == ca.options.crl_validity
    assert await upkeep.run_due_crls(authority) == 0


async def test_revoked_and_held_certificates_stand_on_the_crl_with_reason_and_time(
    authority: Authority, organization: str
) -> None:
    ca = await _ca(authority)
    good, revoked, held = [await issue_leaf(authority, host=f"h{n}.example") for n in range(3)]
    await _revoke(authority, ca, revoked.serial, RevocationReason.KEY_COMPROMISE)
    await change_status(authority, SYSTEM, ca, held.serial, hold())
    (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
    entries = {entry.serial_number: entry for entry in _parsed(crl)}
    assert set(entries) == {_number(revoked.der), _number(held.der)}
    reasons = {n: e.extensions.get_extension_for_class(x509.CRLReason).value.reason for n, e in entries.items()}
    assert reasons[_number(revoked.der)] is x509.ReasonFlags.key_compromise
    assert reasons[_number(held.der)] is x509.ReasonFlags.certificate_hold
    assert _number(good.der) not in entries
    await change_status(authority, SYSTEM, ca, held.serial, unhold())
    (after,) = await crls.issue_crl(authority, OPERATOR, ca)
    assert _serials(after) == {_number(revoked.der)}
    assert deep_lint(after.der, "crl") == []


async def test_openssl_refuses_a_revoked_certificate_by_the_crl(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    ca = await _ca(authority)
    good, revoked = await issue_leaf(authority), await issue_leaf(authority, host="bad.example")
    await _revoke(authority, ca, revoked.serial, RevocationReason.SUPERSEDED)
    (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
    assert ": OK" in _verify(tmp_path, ca, good.der, [crl])
    with pytest.raises(AssertionError, match="certificate revoked"):
        _verify(tmp_path, ca, revoked.der, [crl])


def _verify(folder: Path, ca: CaView, leaf: bytes, lists: list[StoredCrl], *options: str) -> str:
    """Have OpenSSL verify a leaf with CRLs."""
    (folder / "ca.pem").write_text("".join(map(pem, ca.chain)))
    (folder / "leaf.pem").write_text(pem(leaf))
    arguments: list[str | Path] = []
    for number, crl in enumerate(lists):
        (folder / f"{number}.pem").write_text(openssl("crl", "-inform", "der", stdin=crl.der))
        arguments += ["-CRLfile", folder / f"{number}.pem"]
    return openssl(
        "verify", "-crl_check", "-x509_strict", *options, "-CAfile", folder / "ca.pem", *arguments, folder / "leaf.pem"
    )


@pytest.mark.parametrize("algorithm", list(KeyAlgorithm))
async def test_a_ca_key_of_every_algorithm_signs_crls(
    authority: Authority, organization: str, algorithm: KeyAlgorithm
) -> None:
    await create_root(authority, OPERATOR, "demo", root_wish(key_algorithm=algorithm, ocsp_key_algorithm="off"))
    ca = (await authority.snapshot()).ca("demo~root")
    (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
    parsed = _parsed(crl)
    public_key = load_public_key(ca.key.spki)[0]
    assert parsed.signature_algorithm_oid.dotted_string == algorithm.signature_oid
    assert verify(public_key, algorithm.signature_oid, parsed.signature, parsed.tbs_certlist_bytes)


async def test_a_delta_tells_what_changed_since_its_base_and_openssl_applies_it(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, delta_crl_interval_minutes=30)
        held, revoked = await issue_leaf(authority), await issue_leaf(authority, host="bad.example")
        await change_status(authority, SYSTEM, ca, held.serial, hold())
        assert await upkeep.run_due_crls(authority) > 0
        advance(timedelta(seconds=1))
        assert await upkeep.run_due_crls(authority) == 1  # the first delta, one second later with its own number
        base = await _latest(authority, ca)
        freshest = _parsed(base).extensions.get_extension_for_class(x509.FreshestCRL).value
        assert freshest[0].full_name is not None
        assert freshest[0].full_name[0].value == ca.urls.crl(1, delta=True)
        await change_status(authority, SYSTEM, ca, held.serial, unhold())
        await _revoke(authority, ca, revoked.serial, RevocationReason.KEY_COMPROMISE)
        advance(timedelta(minutes=30))
        await upkeep.run_due_crls(authority)
        delta = await _latest(authority, ca, delta=True)
        assert (delta.facts.base_number, delta.facts.number) == (base.facts.number, base.facts.number + 2)
        entries = {entry.serial_number: entry for entry in _parsed(delta)}
        assert set(entries) == {_number(held.der), _number(revoked.der)}
        reason = entries[_number(held.der)].extensions.get_extension_for_class(x509.CRLReason).value.reason
        assert reason is x509.ReasonFlags.remove_from_crl
        assert deep_lint(delta.der, "crl") == []
        at = ("-extended_crl", "-use_deltas", "-attime", str(int(clock.now().timestamp())))
        assert ": OK" in _verify(tmp_path, ca, held.der, [base, delta], *at)
        with pytest.raises(AssertionError, match="certificate revoked"):
            _verify(tmp_path, ca, revoked.der, [base, delta], *at)
        with pytest.raises(AssertionError, match="certificate revoked"):
            _verify(tmp_path, ca, held.der, [base], "-attime", at[-1])


async def test_a_complete_crl_and_its_delta_issued_together_share_their_number(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, delta_crl_interval_minutes=60)
        await crls.issue_crl(authority, OPERATOR, ca)
        advance(timedelta(hours=1))
        complete, delta = await crls.issue_crl(authority, OPERATOR, ca)
    assert complete.facts.number == delta.facts.number == 2
    assert complete.facts.this_update == delta.facts.this_update
    assert delta.facts.base_number == 1


async def test_a_delta_is_based_on_the_oldest_complete_crl_that_is_still_valid(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, delta_crl_interval_minutes=60, crl_interval_hours=24, crl_validity_hours=36)
        numbers = []
        for _ in range(3):
            issued = await crls.issue_crl(authority, OPERATOR, ca)
            numbers.append(issued[-1].facts.base_number)
            advance(timedelta(hours=24))
    assert numbers == [None, 1, 2]


async def test_no_crl_is_issued_for_a_partition_that_never_was(authority: Authority, organization: str) -> None:
    ca = await _ca(authority, crl_partitions=3)
    await crls.issue_crl(authority, OPERATOR, ca, partition=3)
    with pytest.raises(NotFound) as refusal:
        await crls.issue_crl(authority, OPERATOR, ca, partition=4)
    assert refusal.value.code == "crl-partition-unknown"


async def test_partitions_split_the_list_and_name_their_distribution_point(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    ca = await _ca(authority, crl_partitions=3)
    leaves = [await issue_leaf(authority, host=f"h{n}.example") for n in range(8)]
    for leaf in leaves:
        await _revoke(authority, ca, leaf.serial, RevocationReason.SUPERSEDED)
    await upkeep.run_due_crls(authority)
    whole = await _latest(authority, ca)
    parts = {n: await _latest(authority, ca, n) for n in (1, 2, 3)}
    assert _serials(whole) == {_number(leaf.der) for leaf in leaves}
    for leaf in leaves:
        urls = certificate(leaf.der).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        partition = ca.partition_of(leaf.serial)
        points = _parsed(parts[partition]).extensions.get_extension_for_class(x509.IssuingDistributionPoint)
        assert points.critical
        assert points.value.full_name == urls[0].full_name
        assert [n for n, part in parts.items() if _number(leaf.der) in _serials(part)] == [partition]
        with pytest.raises(AssertionError, match="certificate revoked"):
            _verify(tmp_path, ca, leaf.der, [parts[partition]], "-extended_crl")
    assert all(deep_lint(part.der, "crl") == [] for part in parts.values())


async def test_numbers_rise_without_gap_under_ten_concurrent_issuers(authority: Authority, organization: str) -> None:
    ca = await _ca(authority)
    issued = await asyncio.gather(*(crls.issue_crl(authority, OPERATOR, ca) for _ in range(10)))
    found = sorted((crl.facts for (crl,) in issued), key=lambda facts: facts.number)
    assert [facts.number for facts in found] == list(range(1, 11))
    assert [facts.this_update for facts in found] == sorted(facts.this_update for facts in found)


async def test_a_failed_issue_takes_no_number(
    authority: Authority, organization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca = await _ca(authority)
    await crls.issue_crl(authority, OPERATOR, ca)
    with monkeypatch.context() as patch:
        patch.setattr("intaglio.authority.crls.issue.assemble_crl", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await crls.issue_crl(authority, OPERATOR, ca)
    (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
    assert crl.facts.number == 2


async def test_the_next_crl_comes_after_the_interval_and_overlaps_the_last(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, crl_interval_hours=24, crl_validity_hours=36)
        await upkeep.run_due_crls(authority)
        first = await _latest(authority, ca)
        advance(timedelta(hours=23, minutes=59))
        assert await upkeep.run_due_crls(authority) == 0
        advance(timedelta(minutes=1))
        await upkeep.run_due_crls(authority)
        second = await _latest(authority, ca)
    assert second.facts.this_update == _NOON + timedelta(hours=24) < first.facts.next_update
    assert second.facts.number == first.facts.number + 1


async def test_a_revocation_is_published_at_once_where_the_option_says_so(
    authority: Authority, organization: str
) -> None:
    eager = await _ca(authority, crl_on_revoke=True)
    await create_issuing(authority, OPERATOR, "demo", issuing_wish("patient"))
    patient = (await authority.snapshot()).ca("demo~patient")
    leaves = [await issue_leaf(authority, ca.full_id) for ca in (eager, patient)]
    await upkeep.run_due_crls(authority)
    for ca, leaf in zip((eager, patient), leaves, strict=True):
        await _revoke(authority, ca, leaf.serial, RevocationReason.KEY_COMPROMISE)
    assert await upkeep.run_due_crls(authority) == 1
    assert _serials(await _latest(authority, eager)) == {_number(leaves[0].der)}
    assert _serials(await _latest(authority, patient)) == set()


async def test_an_expired_certificate_leaves_the_list_only_after_one_more_crl(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, crl_interval_hours=24, crl_validity_hours=48)
        day = RequestedValidity(duration=Duration.parse("PT30H"))
        leaf = await issue_leaf(authority, validity=day)
        await _revoke(authority, ca, leaf.serial, RevocationReason.KEY_COMPROMISE)
        seen = []
        for _ in range(5):  # at 0, 24, 48, 72 and 96 hours; it expires at 30
            await upkeep.run_due_crls(authority)
            seen.append(_number(leaf.der) in _serials(await _latest(authority, ca)))
            advance(timedelta(hours=24))
        await upkeep.prune(authority)
    assert seen == [True, True, True, False, False]
    async with authority.database.read() as view:
        assert await view.all(models.revocation.select()) == []


async def test_expired_certificates_stay_where_the_option_says_so(authority: Authority, organization: str) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority, keep_expired_on_crl=True)
        leaf = await issue_leaf(authority, validity=RequestedValidity(duration=Duration.parse("PT30H")))
        await _revoke(authority, ca, leaf.serial, RevocationReason.KEY_COMPROMISE)
        for _ in range(5):
            await upkeep.run_due_crls(authority)
            await upkeep.prune(authority)
            advance(timedelta(hours=24))
        assert _serials(await _latest(authority, ca)) == {_number(leaf.der)}


async def test_the_list_never_claims_to_be_valid_beyond_its_ca(authority: Authority, organization: str) -> None:
    with clock.frozen(_NOON) as advance:
        await create_root(authority, OPERATOR, "demo", root_wish(not_after=_NOON + timedelta(days=10)))
        ca = (await authority.snapshot()).ca("demo~root")
        advance(timedelta(days=9))
        (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
        assert crl.facts.next_update == ca.certificate.not_after
        advance(timedelta(days=2))
        await upkeep.run_due_crls(authority)
        assert (await _latest(authority, ca)).facts.number == crl.facts.number


async def test_a_deleted_ca_leaves_a_final_list_that_holds_until_its_last_certificate_expires(
    authority: Authority, organization: str
) -> None:
    with clock.frozen(_NOON) as advance:
        ca = await _ca(authority)
        leaf, last = await issue_leaf(authority), await issue_leaf(authority, host="last.example")
        await upkeep.run_due_crls(authority)
        await _revoke(authority, ca, leaf.serial, RevocationReason.CESSATION_OF_OPERATION)
        await delete_ca(authority, OPERATOR, ca.full_id)
        advance(timedelta(seconds=1))
        await upkeep.run_due_crls(authority)
        final = await _latest(authority, ca)
        assert _serials(final) == {_number(leaf.der)}
        assert final.facts.next_update == certificate(last.der).not_valid_after_utc
        advance(timedelta(days=30))
        await upkeep.run_due_crls(authority)
        assert (await _latest(authority, ca)).facts.number == final.facts.number


async def test_after_a_new_key_both_keys_sign_the_whole_list_of_the_ca(
    authority: Authority, organization: str, tmp_path: Path
) -> None:
    old = await _ca(authority)
    before = await issue_leaf(authority)
    await rekey_ca(authority, OPERATOR, old.full_id)
    new = (await authority.snapshot()).ca(old.full_id)
    after = await issue_leaf(authority)
    for leaf in (before, after):
        await _revoke(authority, new, leaf.serial, RevocationReason.SUPERSEDED)
    await upkeep.run_due_crls(authority)
    first, second = await _latest(authority, old), await _latest(authority, new)
    assert (first.facts.generation, second.facts.generation) == (1, 2)
    # Without a distribution point in them both speak for everything under the CA's name.
    assert _serials(first) == _serials(second) == {_number(before.der), _number(after.der)}
    for ca, leaf, crl in ((old, before, first), (new, after, second)):
        points = certificate(leaf.der).extensions.get_extension_for_class(x509.CRLDistributionPoints).value
        assert points[0].full_name is not None
        assert points[0].full_name[0].value == ca.urls.crl(crl.facts.generation)
        with pytest.raises(AssertionError, match="certificate revoked"):
            _verify(tmp_path, ca, leaf.der, [crl])


async def test_old_lists_are_forgotten_but_never_the_newest(authority: Authority, organization: str) -> None:
    ca = await _ca(authority)
    for _ in range(crls.stored.KEPT + 2):
        await crls.issue_crl(authority, OPERATOR, ca)
    await upkeep.prune(authority)
    async with authority.database.read() as view:
        kept = [row["number"] for row in await view.all(models.crl.select().where(models.crl.c.ca_id == ca.id))]
    assert sorted(kept) == list(range(3, crls.stored.KEPT + 3))


async def test_a_ca_without_lists_and_a_stranger_are_refused(authority: Authority, organization: str) -> None:
    ca = await _ca(authority, crl_interval_hours=None)
    with pytest.raises(NotSupported, match="publishes no CRLs"):
        await crls.issue_crl(authority, OPERATOR, ca)
    with pytest.raises(Forbidden):
        await crls.issue_crl(authority, Principal("user", "mallory"), ca)


async def test_a_list_of_100_000_entries_is_issued_within_three_seconds(
    authority: Authority, organization: str
) -> None:
    ca = await _ca(authority)
    async with authority.database.transaction() as tx:
        far = tx.now + timedelta(days=300)
        for start in range(0, 100_000, 10_000):
            rows = []
            for n in range(start, start + 10_000):
                serial = (1 << 158 | n).to_bytes(20, "big")
                rows.append({
                    "ca_id": ca.id, "serial": serial, "generation": 1, "partition": 0, "revoked_at": tx.now,
                    "not_after": far, "entry": revoked_entry(serial, tx.now, 1),
                })  # fmt: skip
            await tx.execute(insert(models.revocation), rows)
    loop = asyncio.get_running_loop()
    started = loop.time()
    (crl,) = await crls.issue_crl(authority, OPERATOR, ca)
    took = loop.time() - started
    assert len(_parsed(crl)) == 100_000
    assert took < 3.0

