"""Runs ``intaglio`` commands in forks of a process that has imported everything the command needs.

``python command_server.py FD``: FD is a listening unix stream socket. A connection brings one JSON line (``arguments``,
``environment``, ``folder``, ``umask``) and, with it, the three standard streams as file descriptors; it gets a line
with the process id at once, and one with the exit status when the command has ended. Who closes the connection before
that ends the command. Importing costs most of the time of a command; all else is as if it had been started afresh: a
process of its own with the given arguments, environment, folder, umask and streams.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import select
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any, NoReturn

import intaglio.cli

_LARGEST = 1 << 20


def main(listener: socket.socket) -> None:
    """Serve until the other side of standard input is gone."""
    _import_everything()
    gc.freeze()
    poll = select.poll()
    poll.register(0, select.POLLIN)
    poll.register(listener, select.POLLIN)
    running: dict[int, Command] = {}  # by what becomes readable when it ends, and by what hangs up when its caller does
    while True:
        # New callers come last, so that none gets the number of a descriptor that an event of this round speaks of.
        for descriptor, _ in sorted(poll.poll(), key=lambda event: event[0] == listener.fileno()):
            if descriptor == 0:
                return
            if descriptor == listener.fileno():
                command = _begin(listener.accept()[0], listener)
                running |= {command.ended: command, command.connection.fileno(): command}
                poll.register(command.ended, select.POLLIN)
                poll.register(command.connection, 0)  # only for its hanging up: what it says is for the fork
                continue
            command = running.pop(descriptor, None)
            if command is None:
                continue
            poll.unregister(descriptor)
            if descriptor == command.ended:
                _report(command)
                if running.pop(command.connection.fileno(), None):
                    poll.unregister(command.connection)
                os.close(command.ended)
                command.connection.close()
            else:
                os.kill(command.pid, signal.SIGKILL)


@dataclass(frozen=True)
class Command:
    """One that runs: its process id, a descriptor of that process, and who waits for it."""

    pid: int
    ended: int
    connection: socket.socket


def _report(command: Command) -> None:
    _, status = os.waitpid(command.pid, 0)
    with contextlib.suppress(OSError):
        command.connection.sendall(b"%d\n" % os.waitstatus_to_exitcode(status))


def _import_everything() -> None:
    for module in pkgutil.walk_packages(intaglio.cli.__path__, "intaglio.cli."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    importlib.import_module("httpx")


def _begin(connection: socket.socket, listener: socket.socket) -> Command:
    """Fork a process that does what the connection asks for."""
    if pid := os.fork():
        with contextlib.suppress(OSError):
            connection.sendall(b"%d\n" % pid)
        return Command(pid, os.pidfd_open(pid), connection)
    listener.close()
    try:
        received, streams, _, _ = socket.recv_fds(connection, _LARGEST, 3)
        while not received.endswith(b"\n"):
            received += connection.recv(_LARGEST)
        connection.close()
        _run(json.loads(received), streams)
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(70)  # whatever goes wrong here must not go on as a second server


def _run(wanted: dict[str, Any], streams: list[int]) -> NoReturn:
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(wanted["folder"])
    os.umask(wanted["umask"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = wanted["arguments"]
    sys.stdin, sys.stdout = _text(0, "rb", sys.stdin), _text(1, "wb", sys.stdout)
    sys.stderr = _text(2, "wb", sys.stderr, line_buffering=True)
    status: int | str | None = 0
    try:
        intaglio.cli.main()
    except SystemExit as ended:
        status = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        status = 1
    if isinstance(status, str):
        print(status, file=sys.stderr)
        status = 1
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(status or 0)


def _text(descriptor: int, mode: str, like: Any, **options: Any) -> io.TextIOWrapper:
    return io.TextIOWrapper(open(descriptor, mode), encoding=like.encoding, errors=like.errors, **options)


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])))
