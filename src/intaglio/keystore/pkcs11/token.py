"""A configured token: its slots, the login, a bounded pool of sessions, and going on after the token was away.

What is done with a token is a function of a :class:`Seat` (a session and the keys found in it), handed to
:meth:`Token.run`. When that fails as a lost session or a lost token does, it is run again on a new session, then once
more after the library began anew; then it fails closed. Nothing here knows of the event loop: it runs in the threads of
the token's dispatcher.
"""

from __future__ import annotations

import contextlib
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from pkcs11 import Attribute, ObjectClass, TokenFlag
from pkcs11 import exceptions as ck
from pkcs11.types import Session
from pkcs11.types import Token as Slotted

from intaglio.core.clock import monotonic
from intaglio.core.errors import IntaglioError, Refused, Unavailable
from intaglio.core.logging import get_logger
from intaglio.core.troubles import Troubles
from intaglio.keystore.pkcs11 import errors
from intaglio.keystore.pkcs11.functions import Functions, signature_buffer
from intaglio.keystore.pkcs11.library import Library, Loaded, library
from intaglio.keystore.pkcs11.modules import Module

log = get_logger(__name__)
T = TypeVar("T")

_KEYS_PER_SEAT = 500
_SUSPICION = 10.0  # seconds for which a slot that failed is the last choice

#: Epoch of the library, and slot.
At = tuple[int, int]


@dataclass(frozen=True)
class Locator:
    """Which token of a library is meant: by any of label, serial number and slot id. None is "any"."""

    label: str | None = None
    serial: str | None = None
    slot: int | None = None

    def means(self, token: Slotted) -> bool:
        return (
            (self.label is None or token.label == self.label)
            and (self.serial is None or serial_of(token) == self.serial)
            and (self.slot is None or token.slot.slot_id == self.slot)
        )

    def __str__(self) -> str:
        parts = {"label": self.label, "serial number": self.serial, "slot": self.slot}
        return ", ".join(f"{name} {value}" for name, value in parts.items() if value is not None) or "any"


#: Runs an attempt to log in so that no other process tries the PIN at the same time, and none a PIN known as wrong.
LoginGuard = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class TokenSettings:
    """How a token is used. ``sessions`` bounds how many are open at a time in this process; ``timeout`` is how long
    an operation may wait, in seconds; ``load_sharing`` permits several tokens of that name that hold the same keys."""

    name: str
    module: Module
    locator: Locator
    pin: str | None = field(default=None, repr=False)
    sessions: int = 8
    timeout: float = 10.0
    load_sharing: bool = False


@dataclass
class Seat:
    """A session, and the handles of the private keys found in it so far by CKA_ID."""

    session: Session
    slot: int
    epoch: int
    functions: Functions
    keys: dict[bytes, int] = field(default_factory=dict)
    #: The keys whose first signature on this session proved right.
    proved: set[bytes] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._handle: int = self.session.handle  # type: ignore[attr-defined]
        self._buffer = signature_buffer()

    @property
    def at(self) -> At:
        return self.epoch, self.slot

    def sign(self, cka_id: bytes, mechanism: int, data: bytes, pss: tuple[int, int, int] | None) -> bytes:
        """What the private key with this CKA_ID makes of ``data``. Raises PKCS11Error, NoSuchKey among them."""
        key = self.keys.get(cka_id)
        if key is None:
            key = self.key(cka_id)
        return self.functions.sign(self._handle, key, mechanism, data, self._buffer, pss)

    def decrypt(self, cka_id: bytes, mechanism: int, data: bytes) -> bytes:
        """What the private key with this CKA_ID makes of what was encrypted for it. Raises PKCS11Error, NoSuchKey and
        EncryptedDataInvalid among them."""
        return self.functions.decrypt(self._handle, self.key(cka_id), mechanism, data, self._buffer)

    def key(self, cka_id: bytes) -> int:
        """The handle of the private key with this CKA_ID. Raises NoSuchKey."""
        found = self.keys.get(cka_id)
        if found is None:
            objects: Any = self.session.get_objects({Attribute.CLASS: ObjectClass.PRIVATE_KEY, Attribute.ID: cka_id})
            with contextlib.closing(objects):
                key = next(iter(objects), None)
            if key is None:
                raise ck.NoSuchKey("no private key with this CKA_ID")
            if len(self.keys) >= _KEYS_PER_SEAT:
                self.keys.clear()
                self.proved.clear()
            found = self.keys[cka_id] = int(key.handle)
        return found


