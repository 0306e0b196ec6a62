"""Which account the embedded database gets when root starts it. What accounts there are is made up here."""

from __future__ import annotations

import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from intaglio.core.errors import Unavailable
from intaglio.db import server_account
from intaglio.db.embedded import EmbeddedPostgres

NUMBERS = {"root": 0, "postgres": 101, "nobody": 65534, "intaglio": 998, "intaglio-db": 997}


class Accounts:
    """The accounts of a machine on which we are root. ``useradd`` is what the command does there."""

    def __init__(self, *names: str) -> None:
        self.names = set(names)
        self.commands: list[list[str]] = []
        self.useradd: Callable[[], int] = lambda: self.names.add("intaglio-db") or 0  # type: ignore[func-returns-value]

    def by_name(self, name: str) -> pwd.struct_passwd:
        if name not in self.names:
            raise KeyError(name)
        return pwd.struct_passwd((name, "x", NUMBERS[name], NUMBERS[name], "", "/nonexistent", "/usr/sbin/nologin"))

    def by_number(self, number: int) -> pwd.struct_passwd:
        return self.by_name(next((name for name, each in NUMBERS.items() if each == number), str(number)))

    def run(self, command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        self.commands.append(command)
        status = self.useradd()
        return subprocess.CompletedProcess(command, status, "", "cannot open /etc/passwd" if status else "")


class Folders:
    """A data folder and a cluster whose owners are as they are said to be."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data, self.cluster = folder, folder / "postgres" / "data"
        self.cluster.mkdir(parents=True)
        self._owners: dict[Path, int] = {}
        real = Path.stat

        def stat(path: Path, **options: Any) -> os.stat_result:
            found = real(path, **options)
            if path not in self._owners:
                return found
            return os.stat_result([*found[:4], self._owners[path], *found[5:]])

        monkeypatch.setattr(Path, "stat", stat)
        self.belong(self.data, 0)

    def belong(self, path: Path, owner: int) -> None:
        self._owners[path] = owner

    def initialized(self, owner: int) -> None:
        """There is a cluster of this owner."""
        (self.cluster / "PG_VERSION").write_text("18")
        self.belong(self.cluster, owner)

    def account(self) -> str | None:
        found = server_account.server_account(self.data, self.cluster)
        return found.pw_name if found else None


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    made = Accounts("root", "nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(pwd, "getpwnam", made.by_name)
    monkeypatch.setattr(pwd, "getpwuid", made.by_number)
    monkeypatch.setattr(server_account.subprocess, "run", made.run)
    monkeypatch.setattr(server_account.shutil, "which", lambda name, path: f"/usr/sbin/{name}")
    return made


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folders:
    return Folders(tmp_path, monkeypatch)


def test_an_ordinary_user_runs_the_server_himself(accounts: Accounts, folders: Folders) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: 1000)
        assert folders.account() is None


def test_the_account_for_it_is_taken_before_any_other(accounts: Accounts, folders: Folders) -> None:
    accounts.names |= {"intaglio-db", "intaglio", "postgres"}
    assert folders.account() == "intaglio-db"
    assert accounts.commands == []


def test_a_missing_account_is_created_without_a_shell_and_a_home(accounts: Accounts, folders: Folders) -> None:
    accounts.names |= {"postgres", "intaglio"}
    with capture_logs() as logs:
        assert folders.account() == "intaglio-db"
    [command] = accounts.commands
    assert command[0] == "/usr/sbin/useradd"
    assert {"--system", "--no-create-home", "/usr/sbin/nologin"} <= set(command)
    assert command[-1] == "intaglio-db"
    assert [(each["log_level"], each["account"]) for each in logs] == [("info", "intaglio-db")]


def test_an_account_that_another_process_made_meanwhile_is_taken(accounts: Accounts, folders: Folders) -> None:
    create = accounts.useradd
    accounts.useradd = lambda: create() or 9
    assert folders.account() == "intaglio-db"


def test_the_account_of_postgresql_stands_in_with_a_warning(accounts: Accounts, folders: Folders) -> None:
    accounts.names.add("postgres")
    accounts.useradd = lambda: 1
    with capture_logs() as logs:
        assert folders.account() == "postgres"
    assert [each["log_level"] for each in logs] == ["warning", "warning"]
    assert "cannot open /etc/passwd" in logs[0]["reason"]
    assert "useradd --system" in logs[1]["remedy"]


@pytest.mark.parametrize("failure", ["refused", "no useradd", "not runnable", "hanging"])
def test_what_everybody_uses_is_refused(
    accounts: Accounts, folders: Folders, monkeypatch: pytest.MonkeyPatch, failure: str
) -> None:
    if failure == "no useradd":
        monkeypatch.setattr(server_account.shutil, "which", lambda name, path: None)

    def fail() -> int:
        if failure == "not runnable":
            raise PermissionError("useradd")
        if failure == "hanging":
            raise subprocess.TimeoutExpired("useradd", 60)
        return 1

    accounts.useradd = fail
    with pytest.raises(Unavailable) as refused:
        folders.account()
    assert refused.value.code == "database-account-missing"
    assert "useradd --system" in refused.value.remedy


def test_the_account_of_the_service_has_the_database_in_its_data_folder(accounts: Accounts, folders: Folders) -> None:
    accounts.names |= {"intaglio", "intaglio-db"}
    folders.belong(folders.data, NUMBERS["intaglio"])
    assert folders.account() == "intaglio"


@pytest.mark.parametrize("name", ["postgres", "intaglio", "nobody"])
def test_a_cluster_keeps_its_owner(accounts: Accounts, folders: Folders, name: str) -> None:
    accounts.names |= {"intaglio-db", name}
    folders.initialized(NUMBERS[name])
    with capture_logs() as logs:
        assert folders.account() == name
    assert ["chown -R intaglio-db:" in each["remedy"] for each in logs] == ([True] if name == "nobody" else [])


def test_a_cluster_whose_owner_has_no_name_is_left_alone(accounts: Accounts, folders: Folders) -> None:
    accounts.names.add("intaglio-db")
    folders.initialized(4711)
    with pytest.raises(Unavailable) as refused:
        folders.account()
    assert refused.value.code == "database-account-missing"
    assert "--uid 4711" in refused.value.remedy


def test_an_account_that_is_root_is_none(accounts: Accounts, folders: Folders, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts.names |= {"intaglio-db", "postgres"}
    monkeypatch.setitem(NUMBERS, "intaglio-db", 0)
    assert folders.account() == "postgres"


def test_a_running_server_has_the_account_that_owns_its_data(own_server: EmbeddedPostgres) -> None:
    cluster = own_server._cluster
    account = server_account.server_account(cluster.parents[1], cluster)
    assert (account.pw_uid if account else os.geteuid()) == cluster.stat().st_uid
    assert Path(f"/proc/{own_server.pid}").stat().st_uid == cluster.stat().st_uid != 0
