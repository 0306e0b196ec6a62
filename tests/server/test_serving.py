"""What clients of a running server notice."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import ssl
import stat
import subprocess
from datetime import timedelta

import httpx
import pytest
from tests.server import certificates
from tests.server.certificates import Credential
from tests.server.running import House, eventually


def test_client_certificate_reaches_the_application(house: House) -> None:
    credential = certificates.client(house.client_ca)
    with house.http(credential) as http:
        seen = http.get(house.url("gateway", "/who")).json()
    assert seen["fingerprint"] == hashlib.sha256(credential.der).hexdigest()
    assert ssl.PEM_cert_to_DER_cert(seen["chain"][0]) == credential.der
    assert seen["version"] == 0x0304


def test_client_without_certificate_reaches_the_application_as_nobody(house: House) -> None:
    with house.http() as http:
        seen = http.get(house.url("gateway", "/who")).json()
    assert (seen["fingerprint"], seen["chain"]) == (None, [])


def test_console_does_not_ask_for_a_client_certificate(house: House) -> None:
    with house.http(certificates.client(house.client_ca)) as http:
        assert http.get(house.url("console", "/who")).json()["fingerprint"] is None


def _expired(house: House) -> Credential:
    return certificates.client(house.client_ca, lifetime=timedelta(hours=-1))


def _foreign(house: House) -> Credential:
    return certificates.client(certificates.authority("client authority"))


def _self_made(house: House) -> Credential:
    return certificates.authority("self-made")


def _server_as_client(house: House) -> Credential:
    return certificates.server(house.client_ca)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("make", "alert"),
    [
        (_expired, "CERTIFICATE_EXPIRED"),
        (_foreign, "DECRYPT_ERROR|UNKNOWN_CA|BAD_CERTIFICATE"),
        (_self_made, "UNKNOWN_CA"),
        (_server_as_client, "UNSUPPORTED_CERTIFICATE|BAD_CERTIFICATE"),
    ],
)
def test_wrong_client_certificate_is_refused_with_an_alert(
    house: House, make: object, alert: str, version: ssl.TLSVersion
) -> None:
    context = house.tls(make(house))  # type: ignore[operator]
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError, match=alert):
        _exchange(house, context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("make", "error"),
    [
        (_expired, "CERT_HAS_EXPIRED"),
        (_foreign, "CERT_SIGNATURE_FAILURE"),
        (_self_made, "DEPTH_ZERO_SELF_SIGNED_CERT"),
        (_server_as_client, "INVALID_PURPOSE"),
    ],
)
def test_enrolment_listener_sees_a_wrong_certificate_and_trusts_it_not(
    house: House, make: object, error: str, version: ssl.TLSVersion
) -> None:
    credential = make(house)  # type: ignore[operator]
    context = house.tls(credential)
    context.minimum_version = context.maximum_version = version
    with httpx.Client(verify=context, trust_env=False) as http:
        seen = http.get(house.url("enroll", "/who")).json()
    assert (seen["fingerprint"], seen["chain"]) == (None, [])
    assert (seen["error"], seen["observed"]) == (error, [hashlib.sha256(credential.der).hexdigest()])


def test_enrolment_listener_knows_a_right_certificate(house: House) -> None:
    credential = certificates.client(house.client_ca)
    with house.http(credential) as http:
        seen = http.get(house.url("enroll", "/who")).json()
    assert seen["fingerprint"] == hashlib.sha256(credential.der).hexdigest()
    assert (seen["error"], seen["observed"]) == (None, [])


def test_acceptable_authorities_are_named(house: House) -> None:
    """Browsers offer the certificates whose issuers are named (RFC 8446 section 4.2.4)."""
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{house.runtime.port('enroll')}"],
        input=b"", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert b"Acceptable client certificate CA names\nCN = client authority" in result.stdout


@pytest.mark.parametrize("listener", ["enroll", "gateway"])
@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_session_is_never_resumed(house: House, listener: str, version: str) -> None:
    address = f"localhost:{house.runtime.port(listener)}"
    saved = house.folder / f"session-{listener}{version}"
    request = b"GET /who HTTP/1.0\r\n\r\n"
    seen = []
    for option in ("-sess_out", "-sess_in"):
        if option == "-sess_in" and not saved.exists():
            break  # nothing was handed out that could be resumed
        result = subprocess.run(
            ["openssl", "s_client", "-ign_eof", "-connect", address, version, option, str(saved)],
            input=request, capture_output=True, check=False, timeout=60,
        )  # fmt: skip
        seen.append(result.stdout)
    assert all(b"HTTP/1.1 200" in each and b"Reused, " not in each for each in seen)


@pytest.mark.parametrize("listener", ["enroll", "gateway"])
def test_renegotiation_is_refused(house: House, listener: str) -> None:
    address = f"localhost:{house.runtime.port(listener)}"
    result = subprocess.run(
        ["openssl", "s_client", "-tls1_2", "-connect", address],
        input=b"R\n", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    assert b"no renegotiation" in result.stderr


def test_wrong_client_certificate_does_not_reach_the_application(house: House) -> None:
    with house.http(_foreign(house)) as http, pytest.raises(httpx.TransportError):
        http.get(house.url("gateway", "/who"))


@pytest.mark.parametrize("listener", ["console", "enroll", "gateway"])
@pytest.mark.parametrize(
    "offer",
    [
        ["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1", "-cipher", "ALL:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES128-SHA:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "AES256-GCM-SHA384:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "ECDHE-ECDSA-AES256-SHA384:@SECLEVEL=0"],
        ["-tls1_2", "-cipher", "aNULL:eNULL:@SECLEVEL=0"],
    ],
)
def test_weak_tls_is_refused(house: House, listener: str, offer: list[str]) -> None:
    assert not _negotiates(house, listener, offer)


@pytest.mark.parametrize("listener", ["console", "enroll", "gateway"])
@pytest.mark.parametrize("offer", [["-tls1_2"], ["-tls1_3"]])
def test_strong_tls_is_accepted(house: House, listener: str, offer: list[str]) -> None:
    assert _negotiates(house, listener, offer)


def test_connection_is_kept_alive(house: House) -> None:
    connection = http.client.HTTPSConnection("localhost", house.runtime.port("gateway"), context=house.tls())
    ports = []
    for _ in range(3):
        connection.request("GET", "/who")
        assert connection.getresponse().read()
        ports.append(connection.sock.getsockname()[1])
    connection.close()
    assert len(set(ports)) == 1


def test_http_1_0_is_answered_and_closed(house: House) -> None:
    answer = _raw(house, b"GET /who HTTP/1.0\r\nHost: localhost\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200")
    assert b"connection: close" in answer.lower()


def test_tls_connection_ends_with_a_notification(house: House) -> None:
    """A cut connection must be distinguishable from a finished one (RFC 8446 section 6.1)."""
    connection = house.tls().wrap_socket(
        house.connect("gateway"), server_hostname="localhost", suppress_ragged_eofs=False
    )
    with connection:
        connection.sendall(b"GET /who HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 200")


def test_every_address_family_is_served(house: House) -> None:
    port = house.runtime.port("public")
    for host in ("127.0.0.1", "[::1]"):
        assert httpx.get(f"http://{host}:{port}/who", trust_env=False).status_code == 200


def test_correlation_id_is_echoed(house: House) -> None:
    answer = httpx.get(house.url("public", "/who"), headers={"X-Correlation-ID": "order-4711.a:b_c"}, trust_env=False)
    assert answer.headers["x-correlation-id"] == "order-4711.a:b_c"


@pytest.mark.parametrize("insane", ["a b", "x" * 65, "<script>", 'a"b'])
def test_insane_correlation_id_is_replaced(house: House, insane: str) -> None:
    answer = httpx.get(house.url("public", "/who"), headers={"X-Correlation-ID": insane}, trust_env=False)
    assert answer.headers["x-correlation-id"] not in ("", insane)


def test_large_body_is_refused(house: House) -> None:
    answer = httpx.post(house.url("public", "/echo"), content=b"x" * 65537, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (413, "too-large")
    assert answer.headers["content-type"] == "application/problem+json"


def test_large_chunked_body_is_refused(house: House) -> None:
    answer = httpx.post(house.url("public", "/echo"), content=iter([b"x" * 30000] * 3), trust_env=False)
    assert (answer.status_code, answer.json()["limit"]) == (413, 65536)


def test_body_of_the_limit_is_accepted(house: House) -> None:
    for body in (b"x" * 65536, iter([b"x" * 32768] * 2)):
        answer = httpx.post(house.url("public", "/echo"), content=body, trust_env=False)
        assert answer.json() == {"octets": 65536}


def test_oversized_upload_that_waits_for_continue_is_refused_at_once(house: House) -> None:
    head = b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999\r\nExpect: 100-continue\r\n\r\n"
    answer = _raw(house, head)
    assert answer.startswith(b"HTTP/1.1 413")


def test_request_that_takes_too_long_is_answered_504(house: House) -> None:
    answer = httpx.get(house.url("public", "/forever"), timeout=30, trust_env=False)
    assert (answer.status_code, answer.json()["code"]) == (504, "timeout")
    assert answer.headers["connection"] == "close"


def test_body_that_never_comes_is_answered_504(house: House) -> None:
    answer = _raw(house, b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    assert answer.startswith(b"HTTP/1.1 504")


@pytest.mark.parametrize("garbage", [b"\x16\x03\x01\x02\x00\x01\x00", b"HELLO\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n"])
def test_what_is_not_http_is_answered_in_json(house: House, garbage: bytes) -> None:
    head, _, body = _raw(house, garbage + b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert json.loads(body)["code"] == "not-http"


def test_endless_head_is_refused(house: House) -> None:
    with house.connect("public") as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        answer = b""
        try:
            for number in range(5000):
                connection.sendall(b"x-header-%d: %s\r\n" % (number, b"y" * 90))
        except OSError:
            pass  # the server has closed its side already
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            return
    assert b"431" in answer or answer == b""


@pytest.mark.parametrize(
    ("method", "path", "options", "status", "code"),
    [
        ("GET", "/nowhere", {}, 404, "not-found"),
        ("DELETE", "/echo", {}, 405, "method-not-allowed"),
        ("POST", "/items/a", {"content": b"{", "headers": {"content-type": "application/json"}}, 400, "invalid-json"),
        ("POST", "/items/a", {"json": {"name": 5}}, 400, "invalid-input"),
        ("GET", "/refused", {}, 422, "no-luck"),
        ("GET", "/defect", {}, 500, "internal-error"),
    ],
)
def test_refusals_are_problem_documents(
    house: House, method: str, path: str, options: dict[str, object], status: int, code: str
) -> None:
    answer = httpx.request(method, house.url("public", path), trust_env=False, **options)  # type: ignore[arg-type]
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert (answer.status_code, problem["status"], problem["code"]) == (status, status, code)
    assert problem["correlationId"] == answer.headers["x-correlation-id"]


def test_problem_names_the_fields_that_are_wrong(house: House) -> None:
    answer = httpx.post(house.url("public", "/items/a"), json={"name": 5, "size": "many"}, trust_env=False)
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/name", "/size"]


def test_problem_carries_remedy_and_further_members(house: House) -> None:
    problem = httpx.get(house.url("public", "/refused"), trust_env=False).json()
    assert (problem["detail"], problem["remedy"], problem["blocking"]) == ("No.", "Ask again.", ["a"])
    assert problem["errors"] == [{"pointer": "/wish", "message": "No."}]


def test_defect_is_logged_under_the_correlation_id_and_not_told(house: House) -> None:
    answer = httpx.get(house.url("public", "/defect"), headers={"X-Correlation-ID": "defect-1"}, trust_env=False)
    assert "secret" not in answer.text
    logged = eventually(
        lambda: [line for line in house.log.read_text().splitlines() if "defect-1" in line], what="the defect is logged"
    )
    assert "secret inner working" in json.loads(logged[0])["exception"]


def test_access_log_leaves_the_query_out(house: House) -> None:
    with house.http() as http:
        http.get(house.url("console", "/who?token=hidden-value"), headers={"X-Correlation-ID": "look-1"})
    line = eventually(
        lambda: next((text for text in house.log.read_text().splitlines() if "look-1" in text), None),
        what="the request is logged",
    )
    record = json.loads(line)
    assert (record["path"], record["status"], record["listener"]) == ("/who", 200, "console")
    assert "hidden-value" not in house.log.read_text()


def test_secure_listeners_send_security_headers(house: House) -> None:
    with house.http() as http:
        headers = http.get(house.url("console", "/who")).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "max-age" in headers["strict-transport-security"]
    assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
    assert "server" not in headers


def test_admin_socket_names_the_peer_and_is_closed_to_others(house: House) -> None:
    with house.admin() as http:
        peer = http.get("/who").json()["peer"]
    assert peer == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}
    assert stat.S_IMODE((house.folder / "admin.sock").stat().st_mode) == 0o600


def test_answers_in_parts_arrive_whole(house: House) -> None:
    with house.http() as http:
        assert http.get(house.url("console", "/stream")).content == b"x" * 4000


def test_live_and_ready(house: House) -> None:
    assert httpx.get(house.url("health", "/livez"), trust_env=False).json() == {"status": "UP"}
    ready = httpx.get(house.url("health", "/readyz"), trust_env=False)
    assert ready.status_code == 200
    assert {name for name, part in ready.json()["components"].items() if part["status"] == "UP"} == {
        "database", "watch", "clock", "keystore", "diskSpace",
    }  # fmt: skip


def test_actuator_answers_in_the_shape_of_the_gateway(house: House) -> None:
    base = house.url("health", "/cagw/management/actuator")
    assert httpx.get(f"{base}/health", trust_env=False).json() == {"status": "UP", "groups": ["custom"]}
    assert httpx.get(f"{base}/health/custom/ping", trust_env=False).json() == {"status": "UP"}
    disk = httpx.get(f"{base}/health/custom/diskSpace", trust_env=False).json()
    assert set(disk["details"]) == {"total", "free", "threshold", "exists"}
    assert httpx.get(f"{base}/health/other/ping", trust_env=False).status_code == 404
    assert b"intaglio_watch_current" in httpx.get(f"{base}/prometheus", trust_env=False).content


def test_one_scrape_answers_for_all_workers(house: House) -> None:
    served_by = set()
    for _ in range(200):
        served_by.add(httpx.get(house.url("public", "/who"), trust_env=False).json()["pid"])
        if served_by == set(house.workers):
            break
    assert served_by == set(house.workers)
    counted = 'intaglio_requests_total{listener="public",method="GET",role="",route="/who",status="200"}'
    eventually(lambda: counted in _metrics(house), what="the requests are counted")
    text = _metrics(house)
    assert all(f'intaglio_watch_current{{process="{name}"}}' in text for name in ("worker-0", "worker-1", "jobs"))
    assert 'intaglio_certificate_expiry_timestamp_seconds{kind="listener",name="gateway"}' in text


def _connected(house: House, context: ssl.SSLContext) -> ssl.SSLSocket:
    connection = context.wrap_socket(house.connect("gateway"), server_hostname="localhost")
    connection.sendall(b"GET /who HTTP/1.1\r\nHost: localhost\r\n\r\n")
    connection.recv(100)
    return connection


def _exchange(house: House, context: ssl.SSLContext) -> None:
    with _connected(house, context):
        return


def _negotiates(house: House, listener: str, offer: list[str]) -> bool:
    result = subprocess.run(
        ["openssl", "s_client", "-connect", f"localhost:{house.runtime.port(listener)}", *offer],
        input=b"", capture_output=True, check=False, timeout=60,
    )  # fmt: skip
    return b"BEGIN CERTIFICATE" in result.stdout and b"Cipher is (NONE)" not in result.stdout


def _raw(house: House, request: bytes) -> bytes:
    with house.connect("public") as connection:
        connection.sendall(request)
        answer = b""
        while part := _receive(connection):
            answer += part
        return answer


def _receive(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


def _metrics(house: House) -> str:
    return httpx.get(house.url("health", "/metrics"), trust_env=False).text
