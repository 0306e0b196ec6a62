"""The command ``intaglio``, run to its end without waiting for its imports each time (see ``command_server``).

What a test starts through :func:`intaglio` is a process of its own; a test about the start of that process itself runs
the installed script.
"""

from __future__ import annotations

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.programs import PATIENCE, Outcome

#: The installed script.
SCRIPT = Path(sys.executable).with_name("intaglio")


def intaglio(
    *arguments: str | Path, environment: Mapping[str, str], cwd: Path, stdin: bytes = b"", patience: float = PATIENCE
) -> Outcome:
    """Run a command with exactly this environment.

    Raises subprocess.TimeoutExpired when it takes longer than ``patience`` seconds; it is killed then.
    """
    wanted = {
        "arguments": [str(SCRIPT), *map(str, arguments)],
        "environment": dict(environment),
        "folder": str(cwd),
        "umask": _umask(),
    }
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as stdout,
        tempfile.TemporaryFile() as stderr,
        socket.socket(socket.AF_UNIX) as connection,
    ):
        given.write(stdin)
        given.seek(0)
        connection.settimeout(patience)
        connection.connect(_server())
        message = json.dumps(wanted).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [each.fileno() for each in (given, stdout, stderr)])
        connection.sendall(message[sent:])
        try:
            with connection.makefile("rb") as answer:
                answer.readline()
                status = answer.readline()
        except TimeoutError:
            raise subprocess.TimeoutExpired([SCRIPT, *arguments], patience) from None
        assert status, "the process that runs the commands has ended"
        said, complained = (_content(each.fileno()) for each in (stdout, stderr))
        return Outcome(int(status), said, (said + complained).decode("utf-8", "replace"))


def put_on_path(folder: Path) -> None:
    """Make a program ``intaglio`` in a folder, for shells: it has commands run as :func:`intaglio` does, with its own
    streams and umask, and passes signals on. What goes on for long (``serve``, ``run``) is the installed script."""
    program = folder / "intaglio"
    names = f"SCRIPT, SERVER = {str(SCRIPT)!r}, {_server()!r}\n"
    program.write_text(f"#!{sys.executable} -IS\n{names}{Path(__file__).with_name('command_client.py').read_text()}")
    program.chmod(0o755)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def _content(descriptor: int) -> bytes:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


@functools.cache
def _server() -> bytes:
    """The address of this process's server; it ends with this process, which holds the other side of its input."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(b"")  # a name of the kernel's choice, in no folder
        listener.listen(64)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("INTAGLIO_")}
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("command_server.py"), str(listener.fileno())],
            stdin=subprocess.PIPE,
            env=inherited | {"NO_COLOR": "1"},
            pass_fds=[listener.fileno()],
        )
        _running.append(process)
        address: bytes = listener.getsockname()
    return address


_running: list[subprocess.Popen[bytes]] = []