@dataclass(slots=True)
class _Place:
    """One of the places for sessions, taken by a thread; what it holds at the end is what the next one finds."""

    seat: Seat | None


class Token:
    """One configured token in this process. Methods may be called from any thread and block."""

    def __init__(self, settings: TokenSettings, guard: LoginGuard = lambda attempt: attempt()) -> None:
        self.settings = settings
        self.name = settings.name
        self._guard = guard
        self._library: Library = library(settings.module)
        # As many places as there may be sessions: each empty, or with an open session that is free.
        self._places: SimpleQueue[Seat | None] = SimpleQueue()
        for _ in range(settings.sessions):
            self._places.put(None)
        self._lock = threading.Lock()
        self._connecting = threading.Lock()
        self._closed = False
        self._open: Counter[At] = Counter()
        self._logged_in: set[At] = set()
        self._refused: IntaglioError | None = None
        self._suspect: dict[int, float] = {}  # when a slot last failed
        self._troubles = Troubles()
        #: What the token can do, by number; empty until it was first reached.
        self.mechanisms: frozenset[int] = frozenset()
        #: What is wrong with the token as far as the last operation told; None: nothing.
        self.fault: IntaglioError | None = None

    def run(self, operation: Callable[[Seat], T], *, write: bool = False) -> T:
        """Run ``operation`` on a session of the token, ``write`` on one that may change objects.

        It may be run up to three times, so it must be safe to repeat after a failure. Raises Unavailable
        (``token-unavailable``, ``token-key-missing``), PinRefused, and a refusal when the token cannot do it.
        """
        try:
            held = self._places.get(timeout=self.settings.timeout)
        except Empty:
            raise errors.busy(self.name, self.settings.timeout) from None
        place = _Place(held)
        try:
            result = self._persistently(place, operation, write)
        except IntaglioError as error:
            self._note(error)
            raise
        finally:
            self._places.put(place.seat)
        if self.fault is not None:
            self._note(None)
        return result

    def close(self) -> None:
        """Close the free sessions; one in use is closed by the thread that uses it."""
        self._closed = True
        for _ in range(self.settings.sessions):
            try:
                seat = self._places.get_nowait()
            except Empty:
                return
            self._places.put(None)
            if seat is not None:
                with contextlib.suppress(ck.PKCS11Error), self._library.entered():
                    self._drop(seat)

    def present(self) -> list[Slotted]:
        """The tokens that the settings mean, as the library sees them now. Raises PKCS11Error."""
        with self._library.entered() as loaded:
            found = []
            for slot in loaded.get_slots(token_present=True):
                with contextlib.suppress(ck.TokenNotPresent, ck.TokenNotRecognised, ck.GeneralError, ck.DeviceError):
                    token = slot.get_token()
                    if TokenFlag.TOKEN_INITIALIZED in token.flags and self.settings.locator.means(token):
                        found.append(token)
            return found

    # ---- trying again ------------------------------------------------------------------------------------------------

    def _persistently(self, place: _Place, operation: Callable[[Seat], T], write: bool) -> T:
        failure: ck.PKCS11Error | None = None
        for last in (False, False, True):
            epoch = self._library.epoch
            if last and not self._restarted(epoch, failure):
                break
            try:
                return self._once(place, operation, write)
            except errors.PERMANENT as error:
                raise errors.refused(self.name, error) from error
            except ck.PKCS11Error as error:
                failure = error
                if not isinstance(error, errors.STALE):
                    self._restarted(epoch, error)
        assert failure is not None
        if isinstance(failure, ck.NoSuchKey):
            raise errors.key_missing(self.name) from failure
        raise errors.unavailable(self.name, errors.describe(failure)) from failure

    def _once(self, place: _Place, operation: Callable[[Seat], T], write: bool) -> T:
        library = self._library
        try:
            loaded = library.enter()
            seat = self._seat(loaded, place, write)
            place.seat = None
            sound = False
            try:
                result = operation(seat)
                sound = True
            except errors.HARMLESS:
                sound = True
                raise
            except ck.UserNotLoggedIn:
                self._logged_in.discard(seat.at)
                raise
            finally:
                if not sound:
                    self._suspect[seat.slot] = monotonic()
                if sound and not write and not self._closed:
                    place.seat = seat
                else:
                    self._drop(seat)
            library.used(self.name)
            return result
        finally:
            library.leave()

    def _restarted(self, epoch: int, failure: Exception | None) -> bool:
        """Whether the library has begun anew since ``epoch``. For one missing key nobody else is disturbed often."""
        alone = None if isinstance(failure, ck.NoSuchKey) else self.name
        try:
            return self._library.restart(epoch, alone)
        except ck.PKCS11Error as error:
            raise errors.unavailable(self.name, errors.describe(error)) from error

    # ---- sessions ----------------------------------------------------------------------------------------------------

    def _seat(self, loaded: Loaded, place: _Place, write: bool) -> Seat:
        """The session at this place if it is good for this, else a new one there."""
        seat = place.seat
        if seat is not None:
            if seat.epoch == self._library.epoch and not write:
                return seat
            place.seat = None
            self._drop(seat)
        return self._new_seat(loaded, write)

    def _new_seat(self, loaded: Loaded, write: bool) -> Seat:
        with self._connecting:
            slotted = self._choose()
            if not self.mechanisms:
                self.mechanisms = frozenset(int(each) for each in slotted.slot.get_mechanisms())
            session = slotted.open(rw=write)
            seat = Seat(session, slotted.slot.slot_id, self._library.epoch, loaded.functions)
            with self._lock:
                # What was open under an earlier epoch ended with it.
                self._open = Counter({at: n for at, n in self._open.items() if at[0] == seat.epoch})
                self._open[seat.at] += 1
            try:
                self._log_in(loaded, slotted, seat)
            except BaseException:
                self._drop(seat)
                raise
            return seat

    def _choose(self) -> Slotted:
        found = self.present()
        if not found:
            raise ck.TokenNotPresent(f"no token with {self.settings.locator}")
        if len(found) > 1 and not self.settings.load_sharing:
            serials = ", ".join(serial_of(each) for each in found)
            raise Refused(
                f'{len(found)} tokens answer to "{self.name}" ({self.settings.locator}): {serials}.',
                code="token-ambiguous",
                remedy="Name one by its serial number, or switch load sharing on if they hold the same keys.",
            )
        return min(found, key=self._burden)

    def _burden(self, slotted: Slotted) -> tuple[bool, int]:
        """What speaks against a member of several: that it failed a moment ago, and the sessions it has."""
        slot = slotted.slot.slot_id
        failed = monotonic() - self._suspect.get(slot, -_SUSPICION) < _SUSPICION
        return failed, self._open[self._library.epoch, slot]

    def _log_in(self, loaded: Loaded, slotted: Slotted, seat: Seat) -> None:
        """All sessions of a process on one token share its login, which ends with the last of them."""
        if self.settings.pin is None or seat.at in self._logged_in:
            return
        if self._refused is not None:
            raise self._refused
        if TokenFlag.USER_PIN_LOCKED in slotted.flags:
            raise errors.pin_unusable(self.name, "is locked")
        handle, pin = seat.session.handle, self.settings.pin.encode()  # type: ignore[attr-defined]
        try:
            self._guard(lambda: loaded.functions.login(handle, pin))
        except errors.WRONG_PIN as error:
            self._refused = errors.pin_wrong(self.name)
            raise self._refused from error
        except errors.UNUSABLE_PIN as error:
            raise errors.pin_unusable(self.name, "is locked or has expired") from error
        self._logged_in.add(seat.at)

    def _drop(self, seat: Seat) -> None:
        """End a session. Only inside the library, so that no other session can have its handle."""
        with self._lock:
            self._open[seat.at] -= 1
            if self._open[seat.at] <= 0:
                del self._open[seat.at]
                self._logged_in.discard(seat.at)
        if seat.epoch == self._library.epoch:
            with contextlib.suppress(ck.PKCS11Error):
                seat.session.close()

    def _note(self, error: IntaglioError | None) -> None:
        """Remember and report what is wrong, or that it is over."""
        if error is not None and not isinstance(error, Unavailable):
            return
        self.fault = error
        if error is None:
            if self._troubles.over("token"):
                log.info("a token is back", name=self.name)
        elif self._troubles.worth_reporting("token"):
            log.warning("a token cannot be used", name=self.name, code=error.code, reason=error.detail)


def serial_of(token: Slotted) -> str:
    """The serial number of a token as people write it."""
    return token.serial.decode("ascii", "replace").strip(" \0")
