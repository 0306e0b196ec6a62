"""The folder of an agent: one version or the other, never half of one."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

from intaglio.core.errors import InvalidInput, StateConflict, Unavailable
from intaglio.mtls.automation.agent import store as module
from intaglio.mtls.automation.agent.options import Options, command_of, filesystem_of, loopback
from intaglio.mtls.automation.agent.store import Store

ABOUT = {
    "identity": "spiffe://prod.example/env/prod/svc/payments",
    "not_before": "2026-01-01T00:00:00Z",
    "not_after": "2026-01-02T00:00:00Z",
}


def files(number: int) -> dict[str, bytes]:
    return {name: f"{name} {number}".encode() for name in ("tls.crt", "tls.key", "ca.crt")}


def installed(store: Store, number: int) -> None:
    store.install(files(number), {**ABOUT, "serial": f"{number:040X}"[::-1]})


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "out")
    made.prepare()
    return made


def test_a_version_is_the_owners_alone(store: Store) -> None:
    installed(store, 1)
    for path in [store.folder, *store.folder.rglob("*")]:
        if not path.is_symlink():
            assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600), path
    version = store.version()
    assert version is not None
    assert version.identity == ABOUT["identity"]
    assert (store.current / "tls.key").read_bytes() == b"tls.key 1"


def test_a_folder_that_others_could_read_is_closed(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    folder.mkdir(mode=0o755)
    Store(folder).prepare()
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.setattr(module.os, "geteuid", lambda: folder.stat().st_uid + 1)
    with pytest.raises(Unavailable) as caught:
        Store(folder).prepare()
    assert caught.value.code == "folder-foreign"


def test_versions_do_not_go_where_a_link_leads(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir(mode=0o755)
    (folder / "versions").symlink_to(elsewhere)
    with pytest.raises(Unavailable) as caught:
        Store(folder).prepare()
    assert caught.value.code == "folder-foreign"
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755


def test_a_key_that_somebody_else_put_there_is_not_used(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.keep_pending(b"ours")
    assert store.pending_key() == b"ours"
    with monkeypatch.context() as patch:
        patch.setattr(module.os, "geteuid", lambda: store.folder.stat().st_uid + 1)
        assert store.pending_key() is None
    store.forget_pending()
    (tmp_path / "theirs").write_bytes(b"theirs")
    (store.folder / "pending.key").symlink_to(tmp_path / "theirs")
    assert store.pending_key() is None


def test_readers_never_see_half_of_two_versions(store: Store) -> None:
    installed(store, 0)
    stop, torn = threading.Event(), []

    def read() -> None:
        while not stop.is_set():
            folder = os.path.realpath(store.current)
            try:
                seen = {Path(folder, name).read_bytes().split()[1] for name in ("tls.crt", "tls.key", "ca.crt")}
            except FileNotFoundError:
                continue  # it was slower than three renewals
            if len(seen) != 1:
                torn.append(seen)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(1, 40):
        installed(store, number)
    stop.set()
    reader.join()
    assert not torn
    assert len(list((store.folder / "versions").iterdir())) == 3


@pytest.mark.parametrize("step", ["_write", "_sync"])
def test_a_full_disk_leaves_the_last_good_version(store: Store, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    installed(store, 1)
    writes = 0

    def full(*_: object) -> None:
        nonlocal writes
        writes += 1
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(module, step, full)
        with pytest.raises(Unavailable) as refused:
            installed(store, 2)
        store.write_state({"at": "now"})  # which must not stop anything
    assert refused.value.code == "folder-unusable"
    assert "Make room" in str(refused.value)
    assert (store.current / "tls.crt").read_bytes() == b"tls.crt 1"
    assert len(list((store.folder / "versions").iterdir())) == 1
    installed(store, 2)
    assert (store.current / "tls.crt").read_bytes() == b"tls.crt 2"


def test_two_agents_on_one_folder_are_refused(store: Store) -> None:
    with store.locked():
        with pytest.raises(StateConflict) as refused, Store(store.folder).locked():
            pass
        assert refused.value.code == "folder-in-use"
    with Store(store.folder).locked():
        pass


@pytest.mark.parametrize("damage", ["about.json", "current", "state.json"])
def test_a_damaged_folder_is_an_empty_one(store: Store, damage: str) -> None:
    installed(store, 1)
    target = store.current / damage if damage == "about.json" else store.folder / damage
    if damage == "current":
        target.unlink()
        target.symlink_to("versions/gone")
    else:
        target.write_bytes(b"[\xff")
    assert damage == "state.json" or store.version() is None
    assert store.read_state() == {}


def test_memory_means_memory(tmp_path: Path) -> None:
    mounts = [
        "22 1 8:1 / / rw - ext4 /dev/sda1 rw",
        "25 22 0:5 / /run rw,nosuid - tmpfs tmpfs rw",
        "29 25 8:2 / /run/disk\\040one rw - xfs /dev/sdb rw",
    ]
    assert filesystem_of(Path("/run/payments"), mounts) == "tmpfs"
    assert filesystem_of(Path("/run/disk one/payments"), mounts) == "xfs"
    assert filesystem_of(Path("/var/lib/x"), mounts) == "ext4"
    if filesystem_of(tmp_path) not in ("tmpfs", "ramfs"):
        with pytest.raises(InvalidInput) as refused:
            Options("https://pki.example:1443", tmp_path / "x", in_memory=True).check()
        assert refused.value.code == "not-in-memory"


@pytest.mark.parametrize(
    "server", ["http://pki.example", "pki.example", "https://", "https://pki.example/mtls", "https://x?y=1"]
)
def test_servers_are_reached_by_https_only(tmp_path: Path, server: str) -> None:
    with pytest.raises(InvalidInput):
        Options(server, tmp_path).check()


def test_commands_are_arguments_and_metrics_stay_at_home() -> None:
    assert command_of("nginx -s 'reload it' $(rm)") == ("nginx", "-s", "reload it", "$(rm)")
    with pytest.raises(InvalidInput):
        command_of("nginx 'open")
    assert loopback("[::1]:9750") == ("::1", 9750)
    for wrong in ("0.0.0.0:9750", "9750", "127.0.0.1:x", "192.0.2.1:80"):
        with pytest.raises(InvalidInput):
            loopback(wrong)
