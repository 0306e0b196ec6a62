"""Checking configurations that anybody may have made."""

from __future__ import annotations

import contextlib
import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mtls.ingresses.plans import authority, make_plan

from intaglio.core.errors import IntaglioError, InvalidInput
from intaglio.mtls.ingresses.checking import CHECKERS, Checked, check
from intaglio.mtls.ingresses.rendering import render

_TLS = "ssl_certificate a; ssl_certificate_key b; ssl_session_tickets off;"
_NGINX = f"http {{ server {{ listen 443 ssl; {_TLS} %s }} }}"
_ENVOY = """
static_resources:
  listeners:
  - filter_chains:
    - transport_socket:
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          require_client_certificate: {required}
          disable_stateless_session_resumption: true
          common_tls_context:
            validation_context: {{trusted_ca: {{filename: a}}, crl: {{filename: b}}{more}}}
"""
_HAPROXY = "frontend f\n  http-request del-header client-cert\n  bind :443 ssl crt a no-tls-tickets "
_APACHE = """<VirtualHost *:443>
SSLEngine on
SSLProtocol -all +TLSv1.2 +TLSv1.3
SSLSessionTickets off
SSLCACertificateFile a
{}
</VirtualHost>
"""


def rules(text: str, kind: str | None = None) -> set[str]:
    return {finding.rule for finding in check(text, kind).findings}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_NGINX % "ssl_client_certificate a; ssl_verify_client on; ssl_crl b;", set()),
        (_NGINX % "ssl_client_certificate a; ssl_verify_client on; ssl_ocsp on;", set()),
        (_NGINX % "ssl_client_certificate a; ssl_verify_client on;", {"no-revocation"}),
        (_NGINX % "ssl_verify_client optional; ssl_client_certificate a; ssl_crl b;", {"client-certificate-optional"}),
        (_NGINX % "ssl_verify_client optional_no_ca; ssl_crl b;", {"client-certificate-optional", "no-trust-anchors"}),
        (_NGINX % "ssl_crl b;", {"client-certificate-off"}),
        (
            _NGINX % "ssl_client_certificate a; ssl_verify_client on; ssl_crl b; ssl_protocols TLSv1 TLSv1.2;",
            {"old-tls"},
        ),
        (
            _NGINX % "ssl_client_certificate a; ssl_verify_client on; ssl_crl b; location / { proxy_pass https://x; }",
            {"upstream-unverified", "headers-forgeable"},
        ),
        (
            _NGINX % "ssl_client_certificate a; ssl_verify_client on; ssl_crl b; error_page 495 = @s; "
            'location @s { proxy_pass http://x; proxy_set_header Client-Cert ""; '
            'proxy_set_header X-Forwarded-Client-Cert ""; }',
            {"refusal-bypassed"},
        ),
        ("http { server { listen 80; } }", {"client-certificate-off"}),
        # What stands around counts, and what stands in it counts more.
        (
            f"http {{ ssl_client_certificate a; ssl_verify_client on; ssl_crl b; "
            f"server {{ listen 443 ssl; {_TLS} }} }}",
            set(),
        ),
        (
            f"http {{ ssl_client_certificate a; ssl_verify_client on; ssl_crl b; "
            f"server {{ listen 443 ssl; {_TLS} ssl_verify_client off; }} }}",
            {"client-certificate-off"},
        ),
        (_NGINX % "# ssl_verify_client on;\nssl_crl b;", {"client-certificate-off"}),
    ],
)  # fmt: skip
def test_nginx(text: str, expected: set[str]) -> None:
    assert rules(text, "nginx") == expected
    assert check(text).type == "nginx"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_HAPROXY + "ca-file a crl-file b verify required", set()),
        (_HAPROXY + "ca-file a verify required", {"no-revocation"}),
        (_HAPROXY + "ca-file a crl-file b verify optional", {"client-certificate-optional"}),
        (_HAPROXY + "crl-file b", {"client-certificate-off"}),
        (_HAPROXY + "ca-file a crl-file b verify none", {"client-certificate-off"}),
        (_HAPROXY + "ca-file a crl-file b verify required crt-ignore-err 10", {"expiry-ignored"}),
        (_HAPROXY + "ca-file a crl-file b verify required crt-ignore-err all", {"errors-ignored"}),
        (_HAPROXY + "ca-file a crl-file b verify required ssl-min-ver TLSv1.0", {"old-tls"}),
        (
            _HAPROXY + "ca-file a crl-file b verify required\nbackend b\n  server s 10.0.0.1:443 ssl verify none",
            {"upstream-unverified"},
        ),
        ("frontend f\n  bind :80", {"client-certificate-off"}),
    ],
)
def test_haproxy(text: str, expected: set[str]) -> None:
    assert rules(text) == expected


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("SSLVerifyClient require\nSSLCARevocationCheck chain", set()),
        ("SSLVerifyClient require\nSSLOCSPEnable on", set()),
        ("SSLVerifyClient require", {"no-revocation"}),
        ("SSLVerifyClient optional_no_ca\nSSLOCSPEnable on", {"client-certificate-optional"}),
        ("SSLOCSPEnable on", {"client-certificate-off"}),
        ("SSLOCSPEnable on\n<Location /a>\nSSLVerifyClient require\n</Location>", {"client-certificate-off"}),
        ("SSLVerifyClient require\nSSLOCSPEnable on\n<Location /a>\nSSLVerifyClient none\n</Location>",
         {"client-certificate-off"}),
        ("SSLVerifyClient require\nSSLOCSPEnable on\nSSLProtocol all -SSLv3", {"old-tls"}),
        ("SSLVerifyClient require\nSSLOCSPEnable on\nProxyPass / https://x/",
         {"upstream-unverified", "headers-forgeable"}),
    ],
)  # fmt: skip
def test_apache(lines: str, expected: set[str]) -> None:
    assert rules(_APACHE.format(lines)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (_ENVOY.format(required="true", more=""), set()),
        (_ENVOY.format(required="false", more=""), {"client-certificate-optional"}),
        (_ENVOY.format(required="true", more=", trust_chain_verification: ACCEPT_UNTRUSTED"),
         {"client-certificate-optional"}),
        (_ENVOY.format(required="true", more=", allow_expired_certificate: true"), {"expiry-ignored"}),
        ("static_resources: {listeners: []}", {"client-certificate-off"}),
    ],
)  # fmt: skip
def test_envoy(text: str, expected: set[str]) -> None:
    assert rules(text) == expected


