"""CRLs that few CAs publish: indirect ones, those for some reasons only, those that do not say when they end."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.x509 import ReasonFlags
from tests.support.authority import OPERATOR
from tests.support.crl_server import FileServer, crl, scope
from tests.support.foreign import ForeignCa
from tests.validation.sources.conftest import Open, Reader

from intaglio.core import clock
from intaglio.validation.authorities import service
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.sources import service as source_service

COMPROMISE, HOLD, SUPERSEDED = ReasonFlags.key_compromise, ReasonFlags.certificate_hold, ReasonFlags.superseded
_ALL = frozenset(ReasonFlags) - {ReasonFlags.unspecified, ReasonFlags.remove_from_crl}


async def _change(reader: Reader, **options: object) -> None:
    """Change options of the CRL source of an authority."""
    spec = (await service.get(reader.validation, OPERATOR, reader.name)).authority.spec
    written = spec.model_dump(mode="json", exclude={"native", "gateway"})
    written["crl"] |= options
    await service.change(reader.validation, OPERATOR, reader.name, AuthoritySpec.model_validate(written))


# ---- indirect --------------------------------------------------------------------------------------------------------


async def test_of_an_indirect_crl_counts_what_is_about_our_ca(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    other = ForeignCa("Other CA")
    about = {3: other.subject, 5: ca.subject, 6: other.subject}
    revoked = dict.fromkeys((1, 2, 3, 4, 5, 6, 7))
    files.files["ca.crl"] = crl(ca, 1, revoked, extensions=(scope(indirect=True),), about=about)
    reader = await open_reader({"url": files.url("ca.crl")})
    assert (await reader.look()).failures == {}
    assert await reader.statuses() == dict.fromkeys((1, 2, 5), "revoked"), "an entry is about the CA named last"


async def test_an_indirect_crl_of_somebody_else_counts_where_he_is_trusted_with_it(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    signer = ForeignCa("CRL Service")
    about = {2: ca.subject, 3: ForeignCa("Other CA").subject}
    files.files["all.crl"] = crl(signer, 1, dict.fromkeys((1, 2, 3)), extensions=(scope(indirect=True),), about=about)
    reader = await open_reader({"url": files.url("all.crl")})
    assert (await reader.look()).failures[""].code == "crl-issuer-wrong"
    await _change(reader, crl_issuers=signer.pem)
    assert (await reader.look()).failures == {}
    assert await reader.statuses() == {2: "revoked"}
    files.files["all.crl"] = crl(signer, 2, {4: None})
    assert (await reader.look()).failures[""].code == "crl-issuer-wrong", "it is about his own certificates"
    files.files["all.crl"] = crl(signer, 2, {4: None}, extensions=(scope(indirect=True),), key=ForeignCa().key)
    assert (await reader.look()).failures[""].code == "crl-signature-invalid"
    assert await reader.statuses() == {2: "revoked"}


async def test_a_signer_of_indirect_crls_counts_no_longer_than_his_certificate(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    signer = ForeignCa("CRL Service", life=timedelta(days=100))
    files.files["all.crl"] = crl(signer, 1, {2: None}, extensions=(scope(indirect=True),), about={2: ca.subject})
    reader = await open_reader({"url": files.url("all.crl")}, crl_issuers=signer.pem)
    assert (await reader.look()).failures[""].code == "crl-issuer-wrong"


async def test_what_a_signer_said_who_is_not_trusted_any_more_is_not_answered_from(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    signer = ForeignCa("CRL Service")
    files.files["all.crl"] = crl(signer, 1, {2: None}, extensions=(scope(indirect=True),), about={2: ca.subject})
    reader = await open_reader({"url": files.url("all.crl")}, crl_issuers=signer.pem)
    await reader.look()
    assert (await reader.state()).stale_reason is None
    await _change(reader, crl_issuers="")
    assert (await reader.state()).stale_reason == "source-never-complete"


# ---- some reasons only -----------------------------------------------------------------------------------------------


def _publish(files: FileServer, ca: ForeignCa, number: int, **revoked: dict[int, ReasonFlags | None]) -> None:
    """Two CRLs: one about certificates on hold, one about everything else."""
    kinds = {"hold": {HOLD}, "final": _ALL - {HOLD}}
    for name, entries in revoked.items():
        where = scope(files.url(name), reasons=kinds[name])
        files.files[name] = crl(ca, number, entries, extensions=(where,))


async def _both(files: FileServer, open_reader: Open) -> Reader:
    return await open_reader(*({"name": name, "url": files.url(name)} for name in ("hold", "final")))


async def test_crls_for_some_reasons_count_together(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    _publish(files, ca, 1, hold={1: HOLD, 2: HOLD}, final={2: COMPROMISE, 3: SUPERSEDED})
    reader = await _both(files, open_reader)
    looked = await reader.look()
    assert (looked.failures, sorted(looked.new)) == ({}, ["final", "hold"])
    assert await reader.statuses() == {1: "held", 2: "revoked", 3: "revoked"}
    assert (await reader.state()).stale_reason is None
    assert (await reader.look()).outcome == "unchanged"


async def test_a_certificate_on_two_crls_stays_revoked_when_it_leaves_one(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    _publish(files, ca, 1, hold={1: HOLD, 2: HOLD}, final={2: COMPROMISE, 3: SUPERSEDED})
    reader = await _both(files, open_reader)
    await reader.look()
    _publish(files, ca, 2, hold={})
    looked = await reader.look()
    assert looked.failures == {}
    assert await reader.statuses() == {2: "revoked", 3: "revoked"}
    _publish(files, ca, 3, final={})
    await reader.look()
    assert await reader.statuses() == {}
    _publish(files, ca, 4, hold={7: HOLD})
    await reader.look()
    assert await reader.statuses() == {7: "held"}


async def test_a_new_crl_waits_while_one_about_other_reasons_is_missing(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    _publish(files, ca, 1, hold={1: HOLD}, final={1: COMPROMISE})
    reader = await _both(files, open_reader)
    await reader.look()
    _publish(files, ca, 2, hold={})
    final = files.files.pop("final")
    looked = await reader.look()
    assert {name: error.code for name, error in looked.failures.items()} == {
        "hold": "crl-waits-for-others", "final": "source-refused",
    }  # fmt: skip
    assert await reader.statuses() == {1: "revoked"}
    files.files["final"] = final
    assert (await reader.look()).failures == {}
    assert await reader.statuses() == {1: "revoked"}


async def test_reasons_that_no_crl_is_about_are_named(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    where = scope(reasons=_ALL - {HOLD, COMPROMISE})
    files.files["ca.crl"] = crl(ca, 1, {1: SUPERSEDED}, extensions=(where,))
    reader = await open_reader({"url": files.url("ca.crl")})
    error = (await reader.look()).failures[""]
    assert error.code == "crl-scope-unfit"
    assert "keyCompromise, certificateHold" in error.detail
    assert (await reader.state()).stale_reason == "source-never-complete"
    assert await reader.statuses() == {}
    found = await source_service.check(reader.validation, OPERATOR, reader.name)
    assert [each.ok for each in found] == [False]


async def test_a_crl_that_is_no_longer_read_takes_only_its_own_entries_along(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    _publish(files, ca, 1, hold={1: HOLD, 2: HOLD}, final={2: COMPROMISE})
    files.files["all"] = crl(ca, 9, {2: COMPROMISE, 4: None})
    reader = await _both(files, open_reader)
    await reader.look()
    await _change(reader, crls=[{"name": "all", "url": files.url("all")}])
    assert (await reader.look()).failures == {}
    assert await reader.statuses() == {2: "revoked", 4: "revoked"}


async def test_a_delta_for_some_reasons_is_refused(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    where = (scope(reasons=_ALL),)
    files.files |= {"ca.crl": crl(ca, 1, {}, extensions=where), "delta": crl(ca, 2, {}, base=1, extensions=where)}
    reader = await open_reader({"url": files.url("ca.crl"), "delta_url": files.url("delta")})
    assert (await reader.look()).failures[":delta"].code == "crl-scope-unfit"


# ---- without an end --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"max_age": "1h"}])
async def test_a_crl_without_an_end_is_refused_unless_it_was_said_how_long_it_counts(
    files: FileServer, ca: ForeignCa, open_reader: Open, options: dict[str, str]
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, ends=False)
    reader = await open_reader({"url": files.url("ca.crl")}, **options)
    looked = await reader.look()
    if not options:
        assert looked.failures[""].code == "crl-without-next-update"
        assert "--max-age" in str(looked.failures[""].remedy)
        return
    state = await reader.state()
    assert state.this_update is not None
    assert (state.stale_reason, state.next_update) == (None, state.this_update + timedelta(hours=1))
    with clock.frozen(state.next_update):
        assert (await reader.state()).stale_reason == "crl-expired"
        assert (await reader.look()).failures[""].code == "crl-expired"


async def test_another_age_counts_for_the_crl_that_is_known(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, ends=False, since=clock.now() - timedelta(hours=2))
    reader = await open_reader({"url": files.url("ca.crl")}, max_age="1h")
    assert (await reader.look()).failures[""].code == "crl-expired"
    await _change(reader, max_age="4h")
    assert (await reader.look()).failures == {}
    assert (await reader.look()).outcome == "unchanged"
    await _change(reader, max_age="3h")
    await reader.look()
    state = await reader.state()
    assert state.this_update is not None
    assert state.next_update == state.this_update + timedelta(hours=3)
    await _change(reader, max_age=None)
    assert (await reader.look()).failures[""].code == "crl-without-next-update"


# ---- two that name the same ------------------------------------------------------------------------------------------


async def test_what_two_crls_name_stays_revoked_until_neither_does(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    former = {"one": {1: None, 2: None}, "two": {2: None, 3: None}}
    for name, revoked in former.items():
        files.files[name] = crl(ca, 1, revoked, extensions=(scope(f"http://x.example/{name}"),))
    parts = [{"name": name, "url": files.url(name)} for name in former]
    reader = await open_reader(*parts)
    await reader.look()
    assert await reader.statuses() == dict.fromkeys((1, 2, 3), "revoked")
    files.files["two"] = crl(ca, 2, {3: None}, extensions=(scope("http://x.example/two"),))
    await reader.look()
    assert await reader.statuses() == dict.fromkeys((1, 2, 3), "revoked")
    files.files["one"] = crl(ca, 2, {1: None}, extensions=(scope("http://x.example/one"),))
    await reader.look()
    assert await reader.statuses() == dict.fromkeys((1, 3), "revoked")
