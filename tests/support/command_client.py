# Has a command run by the command server; commands.put_on_path makes a program of it, with SCRIPT and SERVER above.

import json
import os
import signal
import socket
import sys


def main(script: str, server: bytes) -> None:
    if {"serve", "run"} & set(sys.argv):
        os.execv(script, [script, *sys.argv[1:]])
    mask = os.umask(0o077)
    wanted = {
        "arguments": [script, *sys.argv[1:]],
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "umask": mask,
    }
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(server)
        message = json.dumps(wanted).encode() + b"\n"
        sent = socket.send_fds(connection, [message], [0, 1, 2])
        connection.sendall(message[sent:])
        with connection.makefile("rb") as answer:
            command = int(answer.readline())
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda number, _: os.kill(command, number))
            status = int(answer.readline() or 70)
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)


main(SCRIPT, SERVER)  # type: ignore[name-defined]  # noqa: F821
