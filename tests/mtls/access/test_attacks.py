"""What has been tried against decisions: by who writes policies, by who stands before an ingress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import pytest
import pytest_asyncio
from tests.mtls.access.conftest import House, until
from tests.mtls.access.test_endpoint import Asking, b64, escaped
from tests.support.authority import OPERATOR

from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.errors import Refused
from intaglio.db.listen import Watch
from intaglio.gateway.service import Gateway
from intaglio.mtls.access import decider, policies, trials
from intaglio.mtls.access.cedar import PolicyRequest, check_policy, compile_policy
from intaglio.mtls.access.decision import Facts, ReasonCode
from intaglio.mtls.access.ingress_values import IngressChanges
from intaglio.mtls.access.ingresses import edit_ingress
from intaglio.mtls.access.modes import change_mode
from intaglio.mtls.access.observed import event_of
from intaglio.mtls.access.policies import NewPolicy
from intaglio.mtls.access.short_form import to_cedar
from intaglio.mtls.context import Mtls
from intaglio.mtls.observation.events import record_many

_RULE = "permit(principal, action, resource) when {{ {} }};"


async def _active(house: House, source: str, name: str = "pay") -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy(name, "demo", source))
    await policies.activate(house.mtls, OPERATOR, name)
    await house.settled()


# ---- who writes policies ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("levels", [400, 2_000, 30_000])
@pytest.mark.parametrize(
    ("before", "middle", "after"),
    [
        ("(", "true", ")"), ("[", "1", "]"), ("{a:", "1", "}"), ("!", "true", ""), ("-", "1 == 1", ""),
        ("1+", "1 == 1", ""), ("true && ", "true", ""), ("if true then true else ", "true", ""),
        ("/* ( */ (", "true", ")"), ("//\r(", "true", ")"), ('"//" == "//" || (', "true", ")"),
    ],
)  # fmt: skip
def test_policy_nested_without_end_is_refused_and_ends_no_process(
    before: str, middle: str, after: str, levels: int
) -> None:
    with pytest.raises(Refused) as refused:
        check_policy(_RULE.format(before * levels + middle + after * levels))
    assert refused.value.code == "policy-invalid"


def test_brackets_that_were_closed_too_often_hide_no_others() -> None:
    with pytest.raises(Refused):
        check_policy(_RULE.format(")" * 5_000 + "(" * 5_000 + "true" + ")" * 5_000))


def test_policy_of_many_ordinary_rules_is_not_refused() -> None:
    one = 'allow GET /a/* if team in ["a", "b"] and (service == "x" or "admin" in roles) and not name == "y"\n'
    check_policy(to_cedar(one * 200))


def test_rule_cannot_speak_to_the_terminal_of_who_reads_the_log() -> None:
    with pytest.raises(Refused):
        check_policy('@id("a\\u{1b}[2Jb") permit(principal, action, resource);')
    check_policy('@id("finance only") permit(principal, action, resource);')


def test_attribute_spelt_with_escapes_is_still_an_attribute() -> None:
    policy = compile_policy("x", 1, _RULE.format('context["source\\u{5f}ip"].isInRange(ip("10.0.0.0/8"))'))
    assert policy.looks_at_source
    assert policy.evaluate(PolicyRequest(None, source_ip="10.0.0.1")).allowed


async def test_policy_made_anew_under_its_old_name_decides_by_its_new_rules(house: House) -> None:
    await _active(house, "allow")
    ingress = await house.ingress(policy="pay")
    assert (await house.decide(ingress, house.payments.certificate)).allowed
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(policy="none"))
    await policies.retire_policy(house.mtls, OPERATOR, "pay")
    await _active(house, "deny")
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(policy="pay"))
    await house.settled()
    assert (await house.decide(ingress, house.payments.certificate)).reason is ReasonCode.POLICY_DENIED


# ---- who stands before an ingress ------------------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["", "unknown", "10.0.0.1:80", "10.0.0.1, 10.0.0.2", "0x0a000001"])
@pytest.mark.parametrize(
    "rule", ['allow if not source_ip in "10.0.0.0/8"', 'allow\ndeny if source_ip in "192.0.2.0/24"',
             'allow if source_ip in "0.0.0.0/0"']
)  # fmt: skip
async def test_rule_about_addresses_lets_nobody_in_whose_address_is_not_known(
    house: House, rule: str, source: str
) -> None:
    await _active(house, rule)
    ingress = await house.ingress(policy="pay")
    decision = await house.decide(ingress, house.payments.certificate, source_ip=source)
    assert decision.reason is ReasonCode.POLICY_DENIED


@pytest.mark.parametrize("path", ["/admin;x/users", "/admin;x=1/users", "/;/admin/users", "/admin%3bx/users"])
async def test_path_parameter_does_not_lead_around_a_rule_that_denies(house: House, path: str) -> None:
    await _active(house, "allow\ndeny /admin/*")
    ingress = await house.ingress(policy="pay")
    assert (await house.decide(ingress, house.payments.certificate, path="/reports")).allowed
    decision = await house.decide(ingress, house.payments.certificate, path=path)
    assert decision.reason is ReasonCode.POLICY_DENIED


async def test_ingress_that_names_no_address_does_not_lend_its_own(house: House) -> None:
    # A client can have X-Forwarded-For taken away by naming it in Connection, where the ingress is old.
    await house.ingress(ip_rule=["127.0.0.0/8"])
    ask = Asking(house, house.tokens["web"])
    headers = {"x-client-cert-der": b64(house.payments.certificate), "x-forwarded-method": "GET"}
    for product in ("traefik", "caddy"):
        refused = await ask(f"/access/v1/{product}", headers)
        assert refused.headers["x-intaglio-reason"] == "ip_denied"


async def test_address_that_a_client_says_of_itself_through_envoy_does_not_count(house: House) -> None:
    await house.ingress(ip_rule=["10.0.0.0/8"])
    ask = Asking(house, house.tokens["web"])
    headers = {
        "x-forwarded-client-cert": f'Cert="{escaped(house.payments.certificate)}"',
        "x-envoy-external-address": "10.0.0.1",
        "x-forwarded-for": "10.0.0.1, 192.0.2.7",
    }
    assert (await ask("/access/v1/envoy/", headers)).headers["x-intaglio-reason"] == "ip_denied"


async def test_trial_run_over_thousands_of_requests_keeps_nobody_waiting(house: House) -> None:
    await _active(house, "allow\n" + "deny /none/* if name like '*a*a*a*'\n".replace("'", '"') * 200)
    ingress = await house.ingress(policy="pay")
    decision = await house.decide(ingress, house.payments.certificate)
    facts = Facts(ingress.id, "10.0.0.1", clock.now(), (house.payments.certificate,), method="GET", path="/")
    event = event_of(facts, decision)
    await record_many(house.mtls.database, [replace(event, path=f"/pay/{number}") for number in range(5_000)])
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    original, seen = trials._changes, []

    def counted(*given: Any) -> Any:
        before = turns
        found = original(*given)
        seen.append(turns - before)
        return found

    waiting = asyncio.create_task(others())
    with patch.object(trials, "_changes", counted):
        found = await trials.dry_run(house.mtls, OPERATOR, "pay")
    waiting.cancel()
    assert found.distinct == 5_000
    assert seen[0] > 10, "nothing else was done meanwhile"


async def test_question_that_trips_the_server_is_no_silence_that_opens_a_door(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.ingress(fail_mode="open")

    async def tripped(*_: Any) -> Any:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr(house.decider, "decide_at", tripped)
    refused = await Asking(house, house.tokens["web"])("/access/v1/envoy/", {"x-forwarded-for": "10.0.0.1"})
    assert (refused.status, refused.json["code"]) == (403, "decision-failed")


# ---- several processes -----------------------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def other(house: House) -> AsyncIterator[House]:
    """Another process that decides, with everything of its own but the database."""
    ours = house.mtls
    authority = Authority(ours.settings, ours.database, ours.authority.keystore)
    await authority.start()
    mtls = Mtls(authority, Gateway(authority), ours.master_key, Watch(ours.database))
    await mtls.watch.start()
    yield House(mtls, house.domain, house.payments)
    await mtls.close()
    await mtls.watch.stop()
    await authority.stop()


async def _changes(house: House) -> AsyncIterator[bool]:
    """Change an ingress in one process; yields whether a good certificate is to be let in."""
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(ip_rule=["192.0.2.0/24"]))
    yield False
    await edit_ingress(house.mtls, OPERATOR, "web", IngressChanges(ip_rule="none"))
    yield True
    await _active(house, "deny")
    yield False
    await _active(house, "allow")
    yield True
    await change_mode(house.mtls, OPERATOR, "web", "permissive")
    await _active(house, "deny")
    yield True


@pytest.mark.parametrize("deaf", [False, True])
async def test_change_in_one_process_counts_in_the_others(
    house: House, other: House, monkeypatch: pytest.MonkeyPatch, deaf: bool
) -> None:
    await _active(house, "allow")
    ingress = await house.ingress(policy="pay")
    await other.settled()
    assert (await other.decide(ingress, house.payments.certificate)).allowed
    if deaf:
        # It can ask the database, and is not told of changes: all connections but those it has are taken, say.
        await other.mtls.watch.stop()
        await until(lambda: not other.mtls.watch.current)
        monkeypatch.setattr(decider, "_AGE", 0.01)
        monkeypatch.setattr(decider, "_HASTE", 20.0)

    async def allowed() -> bool:
        return (await other.decide(ingress, house.payments.certificate)).allowed

    async for expected in _changes(house):
        await until(lambda expected=expected: _is(allowed, expected))


async def _is(asked: Callable[[], Awaitable[bool]], expected: bool) -> bool:
    return await asked() is expected
