"""What clients of the mTLS gateway notice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import httpx
import pytest
from tests.mtls.proxy.running import Pki, RunningGateway
from tests.server import certificates
from tests.server.certificates import Credential
from tests.support.programs import attempt, run

from intaglio.mtls.proxy.limits import Limits

NewGateway = Callable[..., RunningGateway]


def _expired(pki: Pki) -> Credential:
    return pki.client(lifetime=timedelta(hours=-1))


def _foreign(pki: Pki) -> Credential:
    return certificates.client(certificates.authority("somebody else"))


def _forged(pki: Pki) -> Credential:
    return certificates.client(certificates.authority("client authority"))


def _self_signed(pki: Pki) -> Credential:
    return certificates.authority("self-made")


def _server(pki: Pki) -> Credential:
    return certificates.server(pki.authority)


def _stranger(pki: Pki) -> Credential:
    return certificates.client(pki.authority)


def _nobody(pki: Pki) -> None:
    return None


BAD = [
    (_nobody, "no_certificate"),
    (_self_signed, "self_signed"),
    (_foreign, "unknown_ca"),
    (_forged, "bad_signature"),
    (_expired, "expired"),
    (_server, "bad_purpose"),
    (_stranger, "policy_denied"),
]


def test_entitled_client_reaches_the_service(gateway: RunningGateway) -> None:
    credential = gateway.pki.client()
    answer = gateway.get(credential, "/orders?state=open")
    assert answer.status_code == 200
    assert (answer.json()["method"], answer.json()["target"]) == ("GET", "/orders?state=open")
    assert "x-hop" not in answer.headers
    record = gateway.recorded(lambda each: each.asked.path == "/orders")
    assert (record.verdict.identity, record.status) == ("spiffe://example/svc/orders", 200)


@pytest.mark.parametrize(("make", "reason"), BAD)
def test_client_who_is_not_entitled_is_refused_with_the_reason(
    gateway: RunningGateway, make: Callable[[Pki], Credential | None], reason: str
) -> None:
    answer = gateway.get(make(gateway.pki), f"/{reason}")
    assert (answer.status_code, answer.json()["code"]) == (403, reason)
    assert answer.headers["content-type"] == "application/problem+json"
    assert gateway.recorded(lambda each: each.verdict.reason == reason).status == 403
    assert not [each for each in gateway.service.requests if each["target"] == f"/{reason}"]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("make", "reason", "alert"),
    [
        (_nobody, "no_certificate", "CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"),
        (_self_signed, "self_signed", "UNKNOWN_CA"),
        (_foreign, "unknown_ca", "UNKNOWN_CA"),
        (_forged, "bad_signature", "DECRYPT_ERROR|BAD_CERTIFICATE"),
        (_expired, "expired", "CERTIFICATE_EXPIRED"),
        (_server, "bad_purpose", "UNSUPPORTED_CERTIFICATE|BAD_CERTIFICATE"),
    ],
)
def test_bad_certificate_ends_the_handshake_with_an_alert(
    strict: RunningGateway, make: Callable[[Pki], Credential | None], reason: str, alert: str, version: ssl.TLSVersion
) -> None:
    context = strict.tls(make(strict.pki))
    context.minimum_version = context.maximum_version = version
    with pytest.raises((ssl.SSLError, httpx.TransportError), match=alert), httpx.Client(verify=context) as http:
        http.get(strict.url())
    record = strict.recorded(lambda each: each.verdict.reason == reason and each.caller.tls_version == _name(version))
    assert record.status is None


def test_revoked_certificate_is_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    assert gateway.get(credential).status_code == 200
    gateway.pki.revoke(credential)
    assert gateway.refusal_of(credential) == "revoked"
    assert gateway.get(gateway.pki.client()).status_code == 200


@pytest.mark.parametrize("publish", [{"lifetime": timedelta(hours=-1)}, {"issuer": certificates.authority("forger")}])
def test_stale_or_forged_revocation_list_refuses_everybody(new_gateway: NewGateway, publish: dict[str, Any]) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    assert gateway.get(credential).status_code == 200
    gateway.pki.publish(**publish)
    assert gateway.refusal_of(credential) == "status_unavailable"


def test_lost_revocation_list_refuses_everybody(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    (gateway.folder / "list.crl").unlink()
    assert gateway.refusal_of(gateway.pki.client()) == "status_unavailable"


def test_address_and_certificate_are_two_barriers(new_gateway: NewGateway) -> None:
    gateway = new_gateway(networks=["127.0.0.2/32"], refuse_in_handshake=False)
    seen = {}
    for source in ("127.0.0.2", "127.0.0.3"):
        for name, credential in (("certificate", gateway.pki.client()), ("none", None)):
            with gateway.http(credential, source) as http:
                answer = http.get(gateway.url())
                seen[source, name] = answer.json().get("code", answer.status_code)
    assert seen == {
        ("127.0.0.2", "certificate"): 200,
        ("127.0.0.2", "none"): "no_certificate",
        ("127.0.0.3", "certificate"): "ip_denied",
        ("127.0.0.3", "none"): "ip_denied",
    }


@pytest.mark.parametrize("mode", ["off", "permissive"])
def test_address_counts_in_every_mode(new_gateway: NewGateway, mode: str) -> None:
    gateway = new_gateway(networks=["192.0.2.0/24"], mode=mode)
    assert gateway.get(None).json()["code"] == "ip_denied"


@pytest.mark.parametrize("make", [make for make, _ in BAD])
def test_permissive_gateway_lets_through_and_forwards_no_identity(
    permissive: RunningGateway, make: Callable[[Pki], Credential | None]
) -> None:
    answer = permissive.get(make(permissive.pki))
    assert answer.status_code == 200
    assert not [name for name, _ in answer.json()["headers"] if "cert" in name]


def test_permissive_gateway_records_what_is_wrong(permissive: RunningGateway) -> None:
    permissive.get(_expired(permissive.pki), "/expired")
    record = permissive.recorded(lambda each: each.asked.path == "/expired")
    assert (record.verdict.allowed, record.verdict.reason, record.status) == (False, "expired", 200)


def test_gateway_that_is_off_asks_for_no_certificate(new_gateway: NewGateway) -> None:
    gateway = new_gateway(mode="off")
    with gateway.connect() as connection:
        assert connection.version() == "TLSv1.3"
    shown = attempt("openssl", "s_client", "-connect", f"localhost:{gateway.port}").output
    assert "No client certificate CA names sent" in shown


def test_identity_is_forwarded(gateway: RunningGateway) -> None:
    credential = gateway.pki.client()
    headers = dict(gateway.get(credential).json()["headers"])
    assert headers["client-cert"] == f":{b64encode(credential.der).decode()}:"
    assert "client-cert-chain" not in headers  # the issuer is a root, which the service knows
    element = headers["x-forwarded-client-cert"]
    assert f"Hash={hashlib.sha256(credential.der).hexdigest()}" in element
    assert "URI=spiffe://example/svc/orders" in element
    assert 'Subject="CN=orders"' in element
    assert headers["x-forwarded-for"] == "127.0.0.1"


@pytest.mark.parametrize(
    "name", ["Client-Cert", "client_cert", "X-Forwarded-Client-Cert", "X_FORWARDED_CLIENT_CERT", "X-SSL-Client-Verify"]
)
def test_forged_identity_is_dropped(gateway: RunningGateway, name: str) -> None:
    answer = gateway.get(gateway.pki.client(), headers={name: "forged"})
    assert "forged" not in json.dumps(answer.json()["headers"])


@pytest.mark.parametrize("option", ["--http1.1", "--http2"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl_speaks_every_version(gateway: RunningGateway, option: str, version: str) -> None:
    certificate, key = gateway.pki.client().write(gateway.folder, "curl")
    shown = run(
        "curl", "--silent", "--show-error", option, f"--tlsv{version}", "--tls-max", version,
        "--cacert", gateway.folder / "server-ca.pem", "--cert", certificate, "--key", key,
        "--header", "Client-Cert: forged", "--data-binary", "@-", "--write-out", "\\n%{http_version}",
        gateway.url("/curl"), stdin=b"x" * 300_000,
    )  # fmt: skip
    body, _, spoken = shown.rpartition("\n")
    assert json.loads(body)["octets"] == 300_000
    assert "forged" not in body
    assert spoken == ("2" if option == "--http2" else "1.1")


def test_nghttp_runs_many_streams_at_once(gateway: RunningGateway) -> None:
    certificate, key = gateway.pki.client().write(gateway.folder, "nghttp")
    urls = [gateway.url(f"/orders?{number}") for number in range(20)]
    shown = run("nghttp", "-v", "--cert", certificate, "--key", key, *urls)
    assert shown.count(":status: 200") == 20
    assert shown.count("END_STREAM | END_HEADERS") >= 20


@pytest.mark.parametrize("option", ["-tls1_2", "-tls1_3"])
def test_resumed_session_does_not_get_round_revocation(new_gateway: NewGateway, option: str) -> None:
    gateway = new_gateway(refuse_in_handshake=False)
    credential = gateway.pki.client()
    certificate, key = credential.write(gateway.folder, "client")
    session = gateway.folder / "session.pem"

    def ask(*options: Any) -> str:
        return attempt(
            "openssl", "s_client", "-connect", f"localhost:{gateway.port}", option, "-cert", certificate, "-key", key,
            "-ign_eof", *options, stdin=b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        ).output  # fmt: skip

    assert "HTTP/1.1 200" in ask("-sess_out", session)
    gateway.pki.revoke(credential)
    assert gateway.refusal_of(credential) == "revoked"
    again = ask("-sess_in", session) if session.exists() else ask()
    assert "Reused, " not in again
    assert '"code": "revoked"' in again


def test_idle_connection_of_a_revoked_client_is_cut(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    with gateway.connect(credential) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(65536)
        gateway.pki.revoke(credential)
        assert _is_cut(connection)


def test_running_download_of_a_revoked_client_is_cut(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    with gateway.http(credential) as http, http.stream("GET", gateway.url("/stream?slow")) as answer:
        parts = answer.iter_raw()
        next(parts)
        gateway.pki.revoke(credential)
        with pytest.raises(httpx.TransportError):
            for _ in parts:
                pass


def test_websocket_of_a_revoked_client_is_cut_and_others_stay(new_gateway: NewGateway) -> None:
    gateway = new_gateway()
    stolen, kept = gateway.pki.client("stolen"), gateway.pki.client("kept")
    with gateway.connect(stolen) as victim, gateway.connect(kept) as other:
        for connection in (victim, other):
            connection.sendall(_UPGRADE)
            assert connection.recv(65536).startswith(b"HTTP/1.1 101")
            connection.sendall(b"hello")
            assert connection.recv(65536) == b"hello"
        gateway.pki.revoke(stolen)
        assert _is_cut(victim)
        other.sendall(b"still here")
        assert other.recv(65536) == b"still here"
    assert gateway.recorded(lambda each: each.verdict.reason == "revoked" and each.asked.path == "/upgrade")


def test_octets_sent_with_an_upgrade_arrive(gateway: RunningGateway) -> None:
    with gateway.connect(gateway.pki.client()) as connection:
        connection.sendall(_UPGRADE + b"early")
        answer = b""
        while not answer.endswith(b"early"):
            answer += connection.recv(65536)


_UPGRADE = b"GET /upgrade HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n"


def _is_cut(connection: ssl.SSLSocket) -> bool:
    try:
        while connection.recv(65536):
            pass
    except TimeoutError:
        return False
    except OSError:
        return True
    return True


def test_answer_is_streamed(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client()) as http, http.stream("GET", gateway.url("/stream")) as answer:
        assert b"".join(answer.iter_raw()) == b"".join(b"%d\n" % number for number in range(10_000))


def test_large_upload_arrives_whole(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client()) as http:
        known = http.post(gateway.url(), content=b"x" * 5_000_000)
        chunked = http.post(gateway.url(), content=iter([b"x" * 100_000] * 20))
    assert (known.json()["octets"], chunked.json()["octets"]) == (5_000_000, 2_000_000)


def test_head_has_no_body(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client()) as http:
        answers = [http.head(gateway.url()), http.get(gateway.url())]
    assert [(each.status_code, bool(each.content)) for each in answers] == [(200, False), (200, True)]


def test_continue_is_answered(gateway: RunningGateway) -> None:
    head = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    with gateway.connect(gateway.pki.client()) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 100")
        connection.sendall(b"abc")
        assert b"200" in connection.recv(65536)


def test_early_refusal_of_the_service_reaches_the_client(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client()) as http:
        assert http.post(gateway.url("/early"), content=b"x" * 100).text == "no"


def test_silent_service_is_told_from_an_absent_one(new_gateway: NewGateway) -> None:
    gateway = new_gateway(patience=0.5)
    answer = gateway.get(gateway.pki.client(), "/silent")
    assert (answer.status_code, answer.json()["code"]) == (504, "upstream-timeout")


def test_path_with_two_readings_is_refused(gateway: RunningGateway) -> None:
    request = b"GET /../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer = gateway.raw(gateway.pki.client(), request)
    assert answer.startswith(b"HTTP/1.1 400")
    assert b"ambiguous-target" in answer


def test_answer_cut_short_is_not_taken_for_complete(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client()) as http, pytest.raises(httpx.TransportError):
        http.get(gateway.url("/broken"))


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /a HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        b"\x00\x01\x02\r\n\r\n",
    ],
)
def test_ambiguous_request_is_refused_and_the_connection_ends(gateway: RunningGateway, request_: bytes) -> None:
    before = len(gateway.service.requests)
    answer = gateway.raw(gateway.pki.client(), request_ + b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 4", b"HTTP/1.1 501"))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert len(gateway.service.requests) == before


def test_refused_head_request_gets_no_body(gateway: RunningGateway) -> None:
    answer = gateway.raw(gateway.pki.client(), b"HEAD /a/../b HTTP/1.1\r\nHost: a\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"connection: close" in head.lower()
    assert body == b""


def test_body_over_the_limit_is_refused(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(body=1000))
    with gateway.http(gateway.pki.client()) as http:
        assert http.post(gateway.url(), content=iter([b"x" * 600] * 2)).json()["code"] == "too-large"


def test_slow_head_ends_the_connection(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(head_time=0.2))
    with gateway.connect(gateway.pki.client()) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert _is_cut(connection)


def test_connections_over_the_limit_are_turned_away(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(connections=1))
    with gateway.connect(gateway.pki.client()) as first:
        first.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert first.recv(65536)
        with pytest.raises(OSError, match=r"reset|EOF|peer"):
            gateway.connect(gateway.pki.client())


def test_handshakes_that_do_not_end_count_towards_the_limit(new_gateway: NewGateway) -> None:
    gateway = new_gateway(limits=Limits(connections=1))
    with socket.create_connection(("127.0.0.1", gateway.port)) as lingering:
        lingering.sendall(b"\x16\x03\x01")
        gateway.until(lambda: gateway.proxy.handshakes == 1)
        with pytest.raises(OSError, match=r"reset|EOF|peer"):
            gateway.connect(gateway.pki.client())
    gateway.until(lambda: gateway.proxy.handshakes == 0)
    assert gateway.get(gateway.pki.client()).status_code == 200


def test_service_behind_tls_is_verified(new_gateway: NewGateway) -> None:
    first = new_gateway()
    second = new_gateway(upstream=first.url()[:-1])  # whose certificate another authority issued
    answer = second.get(second.pki.client())
    assert (answer.status_code, answer.json()["code"]) == (502, "upstream-untrusted")


def test_unreachable_service_is_said_to_be_so(new_gateway: NewGateway) -> None:
    gateway = new_gateway(upstream="http://127.0.0.1:1")
    assert gateway.get(gateway.pki.client()).json()["code"] == "upstream-unreachable"


def test_browsers_are_told_which_certificates_fit(gateway: RunningGateway) -> None:
    shown = attempt("openssl", "s_client", "-connect", f"localhost:{gateway.port}").output
    assert "Acceptable client certificate CA names\nCN = client authority" in shown


def test_copied_certificate_without_its_key_is_useless(gateway: RunningGateway) -> None:
    certificate, _ = gateway.pki.client().write(gateway.folder, "copied")
    _, key = gateway.pki.client().write(gateway.folder, "other")
    context = gateway.tls()
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        context.load_cert_chain(certificate, key)


def test_ipv6_client_is_named(gateway: RunningGateway) -> None:
    with gateway.http(gateway.pki.client(), "::1") as http:
        headers = dict(http.get(f"https://[::1]:{gateway.port6}/").json()["headers"])
    assert headers["x-forwarded-for"] == "::1"


def _name(version: ssl.TLSVersion) -> str:
    return {ssl.TLSVersion.TLSv1_2: "TLSv1.2", ssl.TLSVersion.TLSv1_3: "TLSv1.3"}[version]


@pytest.mark.parametrize("framing", [b"Content-Length: 1000000", b"Transfer-Encoding: chunked"])
def test_running_upload_of_a_revoked_client_is_cut_and_never_becomes_a_request(
    new_gateway: NewGateway, framing: bytes
) -> None:
    gateway = new_gateway()
    credential = gateway.pki.client()
    with gateway.connect(credential) as connection:
        connection.sendall(b"POST /upload HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")
        gateway.until(lambda: len(gateway.proxy.connections) == 1)
        gateway.pki.revoke(credential)
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
    assert gateway.get(gateway.pki.client("other"), "/after").status_code == 200
    assert [each["target"] for each in gateway.service.requests] == ["/after"]