@pytest.mark.parametrize(
    ("mutual", "expected"),
    [
        ({"Mode": "verify", "TrustStoreArn": "arn:x", "IgnoreClientCertificateExpiry": False}, set()),
        ({"Mode": "verify", "TrustStoreArn": "arn:x", "IgnoreClientCertificateExpiry": True}, {"expiry-ignored"}),
        ({"Mode": "verify"}, {"no-trust-anchors"}),
        ({"Mode": "passthrough"}, {"pass-through"}),
        ({"Mode": "off"}, {"client-certificate-off"}),
        (None, {"client-certificate-off"}),
    ],
)
def test_load_balancers_of_aws(mutual: object, expected: set[str]) -> None:
    listener = {"ListenerArn": "arn:l", "Protocol": "HTTPS"} | ({"MutualAuthentication": mutual} if mutual else {})
    assert rules(json.dumps({"Listeners": [listener]})) == expected


@pytest.mark.parametrize(
    ("kind", "spec", "expected"),
    [
        ("PeerAuthentication", {"mtls": {"mode": "STRICT"}}, set()),
        ("PeerAuthentication", {"mtls": {"mode": "PERMISSIVE"}}, {"client-certificate-optional"}),
        ("PeerAuthentication", {"mtls": {"mode": "DISABLE"}}, {"client-certificate-off"}),
        ("PeerAuthentication", {"mtls": {"mode": "STRICT"}, "portLevelMtls": {"8080": {"mode": "DISABLE"}}},
         {"client-certificate-off"}),
        ("PeerAuthentication", {}, {"client-certificate-optional"}),
        ("Gateway", {"servers": [{"tls": {"mode": "MUTUAL"}}]}, set()),
        ("Gateway", {"servers": [{"tls": {"mode": "SIMPLE"}}]}, {"client-certificate-off"}),
        ("Gateway", {"servers": [{"tls": {"mode": "PASSTHROUGH"}}]}, {"pass-through"}),
        ("DestinationRule", {"trafficPolicy": {"tls": {"mode": "DISABLE"}}}, {"upstream-unverified"}),
        ("AuthorizationPolicy", {"action": "ALLOW", "rules": [{}]}, {"everybody-allowed"}),
        ("Server", {"accessPolicy": "all-unauthenticated"}, {"client-certificate-off"}),
        ("Ingress", {}, {"client-certificate-off"}),
    ],
)  # fmt: skip
def test_kubernetes(kind: str, spec: object, expected: set[str]) -> None:
    manifest = json.dumps({"apiVersion": "x/v1", "kind": kind, "spec": spec})
    assert rules(manifest, "istio") == expected


