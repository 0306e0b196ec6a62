"""Status authorities: what fits together, what is refused, and what a change does to what is known."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import func, select
from tests.support.authority import OPERATOR
from tests.support.foreign import ForeignCa, Known, learn

from intaglio.audit.models import audit_record
from intaglio.authority.directory import CaView
from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.validation import models
from intaglio.validation.authorities import service
from intaglio.validation.authorities.values import AuthoritySpec
from intaglio.validation.context import Validation
from intaglio.validation.sources.upkeep import SourceReader

_CRL = {"crls": [{"url": "http://crl.example/ca.crl"}]}


def _spec(issuer: ForeignCa, name: str = "foreign", **changes: Any) -> AuthoritySpec:
    values: dict[str, Any] = {
        "name": name, "source": "crl", "profile": "CRLProfile", "issuers": issuer.pem, "crl": _CRL, **changes,
    }  # fmt: skip
    return AuthoritySpec.model_validate(values)


def _gateway(ca: ForeignCa, name: str = "feed", **changes: Any) -> AuthoritySpec:
    gateway = {"url": "https://gw.example/cagw", "ca": "org~issuing", "server_ca": ca.pem}
    options = {**gateway, **changes.pop("gateway", {})}
    return _spec(ca, name, **{"source": "gateway", "profile": "nextUpdate", "crl": None, "gateway": options, **changes})


async def _codes(validation: Validation, spec: AuthoritySpec) -> dict[str, str]:
    found = await service.validate(validation, OPERATOR, spec)
    return {problem.code: problem.level for problem in found}


async def test_an_authority_is_created_listed_and_deleted(validation: Validation) -> None:
    ca = ForeignCa()
    saved = await service.create(validation, OPERATOR, _spec(ca))
    assert saved.authority.version == 1
    listed = await service.listing(validation, OPERATOR)
    assert [each.authority.name for each in listed] == ["foreign"]
    assert listed[0].state is not None
    assert listed[0].state.stale_reason == "source-never-complete"
    await service.remove(validation, OPERATOR, "foreign")
    with pytest.raises(NotFound):
        await service.get(validation, OPERATOR, "foreign")


async def test_every_problem_is_listed_at_once_and_nothing_is_saved(validation: Validation) -> None:
    spec = _spec(ForeignCa(), profile="SNListProfile", responder={"retry_unknown": True})
    found = await _codes(validation, spec)
    assert found == {"serial-list-missing": "error", "retry-unfit": "error", "retry-wait-too-long": "error"}
    with pytest.raises(InvalidInput) as caught:
        await service.create(validation, OPERATOR, spec)
    assert caught.value.code == "status-authority-invalid"
    assert len(caught.value.fields) == 3
    assert not await service.listing(validation, OPERATOR)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"profile": "nextUpdate"}, "profile-unfit"),
        ({"profile": "nonsense"}, "profile-unknown"),
        ({"crl": _CRL | {"serial_list": "https://crl.example/s"}}, "serial-list-unused"),
        ({"issuers": ""}, "issuer-missing"),
        ({"issuers": ForeignCa("A").pem + ForeignCa("B").pem}, "issuers-differ"),
        ({"crl": {"crls": [{"directory": "nowhere", "entry": "cn=x"}]}}, "directory-unknown"),
        ({"crl": {"crls": [{"name": "a", "url": "http://x/c"}, {"name": "b", "url": "http://x/c"}]}}, "crl-twice"),
        ({"crl": None}, "source-missing"),
        ({"source": "native", "crl": None, "ca": "no~body", "profile": "basic"}, "ca-unknown"),
    ],
)
async def test_what_does_not_fit_together_is_refused(validation: Validation, changes: Any, code: str) -> None:
    assert (await _codes(validation, _spec(ForeignCa(), **changes))).get(code) == "error"


@pytest.mark.parametrize("source", ["gateway", "crl"])
async def test_waiting_for_the_unknown_limits_the_wait_between_looks(validation: Validation, source: str) -> None:
    make = _gateway if source == "gateway" else _spec
    for wait, expected in (("16s", "error"), ("15s", None)):
        options = {"wait_to_pull": wait}
        changes = {"gateway": options} if source == "gateway" else {"crl": _CRL | options}
        spec = make(ForeignCa(), responder={"retry_unknown": True}, **changes)
        assert (await _codes(validation, spec)).get("retry-wait-too-long") == expected


async def test_a_certificate_that_is_no_ca_is_refused(validation: Validation) -> None:
    ca = ForeignCa()
    leaf = ca.leaf()
    from cryptography.hazmat.primitives.serialization import Encoding

    issuers = leaf.public_bytes(Encoding.PEM).decode()
    assert "not-a-ca" in await _codes(validation, _spec(ca, issuers=issuers))


async def test_names_and_cas_are_given_out_once(validation: Validation) -> None:
    ca = ForeignCa()
    await service.create(validation, OPERATOR, _spec(ca))
    assert "already-exists" in await _codes(validation, _spec(ForeignCa("Other")))
    assert "issuer-taken" in await _codes(validation, _spec(ca, "second"))


async def test_our_own_ca_is_not_read_from_its_crl(validation: Validation, issuing: CaView) -> None:
    assert "issuer-is-ours" in await _codes(validation, _spec(ForeignCa(), issuers=issuing.certificate.pem))
    native = AuthoritySpec(name="own", source="native", ca=issuing.full_id, profile="archiveCutOff")
    saved = await service.create(validation, OPERATOR, native)
    assert saved.authority.ca_id == issuing.id
    assert saved.authority.ca == issuing.full_id


async def test_an_expired_ca_certificate_is_a_warning(validation: Validation) -> None:
    old = ForeignCa(since=clock.now() - timedelta(days=4000))
    assert await _codes(validation, _spec(old)) == {"issuer-expired": "warning"}
    assert [each.code for each in (await service.create(validation, OPERATOR, _spec(old))).warnings] == [
        "issuer-expired"
    ]


async def test_irrelevant_options_are_ignored_with_a_warning(validation: Validation) -> None:
    ca = ForeignCa()
    other = {"url": "https://gw.example/cagw", "ca": "x"}
    assert await _codes(validation, _spec(ca, gateway=other)) == {"option-ignored": "warning"}


async def test_a_change_keeps_what_is_known(validation: Validation) -> None:
    ca = ForeignCa()
    saved = await service.create(validation, OPERATOR, _spec(ca))
    changed = await service.change(
        validation, OPERATOR, "foreign", _spec(ca, profile="CRLProfileWithNextUpdate"), version=1
    )
    assert changed.authority.set_id == saved.authority.set_id
    assert changed.authority.version == 2
    with pytest.raises(StateConflict) as caught:
        await service.change(validation, OPERATOR, "foreign", _spec(ca), version=1)
    assert caught.value.code == "version-changed"


async def test_another_source_needs_a_reset_which_forgets_in_one_step(validation: Validation) -> None:
    ca = ForeignCa()
    saved = await service.create(validation, OPERATOR, _spec(ca))
    now = clock.now()
    await learn(
        validation.database, saved.authority, {1: Known(1, now)}, this_update=now, next_update=now + timedelta(days=1)
    )
    assert (await service.get(validation, OPERATOR, "foreign")).state.stale_reason is None  # type: ignore[union-attr]
    with pytest.raises(StateConflict) as caught:
        await service.change(validation, OPERATOR, "foreign", _gateway(ca, "foreign"))
    assert caught.value.code == "source-change-needs-reset"
    reset = await service.reset_source(validation, OPERATOR, "foreign", _gateway(ca, "foreign"))
    assert reset.authority.set_id != saved.authority.set_id
    state = (await service.get(validation, OPERATOR, "foreign")).state
    assert state is not None
    assert state.stale_reason == "source-never-complete"
    reader = SourceReader(validation)
    await reader.turn()
    await reader.stop()
    async with validation.database.read() as view:
        assert await view.scalar(select(func.count()).select_from(models.status_entry)) == 0
        actions = [row["action"] for row in await view.all(select(audit_record.c.action))]
    assert {"status-authority.create", "status-authority.reset-source"} <= set(actions)


async def test_a_change_is_heard_of_by_every_process(validation: Validation) -> None:
    before = validation.watch.epoch
    await service.create(validation, OPERATOR, _spec(ForeignCa()))
    from tests.support.eventually import eventually

    await eventually(lambda: validation.watch.epoch > before)


async def test_rights_are_asked_for(validation: Validation) -> None:
    viewer = Principal("user", "vera", frozenset({Permission.VALIDATION_VIEW}))
    nobody = Principal("user", "nemo", frozenset())
    await service.create(validation, OPERATOR, _spec(ForeignCa()))
    assert await service.listing(validation, viewer)
    for call in (
        service.create(validation, viewer, _spec(ForeignCa("B"), "b")),
        service.remove(validation, viewer, "foreign"),
        service.reset_source(validation, viewer, "foreign", _spec(ForeignCa())),
        service.listing(validation, nobody),
    ):
        with pytest.raises(Forbidden):
            await call


async def test_a_ca_of_another_organization_looks_like_none(validation: Validation, issuing: CaView) -> None:
    vera = Principal("user", "vera", frozenset({Permission.VALIDATION_VIEW, Permission.VALIDATION_MANAGE}))
    refusals = []
    for ca in (issuing.full_id, "demo~nothing"):
        spec = AuthoritySpec(name="ours", source="native", ca=ca, profile="basic")
        with pytest.raises(InvalidInput) as refused:
            await service.create(validation, vera, spec)
        refusals.append(refused.value.detail.replace(ca, "CA"))
    assert refusals[0] == refusals[1]
    feed = _gateway(ForeignCa(), gateway={"outbound": "demo~partner"})
    found = {each.code for each in await service.validate(validation, vera, feed)}
    assert "credential-unknown" in found
    assert "credential-unknown" not in await _codes(validation, feed)
    copied = AuthoritySpec.model_validate(
        {"name": "x", "source": "crl", "profile": "CRLProfile", "issuers": issuing.certificate.pem, "crl": _CRL}
    )
    told = {each.code: each.message for each in await service.validate(validation, vera, copied)}
    assert issuing.full_id not in told["issuer-is-ours"]


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "health"},
        {"name": "../x"},
        {"name": ""},
        {"crl": {"crls": []}},
        {"crl": {"crls": [{"url": "ftp://x/y"}]}},
        {"crl": {"crls": [{"url": "http://user:pw@x/y"}]}},
        {"crl": {"crls": [{"url": "http://x/y", "directory": "d", "entry": "e"}]}},
        {"crl": {"crls": [{"directory": "d"}]}},
        {"crl": {"crls": [{"url": "http://x/y"}, {"url": "http://x/z"}]}},
        {"crl": _CRL | {"wait_to_pull": "0s"}},
        {"crl": _CRL | {"wait_to_pull": "soon"}},
        {"unknown": 1},
        {"issuers": "no certificate"},
    ],
)
def test_what_has_no_form_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        _spec(ForeignCa(), **changes)
