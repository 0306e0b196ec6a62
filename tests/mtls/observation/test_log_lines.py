"""Lines of access logs of other products, as they write them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from intaglio.mtls.access.values import ReasonCode
from intaglio.mtls.observation.importing import FORMATS, BadLine, Entry, parse_line

AT = datetime(2026, 11, 21, 8, 0, 0, 123000, UTC)


def nginx(**changes: Any) -> str:
    """A line of the rendered nginx log format."""
    said = {
        "log": "intaglio-nginx", "time": "1795248000.123", "ingress": "demo~edge", "mode": "enforce", "decided": "here",
        "source": "192.0.2.7", "tls": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "verify": "SUCCESS",
        "serial": "1A2B3C", "issuer": "CN=issuing", "subject": "CN=payments", "not_after": "Nov 22 08:00:00 2026 GMT",
        "method": "GET", "host": "www.example.com", "path": "/a", "status": "200", "network": "1",
    }  # fmt: skip
    return json.dumps(said | changes)


def haproxy(**changes: Any) -> str:
    """A line of the rendered HAProxy log format, behind the header of syslog."""
    said = {
        "log": "intaglio-haproxy", "time": "1795248000.123", "mode": "enforce", "decided": "here",
        "source": "192.0.2.7", "tls": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "used": "1", "verify": "0",
        "serial": "1A2B3C", "subject": "CN=payments", "method": "GET", "host": "h", "path": "/a", "status": "200",
    }  # fmt: skip
    return "<134>Nov 21 08:00:00 edge haproxy[42]: " + json.dumps(said | changes, separators=(",", ":"))


def envoy(**changes: Any) -> str:
    """A line of the rendered Envoy log format."""
    said = {
        "log": "intaglio-envoy", "time": "1795248000.123", "mode": "enforce", "decided": "here", "source": "192.0.2.7",
        "tls": "TLSv1.3", "cipher": "TLS_AES_256_GCM_SHA384", "failure": None, "serial": "1a2b3c", "subject": "CN=p",
        "uri": "spiffe://prod.example/env/prod/team/finance/svc/payments", "fingerprint": "ab" * 32,
        "not_after": "2026-11-22T08:00:00.000Z", "method": "GET", "path": "/a?secret=1", "status": 200,
    }  # fmt: skip
    return json.dumps(said | changes)


def read(format: str, line: str) -> Entry:
    found = parse_line(format, line)
    assert found is not None
    return found


@pytest.mark.parametrize(("format", "line"), [("nginx", nginx()), ("haproxy", haproxy()), ("envoy", envoy())])
def test_a_good_request_names_its_caller(format: str, line: str) -> None:
    found = read(format, line)
    assert (found.at, found.source_ip, found.reason, found.served) == (AT, "192.0.2.7", None, True)
    assert (found.serial, found.path, found.method) == (bytes.fromhex("1a2b3c"), "/a", "GET")
    assert (found.tls_version, found.detail) == ("TLSv1.3", "HTTP 200")


@pytest.mark.parametrize(
    ("verify", "reason"),
    [
        ("NONE", ReasonCode.NO_CERTIFICATE),
        ("FAILED:certificate has expired", ReasonCode.EXPIRED),
        ("FAILED:certificate is not yet valid", ReasonCode.NOT_YET_VALID),
        ("FAILED:certificate revoked", ReasonCode.REVOKED),
        ("FAILED:self-signed certificate", ReasonCode.SELF_SIGNED),
        ("FAILED:self-signed certificate in certificate chain", ReasonCode.UNKNOWN_CA),
        ("FAILED:unable to verify the first certificate", ReasonCode.UNKNOWN_CA),
        ("FAILED:unsuitable certificate purpose", ReasonCode.BAD_PURPOSE),
        ("FAILED:unable to get certificate CRL", ReasonCode.STATUS_UNAVAILABLE),
        ("FAILED:CRL has expired", ReasonCode.STATUS_UNAVAILABLE),
        ("FAILED:certificate signature failure", ReasonCode.BAD_SIGNATURE),
        ("FAILED:EE certificate key too weak", ReasonCode.WEAK_KEY),
    ],
)
def test_what_nginx_says_about_a_certificate(verify: str, reason: ReasonCode) -> None:
    refused = read("nginx", nginx(verify=verify, status="400"))
    assert (refused.reason, refused.served) == (reason, False)
    watched = read("nginx", nginx(verify=verify, mode="permissive"))
    assert (watched.reason, watched.served) == (reason, True)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("10", ReasonCode.EXPIRED), ("18", ReasonCode.SELF_SIGNED), ("20", ReasonCode.UNKNOWN_CA),
     ("23", ReasonCode.REVOKED), ("26", ReasonCode.BAD_PURPOSE), ("3", ReasonCode.STATUS_UNAVAILABLE)],
)  # fmt: skip
def test_a_handshake_that_haproxy_refused(number: str, reason: ReasonCode) -> None:
    found = read("haproxy", haproxy(error=number, ca_error="0", handshake="337100934", verify=number))
    assert (found.kind, found.reason, found.served) == ("handshake", reason, False)


def test_the_end_of_a_certificate_as_haproxy_writes_it() -> None:
    assert read("haproxy", haproxy(not_after="261122080000Z")).not_after == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert read("haproxy", haproxy(not_after="269922080000Z")).not_after is None


def test_a_handshake_that_envoy_refused() -> None:
    failure = "TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify cert failed: {}"
    line = envoy(log="intaglio-envoy-connection", failure=failure.format("certificate revoked"))
    assert read("envoy", line).reason is ReasonCode.REVOKED
    none = envoy(log="intaglio-envoy-connection", failure="TLS_error:PEER_DID_NOT_RETURN_A_CERTIFICATE", serial=None)
    assert read("envoy", none).reason is ReasonCode.NO_CERTIFICATE
    assert parse_line("envoy", envoy(log="intaglio-envoy-connection")) is None


def test_a_certificate_that_envoy_only_watched_names_nobody() -> None:
    assert read("envoy", envoy(mode="permissive")).verified is False
    assert read("envoy", envoy()).verified is True


def test_whoever_is_outside_of_the_networks_is_told_apart() -> None:
    found = read("nginx", nginx(network="0", status="403"))
    assert (found.ip_allowed, found.reason, found.served) == (False, None, False)


@pytest.mark.parametrize(("format", "line"), [("nginx", nginx(decided="live")), ("envoy", envoy(decided="live"))])
def test_what_was_recorded_as_it_happened_is_passed_over(format: str, line: str) -> None:
    assert parse_line(format, line) is None


def test_the_combined_format_with_tls_variables() -> None:
    head = '192.0.2.7 - - [21/Nov/2026:09:00:00 +0100] "GET /a?b HTTP/1.1" 200 5 "-" "curl/8 \\"x\\"" '
    found = read("nginx", head + 'TLSv1.3 TLS_AES_256_GCM_SHA384 "SUCCESS" "1A2B3C4D" "CN=payments,OU=finance"')
    assert (found.at, found.path, found.subject) == (AT.replace(microsecond=0), "/a", "CN=payments,OU=finance")
    assert found.serial == bytes.fromhex("1a2b3c4d")
    assert read("apache", head + "TLSv1.2 ECDHE-RSA-AES256-GCM-SHA384 NONE - -").reason is ReasonCode.NO_CERTIFICATE
    with pytest.raises(BadLine, match="verified"):
        parse_line("nginx", head)


def test_the_default_text_of_envoy_vouches_for_nobody() -> None:
    line = (
        '[2026-11-21T08:00:00.123Z] "GET /a HTTP/2" 200 - 0 5 3 2 "192.0.2.7" "curl/8" "id" "host" "10.0.0.1:80" '
        '"URI=spiffe://prod.example/env/prod/team/finance/svc/payments"'
    )
    found = read("envoy", line)
    assert (found.at, found.uri.rpartition("/")[2], found.verified) == (AT, "payments", False)
    with pytest.raises(BadLine, match="PEER_URI_SAN"):
        parse_line("envoy", '[2026-11-21T08:00:00.123Z] "GET /a HTTP/2" 200 - 0 5 3 2 "192.0.2.7"')


@pytest.mark.parametrize(
    ("status", "reason"),
    [("Success", None), ("Failed:ClientCertUntrusted", ReasonCode.UNKNOWN_CA),
     ("Failed:ClientCertCrlHit", ReasonCode.REVOKED),
     ("Failed:ClientCertCrlProcessingError", ReasonCode.STATUS_UNAVAILABLE)],
)  # fmt: skip
def test_connection_logs_of_load_balancers(status: str, reason: ReasonCode | None) -> None:
    line = (
        '2026-11-21T08:00:00.123000Z 192.0.2.7 36280 443 TLSv1.3 TLS_AES_128_GCM_SHA256 4.036 "CN=payments,O=demo" '
        f'NotBefore=2026-11-21T00:00:00Z;NotAfter=2026-11-22T08:00:00Z 1A2B3C {status} TID_1'
    )
    found = read("alb", line)
    assert (found.at, found.kind, found.reason, found.served) == (AT, "handshake", reason, reason is None)
    assert (found.subject, found.serial) == ("CN=payments,O=demo", bytes.fromhex("1a2b3c"))
    assert found.not_after == datetime(2026, 11, 22, 8, tzinfo=UTC)
    assert parse_line("alb", "2026-11-21T08:00:00Z 192.0.2.7 1 80 - - - - - - - TID_1") is None


@pytest.mark.parametrize(
    "line",
    ["garbage", "{", '{"time": 1}', nginx(time="tomorrow"), nginx(time="9" * 12), nginx(source="here"), "x" * 20_000,
     '{"a":' * 5000, "[" * 9000, nginx(time="1795248000.123456789012")],
)  # fmt: skip
def test_lines_that_cannot_be_read_are_bad_and_say_why(line: str) -> None:
    with pytest.raises(BadLine) as bad:
        parse_line("nginx", line)
    assert str(bad.value)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_NAMES = st.sampled_from([*sorted(json.loads(envoy())), "verify", "used", "error", "handshake", "network", "host"])


_BYTES = st.binary(max_size=200).map(lambda octets: octets.decode("latin-1"))


@given(st.sampled_from(sorted(FORMATS)), st.text(max_size=200) | _BYTES)
def test_any_text_is_read_or_bad(format: str, line: str) -> None:
    _read_or_bad(format, line)


@given(st.sampled_from(["nginx", "haproxy", "envoy"]), st.dictionaries(_NAMES, _JSON, max_size=6))
def test_any_members_are_read_or_bad(format: str, changes: dict[str, Any]) -> None:
    line = {"nginx": nginx, "haproxy": haproxy, "envoy": envoy}[format](**changes)
    _read_or_bad(format, line)


@given(st.lists(st.sampled_from(['"', "[", "]", " ", "-", "GET / HTTP/1.1", "200", "21/Nov/2026:09:00:00 +0100",
                                 "192.0.2.7", "SUCCESS", "FAILED", "TLSv1.3", "CN=x", "\\", "1A2B3C4D", "NONE", "="]),
                max_size=30))  # fmt: skip
def test_any_scraps_of_the_combined_format_are_read_or_bad(parts: list[str]) -> None:
    for format in ("nginx", "apache", "alb", "envoy"):
        _read_or_bad(format, " ".join(parts))


def _read_or_bad(format: str, line: str) -> None:
    """What is read has short printable texts; everything else is a BadLine."""
    try:
        found = parse_line(format, line)
    except BadLine:
        return
    if found is not None:
        for text in (found.issuer, found.subject, found.uri, found.method, found.host, found.path, found.detail):
            assert len(text) <= 500
            assert text.isprintable()
        assert found.at.tzinfo is UTC


_HEAD = '192.0.2.7 - - [21/Nov/2026:09:00:00 +0100] "GET /a HTTP/1.1" 200 5 '
_TRUTH = " TLSv1.3 TLS_AES_256_GCM_SHA384 NONE - -"


@pytest.mark.parametrize("headers", ['"SUCCESS" "CN=admin"', '"0123ABCD01" "SUCCESS"', '"TLSv1.0" "FAILED:revoked"'])
@pytest.mark.parametrize("format", ["nginx", "apache"])
def test_what_a_client_says_of_itself_is_not_taken_for_its_certificate(format: str, headers: str) -> None:
    found = read(format, _HEAD + headers + _TRUTH)
    assert found.reason is ReasonCode.NO_CERTIFICATE
    assert (found.serial, found.subject, found.tls_version) == (b"", "", "TLSv1.3")


def test_line_in_which_a_client_may_have_said_that_it_was_verified_is_bad() -> None:
    with pytest.raises(BadLine):
        parse_line("nginx", f'{_HEAD}"-" "curl" "SUCCESS"{_TRUTH}')


def test_of_two_serial_numbers_none_is_believed() -> None:
    line = f'{_HEAD}"-" "curl" "0123ABCD01" TLSv1.3 TLS_AES_256_GCM_SHA384 SUCCESS 0123ABCD02'
    assert read("nginx", line).serial == b""


@pytest.mark.parametrize("agent", ["spiffe://edge.example/svc/admin", 'x" "198.51.100.1" "spiffe://edge.example/svc/a'])
def test_who_a_client_says_it_is_through_envoy_does_not_count(agent: str) -> None:
    head = '[2026-11-21T08:00:00.123Z] "GET /a HTTP/2" 200 - 0 5 3 2 "203.0.113.9, 192.0.2.7" '
    rest = f'"{agent}" "id" "198.51.100.2" "10.0.0.1:80" '
    with pytest.raises(BadLine):
        parse_line("envoy", f"{head}{rest}-")
    found = read("envoy", f'{head}{rest}"spiffe://edge.example/svc/caller"')
    assert (found.uri, found.source_ip) == ("spiffe://edge.example/svc/caller", "192.0.2.7")
