from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from tests.support.eventually import eventually

from intaglio.core.errors import Unavailable
from intaglio.db.embedded import EmbeddedPostgres


def ask(server: EmbeddedPostgres, statement: str) -> object:
    with psycopg.connect(server.url, autocommit=True) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


async def kill(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    os.kill(server.pid, signal.SIGKILL)
    if server._process is not None:
        await asyncio.to_thread(server._process.wait)
    await eventually(lambda: server.pid is None)


def test_a_server_is_created_in_an_empty_folder_and_keeps_its_data(own_server: EmbeddedPostgres) -> None:
    ask(own_server, "CREATE TABLE kept AS SELECT 7 AS value")
    own_server.stop()
    assert own_server.pid is None
    own_server.start()
    assert ask(own_server, "SELECT value FROM kept") == (7,)


def test_the_server_listens_on_no_port_and_only_its_owner_reaches_the_socket(own_server: EmbeddedPostgres) -> None:
    assert ask(own_server, "SHOW listen_addresses") == ("",)
    assert stat.S_IMODE(own_server._socket_dir.stat().st_mode) == 0o700


def test_a_running_server_is_adopted_and_not_stopped_by_the_adopter(
    own_server: EmbeddedPostgres, postgres_folder: Path
) -> None:
    adopter = EmbeddedPostgres(postgres_folder)
    adopter.start()
    assert adopter.pid == own_server.pid
    adopter.stop()
    assert ask(own_server, "SELECT 1") == (1,)


async def test_a_killed_server_is_started_again_without_loss(own_server: EmbeddedPostgres) -> None:
    ask(own_server, "CREATE TABLE kept AS SELECT 7 AS value")
    assert own_server.ensure_running() is False
    await kill(own_server)
    assert own_server.ensure_running() is True
    assert ask(own_server, "SELECT value FROM kept") == (7,)


async def test_a_killed_server_whose_children_still_live_is_waited_for(own_server: EmbeddedPostgres) -> None:
    """New server and old children on one shared memory would damage the data."""
    with psycopg.connect(own_server.url, autocommit=True) as connection:
        child = connection.info.backend_pid
        os.kill(child, signal.SIGSTOP)
        await kill(own_server)
        starting = asyncio.create_task(asyncio.to_thread(own_server.ensure_running))
        await eventually(lambda: "shared memory" in own_server._last_log_lines())
        assert not starting.done()
        os.kill(child, signal.SIGCONT)
        assert await starting
    assert ask(own_server, "SELECT 1") == (1,)


async def test_lock_files_with_a_reused_process_id_do_not_hinder(own_server: EmbeddedPostgres) -> None:
    locks = [own_server._cluster / "postmaster.pid", own_server._socket_dir / ".s.PGSQL.5432.lock"]
    left_behind = [lock.read_text().split("\n") for lock in locks]
    own_server.stop()
    for lock, lines in zip(locks, left_behind, strict=True):
        lock.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    assert own_server.pid is None
    own_server.start()
    assert own_server.pid not in (None, os.getpid())
    assert ask(own_server, "SELECT 1") == (1,)


def test_processes_that_start_at_once_share_one_server(postgres_folder: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from intaglio.db.embedded import EmbeddedPostgres\n"
        "server = EmbeddedPostgres(Path(sys.argv[1])); server.start(); print('pid', server.pid, flush=True)\n"
        "sys.stdin.read(); server.stop()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(postgres_folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for _ in range(3)
    ]
    reported = []
    for process in started:
        assert process.stdout is not None
        reported.append(next(line for line in process.stdout if line.startswith(b"pid ")))
    assert len(set(reported)) == 1
    for process in started:
        process.communicate()
    assert [process.returncode for process in started] == [0, 0, 0]


def test_a_long_path_gets_a_socket_elsewhere(postgres_folder: Path) -> None:
    deep = postgres_folder / ("d" * 60) / ("e" * 60)
    deep.mkdir(parents=True)
    for folder in (deep, deep.parent):
        folder.chmod(0o711)
    server = EmbeddedPostgres(deep)
    try:
        server.start()
        assert ask(server, "SELECT 1") == (1,)
    finally:
        server.stop()
        server._socket_dir.rmdir()


def test_a_socket_folder_put_there_by_somebody_else_is_refused(postgres_folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    server = EmbeddedPostgres(postgres_folder)
    server._socket_dir = postgres_folder / "link"
    server._socket_dir.symlink_to(elsewhere)
    with pytest.raises(Unavailable) as refused:
        server.start()
    assert refused.value.code == "data-folder-foreign"
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
    assert elsewhere.stat().st_uid == os.geteuid()
    assert not list(elsewhere.iterdir())


def test_what_the_account_of_the_server_left_as_links_is_not_followed(own_server: EmbeddedPostgres) -> None:
    own_server.stop()
    home, cluster = own_server._home, own_server._cluster
    victim = home.parent / "master.key"
    victim.write_text("secret")
    victim.chmod(0o600)
    before = victim.stat()
    for name in ("pg_hba.conf", "pg_ident.conf", "intaglio.conf", "pg_hba.conf.new"):
        (cluster / name).unlink(missing_ok=True)
        (cluster / name).symlink_to(victim)
    own_server.start()
    after = victim.stat()
    assert (victim.read_text(), after.st_uid, after.st_mode) == ("secret", before.st_uid, before.st_mode)
    assert not (cluster / "pg_hba.conf").is_symlink()


@pytest.mark.parametrize("name", ["start.lock", "server.log"])
def test_a_link_in_place_of_our_files_is_refused(own_server: EmbeddedPostgres, name: str) -> None:
    own_server.stop()
    victim = own_server._home.parent / "master.key"
    victim.write_text("secret")
    (own_server._home / name).unlink()
    (own_server._home / name).symlink_to(victim)
    with pytest.raises(Unavailable):
        own_server.start()
    assert victim.read_text() == "secret"


def test_the_account_of_the_server_cannot_replace_files_that_we_open(own_server: EmbeddedPostgres) -> None:
    assert own_server._home.stat().st_uid == os.geteuid()
    assert own_server._cluster.stat().st_uid == own_server._socket_dir.stat().st_uid
    assert stat.S_IMODE((own_server._home / "server.log").stat().st_mode) == 0o600


def test_a_folder_that_cannot_be_used_is_said_so(postgres_folder: Path) -> None:
    (postgres_folder / "postgres").write_text("a file where the folder should be")
    with pytest.raises(Unavailable) as refused:
        EmbeddedPostgres(postgres_folder).start()
    assert str(postgres_folder) in refused.value.remedy


def test_a_server_that_does_not_start_shows_the_end_of_its_log(own_server: EmbeddedPostgres) -> None:
    own_server.stop()
    with open(own_server._cluster / "postgresql.conf", "a") as configuration:
        configuration.write("\nshared_buffers = 'plenty'\n")
    with pytest.raises(Unavailable) as refused:
        own_server.start()
    assert "plenty" in refused.value.detail or "configuration file" in refused.value.detail
