"""Policies: the language, versions, cases, trial runs and explanations."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.access.conftest import House
from tests.support.authority import OPERATOR, tenant
from tests.support.identities import issue, make_service

from intaglio.core.errors import InvalidInput, NotFound, Refused, StateConflict
from intaglio.mtls.access import policies, trials
from intaglio.mtls.access.cedar import PolicyRequest, admits_anybody, check_policy, compile_policy
from intaglio.mtls.access.decision import ReasonCode
from intaglio.mtls.access.observed import event_of
from intaglio.mtls.access.policies import NewPolicy
from intaglio.mtls.access.policy_values import PolicyCase, identity_of
from intaglio.mtls.access.routes import normalized_path
from intaglio.mtls.access.short_form import to_cedar

PAYMENTS = {
    "kind": "service", "name": "payments", "service": "payments", "team": "finance", "environment": "prod",
    "domain": "prod.example", "roles": ["reader"],
}  # fmt: skip
SHORT = """
# only payments of finance in production
allow if kind == service and service == "payments" and environment == "prod" and team == "finance"
deny DELETE /ledger/* if not "admin" in roles
"""


def allowed(source: str, identity: dict[str, Any] | None = None, **changes: Any) -> bool:
    policy = compile_policy("x", 1, to_cedar(source))
    return policy.evaluate(PolicyRequest(identity_of(PAYMENTS if identity is None else identity), **changes)).allowed


def test_rule_in_the_short_form_looks_at_what_the_certificate_says() -> None:
    assert allowed(SHORT)
    for name, value in (("team", "sales"), ("environment", "dev"), ("service", "orders"), ("kind", "user")):
        assert not allowed(SHORT, PAYMENTS | {name: value}), name
    assert not allowed(SHORT, {})


def test_deny_outweighs_allow_and_what_no_rule_names_is_denied() -> None:
    assert not allowed(SHORT, method="DELETE", path="/ledger/1")
    assert allowed(SHORT, PAYMENTS | {"roles": ["admin"]}, method="DELETE", path="/ledger/1")
    assert not allowed("deny if team == sales")
    assert not allowed('allow /pay/* if team in ["finance"]', path="/other")


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ('allow if source_ip in "10.0.0.0/8"', True),
        ('allow if not source_ip in "10.0.0.0/8"', False),
        ('allow if "reader" in roles and (team == sales or team == finance)', True),
        ('allow if uri like "spiffe://prod.example/*"', True),
        ("allow read", True),
        ("allow write", False),
        ("allow GET,POST /pay/*", True),
        ('allow if host == "api.example"', True),
        ("allow if team != finance", False),
        ('allow if not (team == finance and service == "payments")', False),
    ],
)
def test_short_form_says_what_it_means(rule: str, expected: bool) -> None:
    assert allowed(rule, source_ip="10.1.2.3", path="/pay/1", host="api.example") is expected


@pytest.mark.parametrize(
    "rule",
    [
        "permit", "allow if", "allow if team", "allow if team ==", "allow if team = x", "allow if salary == 1",
        "allow if team == finance or", "allow if (team == x", "allow if roles == x", 'allow if "x" in team',
        "allow FETCH", 'allow if source_ip in "10.0.0.1/8"', "allow if " + "(" * 50 + "team == x" + ")" * 50,
        'allow if team == "a\\"', 'allow if team == "x" team == "y"', "allow /a\"b", "",
        "allow if source_ip == 1.2.3.4",
        "allow if team == and",
    ],
)  # fmt: skip
def test_rule_that_is_none_is_refused_with_its_line(rule: str) -> None:
    with pytest.raises(Refused) as refused:
        check_policy(to_cedar(rule))
    assert refused.value.code == "policy-invalid"


@given(st.text(max_size=60) | st.text(alphabet='allowdenyif ()[],="/*tmroles', max_size=60))
def test_any_text_is_translated_to_valid_cedar_or_refused(text: str) -> None:
    try:
        check_policy(to_cedar(text))
    except Refused as error:
        assert error.code == "policy-invalid"  # noqa: PT017 - most texts are refused, some are policies


@given(st.text(max_size=30).filter(lambda text: '"' not in text and "\\" not in text and text.isprintable()))
def test_no_value_can_break_out_of_its_quotes(value: str) -> None:
    assert allowed(f'allow if team == "{value}"', PAYMENTS | {"team": value})
    assert not allowed(f'allow if team == "{value}"', PAYMENTS | {"team": f"{value}x"})


def test_cedar_that_does_not_fit_the_schema_is_refused() -> None:
    for text in ("permit(principal, action, resource) when { principal.salary == 1 };", "permit(", "", "x" * 70_000):
        with pytest.raises(Refused):
            check_policy(text)


def test_rule_that_asks_nothing_of_the_caller_is_noticed() -> None:
    assert admits_anybody(to_cedar("allow"))
    assert admits_anybody(to_cedar("allow GET /public/*\nallow if team == x"))
    assert not admits_anybody(to_cedar(SHORT))


@pytest.mark.parametrize(
    ("raw", "seen"),
    [
        ("/a/b", "/a/b"), ("/%61dmin", "/admin"), ("//admin///x", "/admin/x"), ("/a?x=1#y", "/a"), ("*", "*"),
        ("/caf%C3%A9", "/café"), ("/a/../b", None), ("/a/%2e%2e/b", None), ("/a/.%2E;x/b", None), ("/a/./b", None),
        ("/a%2Fb", None), ("/a%5cb", None), ("/a\\b", None), ("/a%252e", None), ("/a%00", None), ("/a%", None),
        ("/a%zz", None), ("a", None), ("", None), ("/a%FF", None), ("http://x/", None), ("/" + "a" * 9000, None),
        ("/a/..;/b", None), ("/a/...", "/a/..."), ("/a;v=1/b", None), ("/a%3bv/b", None),
    ],
)  # fmt: skip
def test_path_has_one_spelling_or_none(raw: str, seen: str | None) -> None:
    assert normalized_path(raw) == seen


@given(st.text(max_size=100))
def test_any_path_is_read_once_and_for_all(raw: str) -> None:
    seen = normalized_path(raw)
    if seen is not None and "%" not in seen:
        assert normalized_path(seen.replace("?", "%3F").replace("#", "%23")) == seen
        assert "/../" not in seen
        assert "//" not in seen


async def test_policy_is_written_proved_and_activated(house: House) -> None:
    cases = [
        PolicyCase("payments", "allow", PAYMENTS, path="/pay/1"),
        PolicyCase("others", "deny", PAYMENTS | {"team": "sales"}),
        PolicyCase("nobody", "deny"),
    ]
    policy, version = await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT, cases=cases))
    assert (policy.active_version, version.version, version.state) == (0, 1, "draft")
    _, _, results = await policies.prove_version(house.mtls, OPERATOR, "pay")
    assert [result.passed for result in results] == [True, True, True]
    assert (await policies.activate(house.mtls, OPERATOR, "pay")).active_version == 1


async def test_same_policy_again_makes_no_version(house: House) -> None:
    for _ in range(2):
        policy, _ = await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    assert policy.latest_version == 1


async def test_policy_whose_case_fails_is_not_activated(house: House) -> None:
    wrong = PolicyCase("sales", "allow", PAYMENTS | {"team": "sales"})
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT, cases=[wrong]))
    with pytest.raises(Refused) as refused:
        await policies.activate(house.mtls, OPERATOR, "pay")
    assert refused.value.code == "policy-cases-failed"
    assert refused.value.extra["cases"][0]["name"] == "sales"


@pytest.mark.parametrize(
    "case",
    [
        PolicyCase("x", "allow", {"kind": "robot"}),
        PolicyCase("x", "allow", {"kind": "user", "salary": 1}),
        PolicyCase("x", "perhaps"),  # type: ignore[arg-type]
        PolicyCase("x", "allow", path="/a/../b"),
        PolicyCase("x", "allow", source_ip="here"),
    ],
)
async def test_case_that_cannot_be_asked_is_refused(house: House, case: PolicyCase) -> None:
    with pytest.raises(InvalidInput) as refused:
        await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT, cases=[case]))
    assert refused.value.code == "case-invalid"


async def test_ingress_with_a_policy_lets_in_whom_it_allows(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    ingress = await house.ingress(policy="pay")
    before = await house.decide(ingress, house.payments.certificate)
    assert before.reason is ReasonCode.POLICY_DENIED
    await policies.activate(house.mtls, OPERATOR, "pay")
    await house.settled()
    decision = await house.decide(ingress, house.payments.certificate)
    assert decision.policy is not None
    assert decision.allowed
    assert decision.policy.rules == ("line 3",)
    denied = await house.decide(ingress, house.payments.certificate, method="DELETE", path="/ledger/7")
    assert denied.status == 403
    assert denied.identity is not None
    assert "line 4" in denied.detail


async def test_path_that_can_be_read_in_two_ways_is_denied(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("all", "demo", "allow if kind == service"))
    await policies.activate(house.mtls, OPERATOR, "all")
    ingress = await house.ingress(policy="all")
    decision = await house.decide(ingress, house.payments.certificate, path="/public/..;/admin")
    assert decision.reason is ReasonCode.POLICY_DENIED


async def test_bare_handshake_is_not_asked_for_its_route(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", "deny"))
    await policies.activate(house.mtls, OPERATOR, "pay")
    ingress = await house.ingress(policy="pay")
    assert (await house.decide(ingress, house.payments.certificate, method="", path="")).allowed


async def test_dry_run_names_the_recorded_requests_that_would_change(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    await policies.activate(house.mtls, OPERATOR, "pay")
    ingress = await house.ingress(policy="pay")
    orders = await issue(house.mtls, await make_service(house.mtls, "orders", service="orders", team="sales"))
    await house.settled()
    for issued, times in ((house.payments, 3), (orders, 2)):
        for _ in range(times):
            decision = await house.decide(ingress, issued.certificate, path="/pay/1")
            house.mtls.events.record(event_of(_facts(house, ingress, issued.certificate), decision))
    wanted = 'allow if team == "sales"'
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", wanted))
    found = await trials.dry_run(house.mtls, OPERATOR, "pay")
    assert (found.requests, found.distinct, found.newly_allowed, found.newly_denied) == (5, 2, 2, 3)
    assert [(change.identity, change.before, change.after) for change in found.changes] == [
        (house.payments.identity.uri, "allow", "deny"),
        (orders.identity.uri, "deny", "allow"),
    ]
    assert (await trials.dry_run(house.mtls, OPERATOR, "pay", 1)).changes == ()


def _facts(house: House, ingress: Any, certificate: bytes) -> Any:
    from intaglio.core import clock
    from intaglio.mtls.access.decision import Facts

    return Facts(ingress.id, "10.0.0.1", clock.now(), (certificate,), method="GET", path="/pay/1")


async def test_explanation_names_the_rule_and_what_was_known(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    found = await trials.explain(house.mtls, OPERATOR, "pay", PolicyCase("q", "allow", PAYMENTS, path="/%70ay"))
    assert found.allowed
    assert found.rules == ("line 3",)
    assert found.path == "/pay"
    assert found.principal["team"] == "finance"


async def test_policy_in_use_cannot_be_retired(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    await house.ingress(policy="pay")
    with pytest.raises(StateConflict) as refused:
        await policies.retire_policy(house.mtls, OPERATOR, "pay")
    assert refused.value.code == "policy-in-use"


async def test_policies_of_other_organizations_do_not_exist(house: House) -> None:
    await policies.put_policy(house.mtls, OPERATOR, NewPolicy("pay", "demo", SHORT))
    stranger = tenant("stranger")
    assert await policies.list_policies(house.mtls, stranger) == []
    for attempt in (
        policies.get_policy(house.mtls, stranger, "demo~pay"),
        policies.activate(house.mtls, stranger, "demo~pay"),
        policies.put_policy(house.mtls, stranger, NewPolicy("pay", "demo", SHORT)),
        trials.dry_run(house.mtls, stranger, "pay"),
    ):
        with pytest.raises(NotFound):
            await attempt
