"""The database as the rest of Intaglio sees it: transactions, reads, raw connections and listening."""

from __future__ import annotations

import asyncio
import contextlib
import select
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

import psycopg
from psycopg import waiting
from psycopg.abc import RV, PQGen
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import Executable, text
from sqlalchemy.engine import CursorResult
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from intaglio.core import clock
from intaglio.core.clock import monotonic
from intaglio.core.errors import InvalidInput, StateConflict, TimedOut, Unavailable
from intaglio.core.logging import get_logger
from intaglio.db.journal import Pending, Stream, flush

log = get_logger(__name__)

#: A row by column (or column name).
Row = Mapping[Any, Any]

_CONNECT_TIMEOUT = 5
_GRACE = 2.0  # seconds beyond the statement timeout in which the server has to say that it stopped a statement
_FAREWELL = 0.5  # seconds a server may take to hear that a statement is no longer wanted


class Transaction:
    """One database transaction plus what must be journalled at its end.

    ``now`` is the instant at which the whole transaction happens.
    """

    def __init__(self, connection: AsyncConnection) -> None:
        self.connection = connection
        self.now: datetime = clock.now().replace(microsecond=0)
        self.pending = Pending()
        self._after_commit: list[Callable[[], None]] = []
        self._after_rollback: list[Callable[[], None]] = []

    async def execute(self, statement: Executable, parameters: Any = None) -> CursorResult[Any]:
        """Run a statement. Parameters: a mapping, or a list of mappings for many rows."""
        result: CursorResult[Any] = await self.connection.execute(statement, parameters)
        return result

    async def one_or_none(self, statement: Executable, parameters: Any = None) -> Row | None:
        """The only row as a mapping, or None."""
        return (await self.connection.execute(statement, parameters)).mappings().one_or_none()

    async def all(self, statement: Executable, parameters: Any = None) -> Sequence[Row]:
        """All rows as mappings."""
        return (await self.connection.execute(statement, parameters)).mappings().all()

    async def scalar(self, statement: Executable, parameters: Any = None) -> Any:
        """The first column of the first row, or None."""
        return (await self.connection.execute(statement, parameters)).scalar()

    def append(self, stream: Stream, row: Mapping[str, Any]) -> None:
        """Add a row to a journalled stream; it gets its number at the end of the transaction."""
        self.pending.append(stream, row)

    def changed_configuration(self) -> None:
        """Move the configuration epoch: every process reloads its snapshot before it decides again."""
        self.pending.configuration_changed = True

    def expect_epoch(self, epoch: int) -> None:
        """Commit only if the configuration epoch is still ``epoch``; otherwise EpochMoved is raised at the end."""
        self.pending.expected_epoch = epoch

    def notify(self, channel: str) -> None:
        """Wake listeners of ``channel`` when (and only when) this transaction commits."""
        self.pending.notify.add(channel)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call in this process once the commit is durable."""
        self._after_commit.append(call)

    def after_rollback(self, call: Callable[[], None]) -> None:
        """Call in this process when the transaction came to nothing, to take back what was done outside the database.

        Not called when the process ends meanwhile, nor when the connection is lost during the commit, since then nobody
        knows whether it took place: what is left behind must be harmless.
        """
        self._after_rollback.append(call)


class Database:
    """Connections to one PostgreSQL database.

    Arguments: ``url`` as libpq understands it (several hosts and ``target_session_attrs`` included); ``pool_size`` in
    connections; ``timeout`` in seconds, for connecting to the pool and for every statement.

    All methods raise Unavailable (code ``database-unavailable``) when PostgreSQL cannot be reached, and TimedOut when
    a statement exceeds the timeout, whether PostgreSQL says so itself or has fallen silent.
    """

    def __init__(self, url: str, *, pool_size: int = 8, timeout: float = 10.0) -> None:
        self.url = url
        self.timeout = timeout
        self._engine: AsyncEngine = create_async_engine(
            "postgresql+psycopg://",
            async_creator=self._connect,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout,
            pool_pre_ping=True,
            pool_recycle=1800,
        )

    async def close(self) -> None:
        await self._engine.dispose()

    @property
    def connections_in_use(self) -> int:
        """Pooled connections that are checked out at this moment."""
        pool = self._engine.pool
        return pool.checkedout() if isinstance(pool, AsyncAdaptedQueuePool) else 0

    @contextlib.asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A read-write transaction; commits when the block ends normally, rolls back otherwise."""
        finished = False
        with translated_errors():
            async with self._engine.connect() as connection:
                tx = Transaction(connection)
                try:
                    async with connection.begin():
                        yield tx
                        if tx.pending:
                            await flush(connection, tx.pending)
                        finished = True
                except BaseException:
                    if not finished:  # otherwise the commit itself failed, and nobody knows whether it took place
                        for call in tx._after_rollback:
                            call()
                    raise
        for call in tx._after_commit:
            call()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[Transaction]:
        """A read-only view: same methods, nothing can be written or journalled."""
        with translated_errors():
            async with self._engine.connect() as connection:
                await connection.execution_options(postgresql_readonly=True)
                tx = Transaction(connection)
                yield tx
                await connection.rollback()

    async def raw_connection(self) -> psycopg.AsyncConnection[Any]:
        """A dedicated autocommit connection outside the pool, for hot paths and LISTEN. The caller closes it."""
        with translated_errors():
            connection = await self._connect()
            await connection.set_autocommit(True)
            return connection

    async def ping(self) -> None:
        """Prove that the database answers. Raises Unavailable."""
        try:
            async with asyncio.timeout(self.timeout + _CONNECT_TIMEOUT), self.read() as view:
                await view.scalar(text("SELECT 1"))
        except TimeoutError:
            raise Unavailable("The database does not answer.", code="database-unavailable", retry_after=1) from None

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        milliseconds = int(self.timeout * 1000)
        ours = (
            f"-c statement_timeout={milliseconds} -c lock_timeout={milliseconds} "
            f"-c idle_in_transaction_session_timeout={milliseconds * 3} -c timezone=UTC -c jit=off"
        )
        asked = conninfo_to_dict(self.url)
        try:
            connection = await _Connection.connect(
                self.url,
                connect_timeout=asked.get("connect_timeout") or _CONNECT_TIMEOUT,
                application_name=asked.get("application_name") or "intaglio",
                keepalives_idle=10,
                keepalives_interval=5,
                keepalives_count=3,
                tcp_user_timeout=milliseconds,
                options=f"{ours} {asked.get('options') or ''}".strip(),
            )
            connection.patience = self.timeout + _GRACE
            return connection
        except OSError as error:
            raise Unavailable("The database is not reachable.", code="database-unavailable", retry_after=1) from error


