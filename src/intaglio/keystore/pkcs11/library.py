"""A PKCS #11 library in this process: loaded once, initialized for threads, restarted when it lost its token.

A library is process-wide state: there is one :class:`Library` per file, whichever tokens use it. It is initialized when
first needed and anew in a forked child. Ending and beginning again (``C_Finalize``, ``C_Initialize``) is the only thing
that every library understands as "look again which tokens there are"; nobody may be inside the library meanwhile.
Source: PKCS #11 version 2.40, sections 5.4 and 6.6 (threads, forks).
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pkcs11 import _pkcs11
from pkcs11 import exceptions as ck

from intaglio.core.clock import monotonic
from intaglio.core.logging import get_logger
from intaglio.keystore.pkcs11.modules import Module

log = get_logger(__name__)

_QUIET = 5.0  # seconds that calls under way may take to end before a restart is given up
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two restarts
_ALIVE = 5.0  # seconds a token counts as alive after it was last of use

_CKR_OK = 0x000
_CKR_USER_ALREADY_LOGGED_IN = 0x100
_CKR_ALREADY_INITIALIZED = 0x191
_CKF_OS_LOCKING_OK = 0x2
_CKU_USER = 1
_C_INITIALIZE, _C_FINALIZE, _C_LOGIN = 0, 1, 18  # places in CK_FUNCTION_LIST

_LOGIN_ERRORS: Mapping[int, type[ck.PKCS11Error]] = {
    0x0A0: ck.PinIncorrect,
    0x0A1: ck.PinInvalid,
    0x0A2: ck.PinLenRange,
    0x0A3: ck.PinExpired,
    0x0A4: ck.PinLocked,
    0x032: ck.DeviceRemoved,
    0x0B3: ck.SessionHandleInvalid,
    0x0E0: ck.TokenNotPresent,
}


class _FunctionList(ctypes.Structure):
    _fields_ = (("major", ctypes.c_ubyte), ("minor", ctypes.c_ubyte), ("functions", ctypes.c_void_p * 68))


class _InitializeArguments(ctypes.Structure):
    _fields_ = (("callbacks", ctypes.c_void_p * 4), ("flags", ctypes.c_ulong), ("reserved", ctypes.c_void_p))


class Loaded(_pkcs11.lib):
    """The wrapper of python-pkcs11, initialized with CKF_OS_LOCKING_OK.

    The wrapper itself passes no arguments, by which an application promises to use one thread only (PKCS #11 section
    5.4, C_Initialize); we do not keep that promise. Logging in is ours too: the wrapper loses a session at every
    refused attempt.
    """

    def __init__(self, path: str) -> None:
        functions = ctypes.POINTER(_FunctionList)()
        if ctypes.CDLL(path).C_GetFunctionList(ctypes.byref(functions)) != _CKR_OK:
            raise ck.PKCS11Error("the library gives no list of its functions")
        self._functions = functions.contents.functions
        super().__init__(path)

    def initialize(self) -> None:
        arguments = _InitializeArguments(flags=_CKF_OS_LOCKING_OK)
        begin = self._function(_C_INITIALIZE, ctypes.c_void_p)
        code = begin(ctypes.byref(arguments))
        if code == _CKR_ALREADY_INITIALIZED:  # by a parent process: a child has to begin anew
            self.end()
            code = begin(ctypes.byref(arguments))
        if code != _CKR_OK:
            raise ck.PKCS11Error(f"C_Initialize returned 0x{code:x}")

    def end(self) -> None:
        """C_Finalize. What it returns tells nothing that could be acted on."""
        self._function(_C_FINALIZE, ctypes.c_void_p)(None)

    def login(self, session: int, pin: bytes) -> None:
        """Log the application in as user. Raises PinIncorrect and its kin, PKCS11Error."""
        login = self._function(_C_LOGIN, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_char_p, ctypes.c_ulong)
        code = login(session, _CKU_USER, pin, len(pin))
        if code not in (_CKR_OK, _CKR_USER_ALREADY_LOGGED_IN):
            raise _LOGIN_ERRORS.get(code, ck.PKCS11Error)(f"C_Login returned 0x{code:x}")

    def _function(self, place: int, *arguments: Any) -> Callable[..., int]:
        kind = ctypes.CFUNCTYPE(ctypes.c_ulong, *arguments)
        return kind(self._functions[place])


class Library:
    """One PKCS #11 library in this process. All methods may be called from any thread."""

    def __init__(self, module: Module) -> None:
        self.module = module
        #: Counts the beginnings: what was got from the library under an earlier number is worth nothing any more.
        self.epoch = 0
        self._loaded: Loaded | None = None
        self._inside = 0
        self._restarting = False
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._last_start = -_LONGEST_PAUSE
        self._pause = _FIRST_PAUSE
        self._last_use: dict[str, float] = {}
        self._thread = threading.local()
        self._outdated = False

    @contextlib.contextmanager
    def entered(self) -> Iterator[Loaded]:
        """The library, initialized; no restart happens inside the block. A thread may enter again while inside.

        Raises PKCS11Error.
        """
        if (inside := self.inside) is not None:
            yield inside
            return
        try:
            yield self.enter()
        finally:
            self.leave()

    @property
    def inside(self) -> Loaded | None:
        """The library, if this thread has entered it."""
        return getattr(self._thread, "loaded", None)

    def enter(self) -> Loaded:
        """What :meth:`entered` does at the beginning, for those who sign thousands of times a second; :meth:`leave` has
        to follow, also after an error. Raises PKCS11Error."""
        self._thread.loaded = None
        with self._lock:
            loaded = self._loaded
            if loaded is None or self._restarting or self._outdated:
                loaded = self._ready()
            self._inside += 1
        self._thread.loaded = loaded
        return loaded

    def leave(self) -> None:
        """What :meth:`entered` does at the end. Does nothing in a thread that did not get in."""
        if self.inside is None:
            return
        self._thread.loaded = None
        with self._lock:
            self._inside -= 1
            if self._restarting:
                self._changed.notify_all()

    def _ready(self) -> Loaded:
        """The library once it may be used; with the lock held."""
        if not self._changed.wait_for(lambda: not self._restarting, _QUIET):
            raise ck.PKCS11Error("the library is being restarted")
        if self._outdated and not self._inside:
            self._outdated = False
            self._begin_anew()
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def reconfigured(self, module: Module) -> None:
        """Begin anew with what is configured now, as soon as nobody is inside."""
        with self._changed:
            self.module = module
            self._outdated = True

    def used(self, token: str) -> None:
        """Note that a token was of use just now."""
        self._last_use[token] = monotonic()

    def restart(self, seen: int, token: str | None) -> bool:
        """Begin anew for the sake of ``token``, unless that has happened since epoch ``seen``; say whether it has.

        While other tokens of the library work (None: any), they are disturbed ever more rarely: after one second, two,
        four, up to a minute. Raises PKCS11Error when the library cannot be initialized.
        """
        with self._changed:
            if self.epoch != seen:
                return True
            now = monotonic()
            disturbs = any(now - at < _ALIVE for name, at in self._last_use.items() if name != token)
            if now - self._last_start < (self._pause if disturbs else _FIRST_PAUSE) or self._restarting:
                return False
            self._last_start = now
            self._pause = min(self._pause * 2, _LONGEST_PAUSE) if disturbs else _FIRST_PAUSE
            self._restarting = True
            try:
                if not self._changed.wait_for(lambda: self._inside == 0, _QUIET):
                    log.warning("a PKCS #11 library is busy and is not restarted", module=self.module.name)
                    return False
                self._begin_anew()
                return True
            finally:
                self._restarting = False
                self._changed.notify_all()

    def _begin_anew(self) -> None:
        self.epoch += 1
        if self._loaded is None:
            return
        self._loaded.end()
        try:
            self._set_environment()
            self._loaded.initialize()
        except ck.PKCS11Error:
            self._loaded = None
            raise

    def _load(self) -> Loaded:
        self._set_environment()
        self.epoch += 1
        self._last_start = monotonic()
        return Loaded(str(self.module.path))

    def _set_environment(self) -> None:
        """Libraries read their variables when they are initialized."""
        os.environ.update(self.module.environment)


_libraries: dict[str, Library] = {}
_loading = threading.Lock()


def library(module: Module) -> Library:
    """The library of a module, for a token that is taken up now; two names for one file are one library.

    A library that serves other tokens already begins anew, since a token is also taken up when its configuration, or
    that of its client, was changed.
    """
    key = str(module.path.resolve())
    with _loading:
        if key not in _libraries:
            _libraries[key] = Library(module)
        else:
            _libraries[key].reconfigured(module)
        return _libraries[key]


def _after_fork() -> None:
    """What the parent held does not work in a child."""
    global _loading
    _libraries.clear()
    _loading = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
