"""Binding addresses, the admin socket, and the runtime file that names them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from intaglio.core.errors import StateConflict, Unavailable
from intaglio.core.settings import Listener, Settings
from intaglio.server import listeners, unix_socket
from intaglio.server.runtime import Address, Bound, Runtime, read_runtime, remove_runtime, write_runtime
from intaglio.server.unix_socket import admitted, bind_admin_socket, peer_of


def test_free_port_is_the_same_for_every_address_family(tmp_path: Path) -> None:
    bound = listeners.bind(Settings(data_dir=tmp_path, public=Listener(port=0)), ["public"])["public"]
    addresses = bound.bound.addresses
    bound.close()
    assert [address.host for address in addresses] == ["0.0.0.0", "::"]
    assert len({address.port for address in addresses}) == 1
    assert addresses[0].port != 0


def test_a_peer_that_is_gone_is_noticed(tmp_path: Path) -> None:
    bound = listeners.bind(Settings(data_dir=tmp_path, public=Listener(host="127.0.0.1", port=0)), ["public"])["public"]
    listening = bound.sockets[0]
    listening.setblocking(True)
    with socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
    with accepted:
        assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 180
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 60_000
    bound.close()


def test_disabled_listener_is_left_out(tmp_path: Path) -> None:
    assert listeners.bind(Settings(data_dir=tmp_path, public=Listener(port=0, enabled=False)), ["public"]) == {}


@pytest.mark.parametrize(("host", "scheme"), [("127.0.0.1", "http"), ("::1", "http"), ("0.0.0.0", "https")])
def test_decisions_are_asked_for_in_the_clear_on_this_host_only(tmp_path: Path, host: str, scheme: str) -> None:
    bound = listeners.bind(Settings(data_dir=tmp_path, access=Listener(host=host, port=0)), ["access"])["access"]
    secure, found = bound.kind.secure, bound.bound.scheme
    bound.close()
    assert (secure, found) == (scheme == "https", scheme)


def test_taken_address_names_listener_and_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "_BIND_PATIENCE", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(data_dir=tmp_path, public=Listener(host="127.0.0.1", port=taken.getsockname()[1]))
        with pytest.raises(StateConflict, match='"public" is in use') as refused:
            listeners.bind(settings, ["public"])
    assert "INTAGLIO_PUBLIC__PORT" in refused.value.remedy


def test_foreign_address_is_refused_and_nothing_stays_bound(tmp_path: Path) -> None:
    settings = Settings(
        data_dir=tmp_path, public=Listener(port=0), health=Listener(host="192.0.2.1", port=0), hostname="localhost"
    )
    with pytest.raises(Unavailable, match='"health" cannot be bound'):
        listeners.bind(settings, ["admin", "public", "health"])
    with pytest.raises(ConnectionRefusedError), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(settings.admin_socket_path))


def test_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    bind_admin_socket(path).close()
    assert path.exists()
    bind_admin_socket(path).close()


def test_socket_of_a_living_server_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    with bind_admin_socket(path), pytest.raises(StateConflict, match="Another server answers"):
        bind_admin_socket(path)


def test_file_in_the_place_of_the_socket_is_respected(tmp_path: Path) -> None:
    path = tmp_path / "admin.sock"
    path.write_text("precious")
    with pytest.raises(StateConflict, match="not a socket"):
        bind_admin_socket(path)
    assert path.read_text() == "precious"


def test_path_too_long_for_a_socket_is_explained(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="too long"):
        bind_admin_socket(tmp_path / ("x" * 120))


def test_peer_is_the_process_at_the_other_end(tmp_path: Path) -> None:
    with bind_admin_socket(tmp_path / "admin.sock") as listening, socket.socket(socket.AF_UNIX) as client:
        listening.setblocking(True)
        client.connect(str(tmp_path / "admin.sock"))
        accepted, _ = listening.accept()
        with accepted:
            assert peer_of(accepted) == {"pid": os.getpid(), "uid": os.getuid(), "gid": os.getgid()}


def test_only_root_and_the_own_account_are_admitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unix_socket.os, "geteuid", lambda: 1000)
    assert [uid for uid in (0, 1, 999, 1000, 1001, 65534) if admitted({"uid": uid})] == [0, 1000]


def test_runtime_is_read_as_it_was_written(tmp_path: Path) -> None:
    bound = Bound("https", (Address("0.0.0.0", 8444), Address("::", 8444)))
    runtime = Runtime(os.getpid(), "2026-01-01T00:00:00Z", True, {"gateway": bound}, "/run/a.sock", {"worker-0": 7})
    write_runtime(tmp_path, runtime)
    assert read_runtime(tmp_path) == runtime
    assert read_runtime(tmp_path).port("gateway") == 8444
    with pytest.raises(Unavailable, match='"console" does not run here'):
        runtime.port("console")
    remove_runtime(tmp_path)
    with pytest.raises(Unavailable, match="No server runs"):
        read_runtime(tmp_path)


def test_runtime_of_a_dead_server_does_not_count(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    write_runtime(tmp_path, Runtime(child, "2026-01-01T00:00:00Z"))
    with pytest.raises(Unavailable, match="No server runs"):
        read_runtime(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"pid": 1}', '{"listeners": {"a": 1}}'])
def test_damaged_runtime_file_counts_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "runtime.json").write_text(content)
    with pytest.raises(Unavailable):
        read_runtime(tmp_path)
