"""What an operator notices: starting, reloading, losing processes, stopping."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from pydantic import SecretStr
from tests.server import certificates
from tests.server.certificates import Credential
from tests.server.running import PATIENCE, House, eventually

from intaglio.core.errors import InvalidInput
from intaglio.core.settings import Settings
from intaglio.db.embedded import EmbeddedPostgres
from intaglio.server.runtime import read_runtime
from intaglio.server.supervisor import Supervisor

NewHouse = Callable[..., House]


@pytest.fixture
def running(new_house: NewHouse) -> House:
    return new_house().start()


def test_killed_worker_is_replaced(running: House) -> None:
    (before,) = running.workers
    os.kill(before, signal.SIGKILL)
    after = eventually(
        lambda: running.runtime.ready and running.workers and running.workers != [before] and running.workers,
        what="the worker is replaced",
    )
    with running.http() as http:
        assert http.get(running.url("gateway", "/who")).json()["pid"] in after


def test_replaced_worker_continues_the_counters(running: House) -> None:
    counted = 'intaglio_requests_total{listener="public",method="GET",role="",route="/who",status="200"} '
    httpx.get(running.url("public", "/who"), trust_env=False)
    eventually(lambda: f"{counted}1.0" in _metrics(running), what="the request is counted")
    (before,) = running.workers
    os.kill(before, signal.SIGKILL)
    eventually(lambda: running.runtime.ready and running.workers not in ([], [before]), what="the worker is replaced")
    httpx.get(running.url("public", "/who"), trust_env=False)
    eventually(lambda: f"{counted}2.0" in _metrics(running), what="the next request is counted with the first")
    assert 'intaglio_process_restarts_total{process="worker-0"} 1.0' in _metrics(running)


def test_second_server_on_the_same_folder_is_refused(running: House) -> None:
    second = running.launch()
    assert second.wait(PATIENCE) == 1
    assert (running.folder / "failure").read_text() == "already-running"
    assert f"process {running.runtime.pid}" in running.log.read_text()
    assert httpx.get(running.url("public", "/who"), trust_env=False).status_code == 200


def test_taken_address_is_refused_with_its_name(running: House, new_house: NewHouse) -> None:
    other = new_house(GATEWAY__PORT=str(running.runtime.port("gateway")))
    assert other.launch().wait(PATIENCE) == 1
    assert (other.folder / "failure").read_text() == "address-in-use"
    assert 'listener "gateway"' in other.log.read_text()


def test_missing_master_key_is_refused_with_the_remedy(new_house: NewHouse) -> None:
    house = new_house()
    (house.folder / "master.key").unlink()
    assert house.launch().wait(PATIENCE) == 1
    assert (house.folder / "failure").read_text() == "master-key-missing"


def test_request_in_flight_is_finished_at_shutdown(running: House) -> None:
    answers: list[httpx.Response] = []
    address = running.url("public", "/wait")
    request = threading.Thread(target=lambda: answers.append(httpx.get(address, timeout=PATIENCE, trust_env=False)))
    request.start()
    eventually((running.folder / "waiting").exists, what="the request is being answered")
    assert running.process is not None
    running.process.send_signal(signal.SIGTERM)
    eventually(lambda: _refuses(address), what="new connections are refused")
    (running.folder / "release").touch()
    request.join(PATIENCE)
    assert running.process.wait(PATIENCE) == 0
    assert (answers[0].status_code, answers[0].json()) == (200, {"released": True})


def test_request_that_does_not_end_is_cut_off_at_shutdown(new_house: NewHouse) -> None:
    house = new_house(SHUTDOWN_TIMEOUT="0.3").start()
    with house.connect("public") as connection:
        connection.sendall(b"GET /wait HTTP/1.1\r\nHost: a\r\n\r\n")
        eventually((house.folder / "waiting").exists, what="the request is being answered")
        assert house.stop() == 0
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"shutting-down" in answer


def test_idle_connections_do_not_hold_the_shutdown_up(running: House) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", running.runtime.port("public"), timeout=PATIENCE)
    connection.request("GET", "/who")
    connection.getresponse().read()
    assert running.stop() == 0
    assert connection.sock is not None
    assert connection.sock.recv(1) == b""


def test_stopped_server_leaves_no_traces(running: House) -> None:
    pids = [running.runtime.pid, *running.runtime.processes.values()]
    assert running.stop() == 0
    assert not any(_alive(pid) for pid in pids)
    assert not (running.folder / "runtime.json").exists()
    assert not (running.folder / "admin.sock").exists()


def test_processes_end_when_the_supervisor_is_killed_and_the_next_one_starts(running: House) -> None:
    orphans = list(running.runtime.processes.values())
    assert running.process is not None
    running.process.kill()
    running.process.wait()
    running.start()
    assert not set(orphans) & set(running.runtime.processes.values())
    assert not any(_alive(pid) for pid in orphans)
    with running.admin() as admin:
        assert admin.get("/who").status_code == 200


def test_process_that_keeps_dying_ends_the_server_with_a_clear_word(new_house: NewHouse) -> None:
    house = new_house()
    process = house.process = house.launch(HOUSE_JOBS="fail")
    assert process.wait(PATIENCE) == 1
    log = house.log.read_text()
    assert "process keeps dying right after its start; giving up" in log
    assert "this job engine never works" in log


def test_new_certificate_is_used_without_dropping_connections(running: House) -> None:
    connection = _connect(running)
    assert _served_name(connection) == "localhost"
    running.use_server_certificate(certificates.server(running.server_ca, "renewed"))
    eventually(lambda: _name_of_new_connection(running) == "renewed", what="the new certificate is served")
    connection.request("GET", "/who")
    assert connection.getresponse().status == 200
    assert _served_name(connection) == "localhost"


@pytest.mark.parametrize("broken", ["foreign key", "no certificate"])
def test_broken_certificate_leaves_the_old_one_in_use(running: House, broken: str) -> None:
    if broken == "foreign key":
        (running.folder / "server.key").write_bytes(certificates.server(running.server_ca).key_pem)
    else:
        (running.folder / "server.pem").write_text("nothing")
    eventually(lambda: "the TLS certificate stays as it was" in running.log.read_text(), what="it is reported")
    assert _name_of_new_connection(running) == "localhost"


def test_trust_is_reloaded_on_sighup(running: House) -> None:
    second = certificates.authority("second client authority")
    credential = certificates.client(second)
    assert not _admitted(running, credential)
    running.trust("second", second)
    os.kill(running.runtime.pid, signal.SIGHUP)
    eventually(lambda: _admitted(running, credential), what="the new client authority is trusted")
    (running.folder / "trusted" / "second.der").unlink()
    os.kill(running.runtime.pid, signal.SIGHUP)
    eventually(lambda: not _admitted(running, credential), what="the client authority is not trusted any more")


def test_further_client_authorities_come_from_a_file(new_house: NewHouse, tmp_path: Path) -> None:
    extra = certificates.authority("partner authority")
    (tmp_path / "partners.pem").write_bytes(extra.pem)
    house = new_house(GATEWAY_TRUST=str(tmp_path / "partners.pem")).start()
    assert _admitted(house, certificates.client(extra))
    with house.http(certificates.client(extra)) as client:  # seen at enrolment, where it is trusted with nothing
        seen = client.get(house.url("enroll", "/who")).json()
    assert seen["fingerprint"] is None
    assert seen["error"]
    assert seen["observed"]


def test_only_the_wanted_services_listen(new_house: NewHouse) -> None:
    house = new_house(ONLY="ocsp").start(HOUSE_JOBS="forever")
    assert set(house.runtime.listeners) == {"public", "health"}
    assert set(house.runtime.processes) == {"worker-0"}
    assert not (house.folder / "admin.sock").exists()


def test_service_manager_is_told_when_all_is_ready(new_house: NewHouse, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        house = new_house()
        house.start(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert manager.recv(100) == b"READY=1"
        house.stop()
        assert manager.recv(100) == b"STOPPING=1"


def test_without_the_database_requests_are_answered_503(new_house: NewHouse) -> None:
    nowhere = "postgresql://nobody@127.0.0.1:1/nothing"
    house = new_house(nowhere)
    house.process = house.launch()
    eventually(lambda: _answers(house), what="the worker answers without a database")
    refused = httpx.get(house.url("public", "/database"), trust_env=False)
    assert (refused.status_code, refused.json()["code"]) == (503, "database-unavailable")
    assert refused.headers["retry-after"] == "1"
    assert httpx.get(house.url("health", "/livez"), trust_env=False).status_code == 200
    ready = httpx.get(house.url("health", "/readyz"), trust_env=False, timeout=PATIENCE)
    assert ready.status_code == 503
    assert ready.json()["components"]["database"]["details"]["code"] == "database-unavailable"
    assert house.runtime.ready is False
    assert house.stop() == 0


def test_a_database_elsewhere_that_is_not_verified_is_refused_before_anything_starts(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=SecretStr("postgresql://ca@192.0.2.1/pki?sslmode=require"))
    with pytest.raises(InvalidInput) as refused:
        Supervisor(settings, lambda _: pytest.fail("nothing is composed"))
    assert refused.value.code == "database-tls-required"


@pytest.fixture
def embedded(new_house: NewHouse) -> Iterator[House]:
    house = new_house(None)
    house.folder.parent.chmod(0o711)
    yield house.start()
    house.destroy()


def test_killed_database_is_started_again(embedded: House) -> None:
    postgres = EmbeddedPostgres(embedded.folder)
    before = postgres.pid
    assert before is not None
    os.kill(before, signal.SIGKILL)
    eventually(lambda: postgres.pid not in (None, before), what="the database is started again")
    address = embedded.url("health", "/readyz")
    eventually(lambda: httpx.get(address, trust_env=False, timeout=PATIENCE).status_code == 200, what="all is well")


def test_database_stops_last_and_with_the_server(embedded: House) -> None:
    postgres = EmbeddedPostgres(embedded.folder)
    assert embedded.stop() == 0
    assert postgres.pid is None


def test_database_of_a_killed_supervisor_is_adopted_and_stopped_in_the_end(embedded: House) -> None:
    postgres = EmbeddedPostgres(embedded.folder)
    before = postgres.pid
    assert embedded.process is not None
    embedded.process.kill()
    embedded.process.wait()
    embedded.start()
    assert postgres.pid == before
    assert embedded.stop() == 0
    assert postgres.pid is None


def _metrics(house: House) -> str:
    return httpx.get(house.url("health", "/metrics"), trust_env=False).text


def _connect(house: House) -> http.client.HTTPSConnection:
    port = house.runtime.port("gateway")
    connection = http.client.HTTPSConnection("localhost", port, context=house.tls(), timeout=PATIENCE)
    connection.connect()
    return connection


def _served_name(connection: http.client.HTTPSConnection) -> str:
    assert isinstance(connection.sock, ssl.SSLSocket)
    der = connection.sock.getpeercert(binary_form=True)
    assert der is not None
    return x509.load_der_x509_certificate(der).subject.rfc4514_string().removeprefix("CN=")


def _name_of_new_connection(house: House) -> str:
    connection = _connect(house)
    try:
        return _served_name(connection)
    finally:
        connection.close()


def _admitted(house: House, credential: Credential) -> bool:
    try:
        with house.http(credential) as client:
            return client.get(house.url("gateway", "/who")).status_code == 200
    except httpx.TransportError:
        return False


def _answers(house: House) -> bool:
    assert house.process is not None
    assert house.process.poll() is None, house.log.read_text()
    try:
        runtime = read_runtime(house.folder)
        return httpx.get(f"http://127.0.0.1:{runtime.port('health')}/livez", trust_env=False).status_code == 200
    except Exception:
        return False


def _refuses(address: str) -> bool:
    try:
        httpx.get(address.replace("/wait", "/who"), trust_env=False, timeout=1)
    except httpx.ConnectError:
        return True
    except httpx.TransportError:
        return False
    return False


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
