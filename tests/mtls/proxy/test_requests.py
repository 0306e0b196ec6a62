"""Requests that could mean two things are refused, and identity cannot be forged."""

from __future__ import annotations

from base64 import b64encode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.server import certificates

from intaglio.mtls.proxy.decisions import Verdict
from intaglio.mtls.proxy.exchange import Malformed, RequestHead
from intaglio.mtls.proxy.forwarded import identity_headers, is_ours, request_headers, response_headers
from intaglio.mtls.proxy.requests import check_framing, checked_authority, checked_method, checked_target


@pytest.mark.parametrize("target", [b"/", b"/a/b", b"/a/b/", b"/a?x=/../b", b"/%41", b"/a.b/..c", b"/a;v=1"])
def test_plain_target_is_passed_on_unchanged(target: bytes) -> None:
    assert checked_target(target, b"host") == target


def test_asterisk_is_a_target_of_options_alone() -> None:
    assert checked_target(b"*", b"host", method=b"OPTIONS") == b"*"
    with pytest.raises(Malformed):
        checked_target(b"*", b"host", method=b"GET")


def test_absolute_target_becomes_a_path() -> None:
    assert checked_target(b"https://Host:1/a?b", b"host:1") == b"/a?b"
    assert checked_target(b"http://host", b"host") == b"/"


@pytest.mark.parametrize(
    "target",
    [
        b"/a/../b", b"/..", b"/./a", b"/a/.", b"//a", b"/a//b", b"/a/%2e%2e/b", b"/a%2Fb", b"/a%5cb", b"/a\\b", b"/%00",
        b"/%", b"/%zz", b"/a b", b"/a\tb", b"/a#b", b"a", b"", b"http://other/", b"ftp://host/", b"/..;a=1/b", b"/\xff",
        b"/a?%zz", b"/" + b"a" * 9000,
    ],
)  # fmt: skip
def test_target_with_two_readings_is_refused(target: bytes) -> None:
    with pytest.raises(Malformed):
        checked_target(target, b"host")


@pytest.mark.parametrize("values", [[], [b"a", b"a"], [b""], [b"a b"], [b"a/b"], [b"a@b"], [b"a:x"], [b"a,b"]])
def test_host_has_to_be_one_name(values: list[bytes]) -> None:
    with pytest.raises(Malformed):
        checked_authority(values)


@pytest.mark.parametrize("method", [b"CONNECT", b"TRACE", b"trace", b"G T", b""])
def test_strange_methods_are_refused(method: bytes) -> None:
    with pytest.raises(Malformed):
        checked_method(method)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"1"), (b"content-length", b"1")],
        [(b"content-length", b"1, 1")],
        [(b"content-length", b"+1")],
        [(b"content-length", b"0x1")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"identity")],
        [(b"transfer-encoding", b"xchunked")],
    ],
)
def test_ambiguous_framing_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(Malformed):
        check_framing(headers, version=b"1.1")


@pytest.mark.parametrize(
    "name",
    [
        b"client-cert", b"Client-Cert", b"CLIENT_CERT", b"client_cert", b"client.cert", b"client-cert-chain",
        b"x-forwarded-client-cert", b"X_Forwarded_Client_Cert", b"x-forwarded-for", b"forwarded", b"x-real-ip",
        b"x-ssl-client-verify", b"X_SSL_CLIENT_S_DN", b"ssl-client-cert", b"x-client-dn",
        b"x-amzn-mtls-clientcert-leaf", b"x-forwarded-proto", b"proxy", b"x-http-method-override", b"x-original-url",
    ],
)  # fmt: skip
def test_identity_cannot_be_forged_in_any_spelling(name: bytes) -> None:
    head = RequestHead(b"GET", b"/", b"host", [(name, b"forged")], False)
    assert all(value != b"forged" for _, value in request_headers(head, "192.0.2.1"))


@pytest.mark.parametrize("name", [b"accept", b"authorization", b"x-request-id", b"x-sslish", b"cookie", b"x_custom"])
def test_other_fields_are_passed_on(name: bytes) -> None:
    head = RequestHead(b"GET", b"/", b"host", [(name, b"kept")], False)
    assert (name, b"kept") in request_headers(head, "192.0.2.1")


def test_fields_of_the_connection_end_at_the_gateway() -> None:
    sent = [(b"connection", b"close, X-Secret"), (b"x-secret", b"1"), (b"te", b"trailers"), (b"keep-alive", b"1")]
    names = {name for name, _ in request_headers(RequestHead(b"GET", b"/", b"host", sent, False), "192.0.2.1")}
    assert names == {b"host", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded"}
    assert response_headers([(b"connection", b"x-a"), (b"x-a", b"1"), (b"x-b", b"2")]) == [(b"x-b", b"2")]


@pytest.mark.parametrize(
    ("source", "node"), [("192.0.2.1", b"for=192.0.2.1;"), ("2001:db8::1", b'for="[2001:db8::1]";')]
)
def test_address_is_forwarded(source: str, node: bytes) -> None:
    told = dict(request_headers(RequestHead(b"GET", b"/", b"a.example:1", [], False), source))
    assert told[b"forwarded"].startswith(node)
    assert told[b"forwarded"].endswith(b'proto=https;host="a.example:1"')
    assert told[b"x-forwarded-for"] == source.encode()


def test_issuers_are_forwarded_and_roots_are_not() -> None:
    root = certificates.authority("root")
    issuing = certificates.authority("issuing", issuer=root)
    leaf = certificates.client(issuing)
    verdict = Verdict(True, True, identity="me", chain=(leaf.der, issuing.der, root.der), attributes=[("team", "b\ne")])
    told = dict(identity_headers(verdict))
    assert told[b"client-cert-chain"] == b":" + b64encode(issuing.der) + b":"
    assert (told[b"x-intaglio-identity"], told[b"x-intaglio-team"]) == (b"me", b"b?e")


def test_nothing_is_forwarded_of_a_caller_who_proved_nothing() -> None:
    assert identity_headers(Verdict(False, True, "expired", identity="me", attributes=[("team", "a")])) == ()


@given(st.binary(max_size=60))
def test_any_target_is_judged(target: bytes) -> None:
    try:
        checked = checked_target(target, b"host")
    except Malformed:
        return
    assert checked.startswith(b"/")
    assert b".." not in checked.partition(b"?")[0].split(b"/")


@given(st.text(alphabet=st.sampled_from("client-CERT_.~"), min_size=1, max_size=14))
def test_any_spelling_that_reads_alike_is_ours(name: str) -> None:
    plain = "".join(c if c.isalnum() else "-" for c in name.lower())
    assert is_ours(name.encode()) or not plain.startswith("client-cert-")