def test_a_bundle_with_a_ca_that_does_not_count_is_found() -> None:
    ours, theirs = authority("Ours")[0], authority("Theirs")[0]
    text = render(make_plan()).file("nginx.conf").text
    assert check(text, bundle=[ours], trusted=[ours]).verifies
    found = check(text, bundle=[theirs], trusted=[ours])
    assert [finding.rule for finding in found.findings] == ["wrong-bundle", "wrong-bundle"]
    assert not found.verifies


def test_findings_name_their_line() -> None:
    found = check("http {\n server {\n  listen 443 ssl;\n  ssl_certificate a;\n  ssl_verify_client optional;\n }\n}")
    assert [finding.line for finding in found.findings if finding.rule == "client-certificate-optional"] == [5]


def test_yaml_that_grows_is_refused() -> None:
    bomb = "a: &a [x]\nb: &b [*a, *a]\nstatic_resources: [*b, *b]\n"
    with pytest.raises(InvalidInput) as refused:
        check(bomb, "envoy")
    assert "aliases" in refused.value.detail


@pytest.mark.parametrize("text", ["", "hello", "}", "server {", "a" * 1_000_001, "server { listen 'x }"])
def test_what_is_no_configuration_is_refused_with_a_reason(text: str) -> None:
    with pytest.raises(IntaglioError) as refused:
        check(text)
    assert refused.value.code.startswith("configuration-")


_SCRAPS = st.sampled_from(
    ["server", "{", "}", ";", "\n", " ", '"', "'", "#", "<VirtualHost x>", "</VirtualHost>", "SSLEngine on", "bind",
     "ssl", "verify", "none", "frontend", "- ", ":", "[", "]", "&a", "*a", "kind", "spec", "tls", "null", "\\", "\t",
     "error_page", "location", "proxy_pass", "proxy_set_header", "MutualAuthentication", "Mode", "true", "@type"]
)  # fmt: skip


@given(st.sampled_from(sorted(CHECKERS)), st.lists(_SCRAPS | st.text(max_size=8), max_size=60).map("".join))
def test_every_text_is_checked_or_refused(kind: str, text: str) -> None:
    found = _outcome(kind, text)
    assert isinstance(found, str) or all(finding.remedy for finding in found.findings)


@pytest.mark.parametrize(("kind", "text"), [
    ("nginx", "a {" * 5000), ("envoy", "[" * 50_000), ("envoy", "a: " * 5000), ("aws-alb", "[" * 100_000),
    ("istio", "- " * 20_000), ("haproxy", "global\n" + "x " * 100_000), ("apache", "<A>\n" * 50_000),
])  # fmt: skip
def test_deep_and_long_texts_end_in_time(kind: str, text: str) -> None:
    assert _outcome(kind, text)


def _outcome(kind: str, text: str) -> Checked | str:
    """What is found, or the code of the refusal. Everything else is a failure."""
    try:
        return check(text, kind)
    except IntaglioError as refused:
        return _code(refused)


def _code(refused: IntaglioError) -> str:
    assert refused.code.startswith("configuration-")
    return refused.code


@pytest.mark.parametrize(
    "text",
    [
        "server " * 57_000, "\n" * 399_000, " \n" * 199_000, "frontend " + "x" * 390_000, "frontend\n" * 44_000,
        "location " * 44_000 + "{", "ssl_" * 99_000, "static_resources " * 23_000, "<VirtualHost " * 30_000,
        "frontend x\n bind " + "\"'" * 190_000, 'SSLEngine "' + "\\" * 380_000, "apiVersion" * 39_000,
    ],
    ids=range(12),
)  # fmt: skip
def test_text_made_to_take_long_takes_no_longer_than_others(text: str) -> None:
    """Time of the processor, so that it says the same on a busy machine; what was quadratic took minutes."""
    started = time.process_time()
    with contextlib.suppress(InvalidInput):
        check(text)
    assert time.process_time() - started < 10