class OwnConnection:
    """A connection outside the pool that one user keeps; made when it is first needed, and again after an outage."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def get(self) -> psycopg.AsyncConnection[Any]:
        """The connection, in working order as far as this side can tell. Raises Unavailable."""
        if self._connection is None or not is_usable(self._connection):
            await self.close()
            self._connection = await self._database.raw_connection()
        return self._connection

    async def close(self) -> None:
        """Give the connection up; after a failure nobody can tell what it is doing."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error, OSError):
                await connection.close()


def is_usable(connection: psycopg.AsyncConnection[Any]) -> bool:
    """Whether a connection on which nothing is going on can be used, as far as this side can tell without asking.

    A server that ended has closed its side, perhaps with a farewell; either makes the idle socket readable. Without
    this look the first statement after an outage would fail, though the database is back.
    """
    if connection.closed:
        return False
    waiting = select.poll()
    waiting.register(connection.fileno(), select.POLLIN)
    return not waiting.poll(0)


class _Silence(psycopg.OperationalError):
    """The server said nothing any more, though its connection is open: it hangs, or its host is gone."""


class _Connection(psycopg.AsyncConnection[Any]):
    """A connection that is given up when the server falls silent, or when whoever uses it is cancelled.

    ``patience`` is how many seconds a statement may take before the server counts as silent. On a cancellation psycopg
    would wait up to ten seconds for the server to confirm; a request whose time is up has not got them when the server
    hangs.
    """

    patience: float | None = None

    async def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit, started = self.patience if timeout is None else timeout, monotonic()
        try:
            return await waiting.wait_async(gen, self.pgconn.socket, interval=interval, timeout=limit)
        except psycopg.OperationalError:
            if timeout is not None or limit is None or monotonic() - started < limit:
                raise
            self.pgconn.finish()
            raise _Silence("the server does not answer") from None
        except asyncio.CancelledError:
            # Ask the server to let go of its locks now, not at its own timeout; then nobody waits for it any more.
            with contextlib.suppress(psycopg.Error, OSError):
                await self.cancel_safe(timeout=_FAREWELL)
            self.pgconn.finish()
            raise


@contextlib.contextmanager
def translated_errors() -> Any:
    """Turn driver errors into ours; everything else passes."""
    try:
        yield
    except PoolTimeout:
        raise Unavailable("All database connections are busy.", code="database-busy", retry_after=1) from None
    except DBAPIError as error:
        raise _translated(error.orig if isinstance(error.orig, psycopg.Error) else error) from error
    except psycopg.Error as error:
        raise _translated(error) from error


def _translated(error: BaseException) -> Exception:
    if isinstance(error, psycopg.errors.QueryCanceled | psycopg.errors.LockNotAvailable | _Silence):
        return TimedOut("The database did not answer in time.", code="database-timeout", retry_after=1)
    if isinstance(error, psycopg.errors.DiskFull):
        return Unavailable(
            "The database has no disk space left.", code="database-full", remedy="Free or add disk space."
        )
    if isinstance(error, psycopg.errors.SerializationFailure | psycopg.errors.DeadlockDetected):
        return StateConflict("Another request changed the same objects at the same time.", code="concurrent-change")
    if isinstance(error, psycopg.errors.UniqueViolation):
        return StateConflict("An object with this name exists already.", code="already-exists")
    if isinstance(error, psycopg.DataError | psycopg.errors.ProgramLimitExceeded):
        return InvalidInput(
            "A value cannot be stored: NUL characters, a number out of range, or a text that is too long.",
            code="not-storable",
        )
    if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):
        return Unavailable("The database only allows reading at the moment.", code="database-read-only", retry_after=1)
    if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError | OperationalError | InterfaceError):
        return Unavailable("The database is not reachable.", code="database-unavailable", retry_after=1)
    return error if isinstance(error, Exception) else RuntimeError(str(error))
