"""From when until when a certificate is valid."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.core.errors import IntaglioError
from intaglio.profiles import custom, registry
from intaglio.profiles.durations import Duration
from intaglio.profiles.engine import IssuanceInput, Issuer, RequestedValidity, compile_profile

NOW = datetime(2026, 6, 15, 12, 0, 0, 123456, tzinfo=UTC)
PROFILE = "est-digital-signature"
SECOND = timedelta(seconds=1)


def until(moment: datetime, **more: Any) -> dict[str, Any]:
    return {"validity": RequestedValidity(not_after=moment), **more}


def lasting(text: str, **more: Any) -> dict[str, Any]:
    return {"validity": RequestedValidity(duration=Duration.parse(text)), **more}


@pytest.mark.parametrize(
    ("profile", "end"),
    [
        (PROFILE, datetime(2027, 6, 15, 12, tzinfo=UTC)),
        ("esim-delivery-auth", datetime(2029, 6, 15, 12, tzinfo=UTC)),
        ("v2g-supply-equipment", datetime(2027, 6, 15, 12, tzinfo=UTC)),
        ("v2g-user-identity", datetime(2028, 6, 15, 12, tzinfo=UTC)),
    ],
)
def test_silent_request_gets_the_default_in_whole_seconds(desk: Any, profile: str, end: datetime) -> None:
    certificate = desk.issue(profile)
    assert certificate.not_valid_after_utc == end
    assert certificate.not_valid_before_utc == datetime(2026, 6, 15, 11, 55, tzinfo=UTC)


def test_default_is_shortened_to_the_end_of_the_issuer(desk: Any) -> None:
    end = desk.now.replace(microsecond=0) + timedelta(days=30)
    assert desk.at({"not_after": end}).prepare(PROFILE).not_after == end


def test_certificate_never_begins_before_its_issuer(desk: Any) -> None:
    begin = desk.now.replace(microsecond=0) - timedelta(minutes=1)
    assert desk.at({"not_before": begin}).prepare(PROFILE).not_before == begin


@pytest.mark.parametrize("dates", [{"not_after": NOW - timedelta(days=1)}, {"not_before": NOW + timedelta(days=1)}])
def test_issuer_outside_its_own_validity_issues_nothing(desk: Any, dates: dict[str, datetime]) -> None:
    refusal = desk.at(dates).refusal(PROFILE)
    assert (refusal.code, refusal.extra["step"]) == ("validity-beyond-issuer", "validity")


def test_asked_beginning_just_before_the_issuer_becomes_the_issuers(desk: Any) -> None:
    young = desk.at({"not_before": desk.now.replace(microsecond=0) - timedelta(seconds=30)})
    minute = RequestedValidity(not_before=desk.now - timedelta(minutes=1))
    assert young.prepare(PROFILE, validity=minute).not_before == young.issuer.not_before


def test_shorten_only_does_not_lengthen_at_the_beginning(desk: Any) -> None:
    yesterday = RequestedValidity(not_before=desk.now - timedelta(days=1))
    assert desk.prepare(PROFILE, validity=yesterday)
    assert desk.refusal(PROFILE, validity=yesterday, shorten_only=True).code == "validity-backdated"


def test_end_equal_to_the_issuers_is_granted_and_one_second_more_is_refused(desk: Any) -> None:
    end = desk.issuer.not_after
    assert desk.prepare(PROFILE, **until(end)).not_after == end
    refusal = desk.refusal(PROFILE, **until(end + SECOND))
    assert refusal.code == "validity-beyond-issuer"
    assert "2036-01-01T00:00:00Z" in str(refusal)


def test_duration_beyond_the_issuer_is_refused_or_clamped(desk: Any) -> None:
    short = desk.at({"not_after": desk.now.replace(microsecond=0) + timedelta(days=30)})
    assert short.refusal(PROFILE, **lasting("P1Y")).code == "validity-beyond-issuer"
    assert short.prepare(PROFILE, **lasting("P1Y", clamp_validity=True)).not_after == short.issuer.not_after


@pytest.mark.parametrize("text", ["PT1440M", "PT86400S", "P1D"])
def test_duration_counts_from_now(desk: Any, text: str) -> None:
    prepared = desk.prepare(PROFILE, **lasting(text))
    assert prepared.not_after == desk.now.replace(microsecond=0) + timedelta(days=1)
    assert prepared.not_before == desk.now.replace(microsecond=0) - timedelta(minutes=5)


def test_longer_than_the_default_is_granted_within_the_issuer(desk: Any) -> None:
    assert desk.prepare(PROFILE, **lasting("P5Y")).not_after == datetime(2031, 6, 15, 12, tzinfo=UTC)


def test_shorten_only_refuses_what_exceeds_the_default(desk: Any) -> None:
    default_end = datetime(2027, 6, 15, 12, tzinfo=UTC)
    assert desk.prepare(PROFILE, **until(default_end, shorten_only=True)).not_after == default_end
    assert desk.prepare(PROFILE, **lasting("P1D", shorten_only=True)).not_after < default_end
    refusal = desk.refusal(PROFILE, **until(default_end + SECOND, shorten_only=True))
    assert refusal.code == "validity-beyond-profile"


def test_maximum_of_the_profile_holds(desk: Any) -> None:
    profile = custom.clone(registry.get(PROFILE), "short-lived", {"validity": {"default": "P30D", "maximum": "P90D"}})
    assert desk.prepare(profile, **lasting("P89D"))
    assert desk.refusal(profile, **lasting("P91D")).code == "validity-beyond-profile"


def test_backdating_never_makes_a_certificate_longer_than_the_maximum(desk: Any) -> None:
    profile = custom.clone(registry.get(PROFILE), "short-lived", {"validity": {"default": "P30D", "maximum": "P30D"}})
    prepared = desk.prepare(profile)
    assert prepared.not_after - prepared.not_before == timedelta(days=30)


def test_fixed_validity_may_be_repeated_but_not_changed(desk: Any) -> None:
    assert desk.prepare("v2g-user-identity", **lasting("P2Y")).not_after == datetime(2028, 6, 15, 12, tzinfo=UTC)
    assert desk.refusal("v2g-user-identity", **lasting("P1Y")).code == "validity-fixed"
    clamped = desk.prepare("v2g-user-identity", **lasting("P1Y", clamp_validity=True))
    assert clamped.not_after == datetime(2028, 6, 15, 12, tzinfo=UTC)


def test_explicit_beginning_is_honoured_without_backdating(desk: Any) -> None:
    begin = datetime(2026, 7, 1, tzinfo=UTC)
    prepared = desk.prepare(PROFILE, validity=RequestedValidity(not_before=begin))
    assert (prepared.not_before, prepared.not_after) == (begin, datetime(2027, 7, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("validity", "code"),
    [
        (RequestedValidity(not_before=datetime(2020, 1, 1, tzinfo=UTC)), "validity-backdated"),
        (RequestedValidity(not_before=datetime(2040, 1, 1, tzinfo=UTC)), "validity-beyond-issuer"),
        (RequestedValidity(not_before=datetime(2026, 6, 12, tzinfo=UTC)), "validity-backdated"),
        (RequestedValidity(not_after=datetime(2026, 6, 15, 11, tzinfo=UTC)), "validity-in-the-past"),
        (
            RequestedValidity(datetime(2026, 8, 1, tzinfo=UTC), datetime(2026, 7, 1, tzinfo=UTC)),
            "validity-in-the-past",
        ),
        (
            RequestedValidity(not_after=datetime(2027, 1, 1, tzinfo=UTC), duration=Duration(months=1)),
            "validity-ambiguous",
        ),
    ],
)
def test_impossible_dates_are_refused(desk: Any, validity: RequestedValidity, code: str) -> None:
    refusal = desk.refusal(PROFILE, validity=validity)
    assert (refusal.code, refusal.extra["step"]) == (code, "validity")


@pytest.mark.parametrize(("profile", "years"), [("basic-ca-root", 20), ("basic-ca-subord", 10)])
def test_ca_certificates_have_a_longest_life(desk: Any, profile: str, years: int) -> None:
    request, issuer = _ca_request(desk, profile)
    compiled = compile_profile(registry.get(profile), issuer)
    prepared = compiled.prepare(request(f"P{years}Y"), serial=b"\x01" * 20, now=desk.now)
    assert prepared.not_after.year - prepared.not_before.year == years
    assert prepared.not_before == desk.now.replace(microsecond=0)
    with pytest.raises(Exception, match="permits") as caught:
        compiled.prepare(request(f"P{years}YT1S"), serial=b"\x01" * 20, now=desk.now)
    assert caught.value.code == "validity-beyond-profile"  # type: ignore[attr-defined]


def _ca_request(desk: Any, profile: str) -> tuple[Any, Issuer]:
    from intaglio.asn1.algorithms import key_identifier

    template: IssuanceInput = desk.request(channel="platform")
    name, key_id = template.subject, key_identifier(template.spki)
    if profile == "basic-ca-root":
        issuer = Issuer.of_root("demo~root", name, key_id, template.key_algorithm, desk.now.replace(microsecond=0))
    else:
        issuer = desk.at({"not_after": datetime(2046, 1, 1, tzinfo=UTC)}).issuer

    def request(duration: str) -> IssuanceInput:
        return desk.request(channel="platform", **lasting(duration))  # type: ignore[no-any-return]

    return request, issuer


MOMENTS = st.datetimes(datetime(2020, 1, 1), datetime(2060, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - given UTC
DURATIONS = st.builds(Duration, st.integers(0, 1200), st.integers(1, 10**9))


@given(
    st.sampled_from([profile.id for profile in registry.builtin_profiles().values() if profile.exposed]),
    st.builds(RequestedValidity, st.none() | MOMENTS, st.none() | MOMENTS, st.none() | DURATIONS),
    st.booleans(),
    st.booleans(),
)
def test_any_requested_validity_lies_within_the_issuer_or_is_refused(
    desk: Any, profile: str, validity: RequestedValidity, shorten: bool, clamp: bool
) -> None:
    certificate = desk.attempt(profile, validity=validity, shorten_only=shorten, clamp_validity=clamp)
    if isinstance(certificate, IntaglioError):
        assert certificate.extra["step"] in ("validity", "san")
        return
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    assert desk.issuer.not_before <= begin < end <= desk.issuer.not_after
    assert end > desk.now
    if shorten and validity.not_before is None:
        assert end <= registry.get(profile).validity.default.after(desk.now)
