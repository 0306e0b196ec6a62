"""A service of evil or careless manners, for the tests of the gateway before it."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from collections.abc import Mapping
from dataclasses import dataclass

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass(frozen=True)
class Received:
    """A request as the service reads it; ``connection`` counts the connections of the service."""

    connection: int
    head: bytes

    @property
    def method(self) -> str:
        return self.head.split(b" ")[0].decode("latin-1")

    @property
    def target(self) -> str:
        return self.head.split(b" ")[1].decode("latin-1")

    def values(self, name: str) -> list[str]:
        return re.findall(rf"(?im)^{re.escape(name)}: *(.*?)\r$", self.head.decode("latin-1"))


class ScriptedService:
    """Answers with the octets of ``script`` for a path (default: 200). It reads no bodies of GET requests (``lax``)."""

    def __init__(self, script: Mapping[str, bytes] | None = None, *, lax: bool = False) -> None:
        self.received: list[Received] = []
        self._script, self._lax, self._number = dict(script or {}), lax, 0
        service = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                service._number += 1
                number = service._number
                while service._one(number, self):
                    pass

        class Server(socketserver.ThreadingTCPServer):
            daemon_threads = True

            def handle_error(self, request: object, client_address: object) -> None:
                """A connection that was cut is nothing to say a word about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _one(self, number: int, handler: socketserver.StreamRequestHandler) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = handler.rfile.readline(1 << 17)
            if not line:
                return False
            head += line
        found = Received(number, head)
        self.received.append(found)
        if not (self._lax and head.startswith(b"GET ")):
            _read_body(found, handler)
        handler.wfile.write(self._script.get(found.target, OK))
        if "close" not in found.values("connection"):
            return True
        handler.connection.shutdown(socket.SHUT_WR)  # what is left unread would reset the connection otherwise
        while handler.rfile.read1(1 << 16):
            pass
        return False


def _read_body(found: Received, handler: socketserver.StreamRequestHandler) -> None:
    if lengths := found.values("content-length"):
        handler.rfile.read(int(lengths[0]))
    elif found.values("transfer-encoding"):
        while size := int(handler.rfile.readline(), 16):
            handler.rfile.read(size + 2)
        handler.rfile.readline()
