"""A PKCS #11 library in this process: loaded once, initialized for threads, restarted when it lost its token.

A library is process-wide state: there is one :class:`Library` per file, whichever tokens use it. It is initialized when
first needed and anew in a forked child. Ending and beginning again (``C_Finalize``, ``C_Initialize``) is the only thing
that every library understands as "look again which tokens there are"; nobody may be inside the library meanwhile.
Source: PKCS #11 version 2.40, sections 5.4 and 6.6 (threads, forks).
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator

from pkcs11 import _pkcs11
from pkcs11 import exceptions as ck

from intaglio.core.clock import monotonic
from intaglio.core.logging import get_logger
from intaglio.keystore.pkcs11.functions import CKR_ALREADY_INITIALIZED, CKR_OK, Functions
from intaglio.keystore.pkcs11.modules import Module

log = get_logger(__name__)

_QUIET = 5.0  # seconds that calls under way may take to end before a restart is given up
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # seconds between two restarts
_ALIVE = 5.0  # seconds a token counts as alive after it was last of use


class Loaded(_pkcs11.lib):
    """The wrapper of python-pkcs11 around a library that we begin ourselves; what is called beside it is in
    ``functions``."""

    def __init__(self, path: str) -> None:
        self.functions = Functions(path)
        super().__init__(path)

    def initialize(self) -> None:
        """Begin; called by the wrapper too. Raises PKCS11Error."""
        code = self.functions.initialize()
        if code == CKR_ALREADY_INITIALIZED:  # by a parent process: a child has to begin anew
            self.functions.finalize()
            code = self.functions.initialize()
        if code != CKR_OK:
            raise ck.PKCS11Error(f"C_Initialize returned 0x{code:x}")


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
        self._loaded.functions.finalize()
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
