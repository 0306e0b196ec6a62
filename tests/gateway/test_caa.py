"""What CAA records let this CA do."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.gateway.filters.caa import CaaPolicy, CaaRefused
from intaglio.transport.resolver import CaaRecord, LookupFailed

_POLICY = CaaPolicy(("ca.example", "pki.example"))
_ACCOUNT = "https://acme.example/acct/1"


class _Zone:
    """Records by name; what is None cannot be looked up."""

    def __init__(self, records: dict[str, list[tuple[int, str, str]] | None]) -> None:
        self._records = records
        self.asked: list[str] = []

    async def caa(self, name: str) -> list[CaaRecord]:
        self.asked.append(name)
        found = self._records.get(name, [])
        if found is None:
            raise LookupFailed("the servers answered SERVFAIL")
        return [CaaRecord(*each) for each in found]


def _check(zone: _Zone, domain: str, *, wildcard: bool = False, method: str = "dns-01") -> None:
    asyncio.run(_POLICY.check(zone, domain, wildcard=wildcard, account_uri=_ACCOUNT, method=method))


def _refused(zone: _Zone, domain: str, *, wildcard: bool = False, method: str = "dns-01") -> CaaRefused:
    with pytest.raises(CaaRefused) as caught:
        _check(zone, domain, wildcard=wildcard, method=method)
    return caught.value


def test_without_records_up_to_the_top_everybody_may_issue() -> None:
    zone = _Zone({})
    _check(zone, "a.b.example.test")
    assert zone.asked == ["a.b.example.test", "b.example.test", "example.test", "test"]


@pytest.mark.parametrize(
    "value", ["ca.example", "PKI.EXAMPLE", " ca.example. ; ", f"ca.example; accounturi={_ACCOUNT}",
              "ca.example; validationmethods=http-01,dns-01"]
)  # fmt: skip
def test_a_record_that_names_this_ca_permits(value: str) -> None:
    _check(_Zone({"example.test": [(0, "issue", "other.example"), (0, "issue", value)]}), "www.example.test")


@pytest.mark.parametrize(
    "value",
    [";", "", "other.example", "ca.example; accounturi=https://acme.example/acct/2", "ca.example; validationmethods=",
     "ca.example; validationmethods=http-01", "ca.example; accounturi", "ca.example; =x",
     f"ca.example; accounturi={_ACCOUNT}; accounturi={_ACCOUNT}", "sub.ca.example"],
)  # fmt: skip
def test_other_records_forbid(value: str) -> None:
    error = _refused(_Zone({"example.test": [(0, "issue", value)]}), "www.example.test")
    assert error.code == "caa-forbids"
    assert 'CAA 0 issue "ca.example"' in error.remedy


def test_the_closest_name_decides() -> None:
    zone = _Zone({"www.example.test": [(0, "issue", "ca.example")], "example.test": [(0, "issue", ";")]})
    _check(zone, "www.example.test")
    _refused(zone, "example.test")


def test_wildcards_have_a_property_of_their_own() -> None:
    zone = _Zone({"example.test": [(0, "issue", "ca.example"), (0, "issuewild", ";")]})
    _check(zone, "example.test")
    _refused(zone, "example.test", wildcard=True)
    _check(_Zone({"example.test": [(0, "issue", "ca.example")]}), "example.test", wildcard=True)
    _check(_Zone({"example.test": [(0, "issuewild", ";")]}), "example.test")


def test_properties_that_restrict_nobody_permit() -> None:
    zone = _Zone({"example.test": [(0, "iodef", "mailto:security@example.test"), (128, "issuemail", ";")]})
    _check(zone, "example.test")


def test_a_critical_property_that_is_unknown_forbids() -> None:
    zone = _Zone({"example.test": [(128, "tbs", "x"), (0, "issue", "ca.example")]})
    assert "critical" in _refused(zone, "example.test").detail
    _check(_Zone({"example.test": [(0, "tbs", "x"), (0, "issue", "ca.example")]}), "example.test")


def test_what_cannot_be_looked_up_forbids() -> None:
    error = _refused(_Zone({"example.test": None}), "www.example.test")
    assert error.code == "caa-unknown"


@given(st.lists(st.tuples(st.integers(0, 255), st.sampled_from(["issue", "issuewild", "x"]), st.text()), max_size=5))
def test_no_record_breaks_the_check(records: list[tuple[int, str, str]]) -> None:
    for wildcard in (False, True):
        with contextlib.suppress(CaaRefused):
            _check(_Zone({"example.test": list(records)}), "example.test", wildcard=wildcard)
