"""What the applications of one process work with, put together once per process, started and stopped in order."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar, cast

from intaglio.audit.refusals import RefusalRecorder
from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError
from intaglio.core.logging import get_logger
from intaglio.core.secrets import MasterKey, load_master_key
from intaglio.core.settings import Settings
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.keystore.service import KeyStore
from intaglio.keystore.tokens import Tokens

if TYPE_CHECKING:
    from intaglio.authority.context import Authority
    from intaglio.enrollment.context import Enrollment
    from intaglio.keystore.token_health import TokenHealth
    from intaglio.mtls.context import Mtls
    from intaglio.server.timestamping import Timestamping
    from intaglio.timestamping.context import Timestamps
    from intaglio.validation.context import Validation

log = get_logger(__name__)

T = TypeVar("T")
Callback = Callable[[], Awaitable[None]]
AuthorityFactory = Callable[[Settings, Database, KeyStore], "Authority"]

_FIRST_CONTACT = 3.0  # seconds `start` waits for the database before it goes on without


class Services:
    """Database, watch, keys and authority of one process.

    Nothing here needs the database in order to be made or started: while it is away, whoever asks for it gets
    Unavailable, and all recovers by itself.
    """

    def __init__(
        self,
        settings: Settings,
        database_url: str,
        *,
        master_key: MasterKey | None = None,
        make_authority: AuthorityFactory | None = None,
    ) -> None:
        """Raises Unavailable when the master key is missing or unreadable."""
        self.settings = settings
        self.master_key = master_key or load_master_key(settings)
        self.database = Database(
            database_url, pool_size=settings.database_pool_size, timeout=settings.database_timeout
        )
        tokens = Tokens(settings, self.master_key, self.database)
        self.keystore = KeyStore(self.master_key, tokens=tokens)
        self.refusals = RefusalRecorder(self.database)
        self._authority = make_authority(settings, self.database, self.keystore) if make_authority else None
        self.watch = Watch(
            self.database,
            on_config=self._config_changed,
            on_event=self._events_arrived,
            after_config=self._tell_of_config,
        )
        if self._authority is not None:
            self._authority.clock_offset = lambda: self.watch.clock_offset
        self._shared: dict[str, object] = {}
        self._on_config: list[Callback] = []
        self._on_event: list[Callback] = []
        self._on_stop: list[Callback] = []
        self._first_contact = asyncio.Event()
        self._late: set[asyncio.Task[None]] = set()
        self._last_current = monotonic()

    @property
    def authority(self) -> Authority:
        """The use cases of the authority floor."""
        if self._authority is None:
            raise RuntimeError("this composition has no authority")
        return self._authority

    @cached_property
    def mtls(self) -> Mtls:
        """The use cases of mutual TLS identity."""
        from intaglio.gateway.service import Gateway
        from intaglio.mtls.context import Mtls

        gateway = Gateway(self.authority, is_current=lambda: self.watch.current)
        return Mtls(self.authority, gateway, self.master_key, self.watch, self.refusals)

    @cached_property
    def enrollment(self) -> Enrollment:
        """The use cases of the enrolment protocols."""
        from intaglio.enrollment.context import Enrollment
        from intaglio.gateway.service import Gateway

        gateway = Gateway(self.authority, is_current=lambda: self.watch.current)
        return Enrollment(self.authority, gateway, self.master_key, self.watch, self.refusals)

    def shared(self, name: str, make: Callable[[], T]) -> T:
        """What ``make`` gives, once per process and name: an application that answers on several listeners."""
        if name not in self._shared:
            self._shared[name] = make()
        return cast(T, self._shared[name])

    @cached_property
    def validation(self) -> Validation:
        """The use cases of status authorities."""
        from intaglio.server.outbound_credentials import OutboundCredentials
        from intaglio.validation.context import Validation

        return Validation(self.authority, self.master_key, self.watch, OutboundCredentials(self))

    @cached_property
    def timestamps(self) -> Timestamps:
        """What the use cases of timestamping work with."""
        from intaglio.timestamping.context import Timestamps

        return Timestamps(self.authority, self.master_key, self.watch)

    @cached_property
    def timestamping(self) -> Timestamping:
        """The timestamping application of this process."""
        from intaglio.server.timestamping import Timestamping

        return Timestamping(self)

    @property
    def tokens(self) -> Tokens:
        """The tokens that keys are kept in."""
        assert self.keystore.tokens is not None, "made with them"
        return self.keystore.tokens

    @cached_property
    def token_health(self) -> TokenHealth:
        """Whether the tokens that keys are kept in work."""
        from intaglio.keystore.token_health import TokenHealth

        return TokenHealth(self.tokens)

    @property
    def database_reached(self) -> bool:
        """Whether the database has answered since the start."""
        return self._first_contact.is_set()

    @property
    def lag(self) -> float:
        """Seconds since this process last knew that it had heard everything; 0 while it does."""
        if self.watch.current:
            self._last_current = monotonic()
        return monotonic() - self._last_current

    def on_config(self, call: Callback) -> None:
        """Await ``call`` after the configuration changed here or elsewhere, and after every reconnection.

        Who subscribes after the database was reached is called soon, so that nobody misses the present state.
        """
        self._on_config.append(call)
        if self.database_reached:
            task = asyncio.create_task(_call_late(call), name="late-subscriber")
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    def on_event(self, call: Callback) -> None:
        """Await ``call`` after certificate events were committed here or elsewhere, and after every reconnection."""
        self._on_event.append(call)

    def on_stop(self, call: Callback) -> None:
        """Await ``call`` when the process stops, after the last request and before the services go."""
        self._on_stop.append(call)

    async def start(self) -> None:
        """Start, and wait a moment for the database so that the first request finds everything in place."""
        if self._authority is not None:
            await self._authority.start()
        await self.refusals.start()
        await self.watch.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_FIRST_CONTACT):
                await self._first_contact.wait()
        if not self.database_reached:
            log.warning("starting without the database; requests are answered 503 until it is there")

    async def stop(self) -> None:
        """Stop in the opposite order. What is queued for commit is still committed."""
        await _call_all(self._on_stop)
        if "mtls" in self.__dict__:
            await self.mtls.close()
        if "enrollment" in self.__dict__:
            await self.enrollment.close()
        if self._authority is not None:
            await self._authority.stop()
        await self.refusals.stop()
        await self.watch.stop()
        await self.database.close()
        self.keystore.close()

    async def _config_changed(self) -> None:
        async with self.database.read() as view:
            await self.keystore.refresh(view)
        if self._authority is not None:
            # After a reconnection the database may be an older one, restored, whose numbers tell nothing.
            await (self._authority.reload() if self.watch.epoch < 0 else self._authority.current())

    async def _tell_of_config(self) -> None:
        await _call_all(self._on_config)
        self._first_contact.set()

    async def _events_arrived(self) -> None:
        await _call_all(self._on_event)


async def _call_late(call: Callback) -> None:
    try:
        await call()
    except IntaglioError as error:  # the watch calls again once the database is back
        log.warning("a subscriber could not read the configuration", reason=str(error))


async def _call_all(calls: list[Callback]) -> None:
    """Every subscriber is called; the first refusal is raised afterwards, which makes the watch try again."""
    refused: IntaglioError | None = None
    for call in calls:
        try:
            await call()
        except IntaglioError as error:
            refused = refused or error
    if refused is not None:
        raise refused
