"""A small service for scenarios: it says who called it, and turns a connection into an echo when asked to."""

from __future__ import annotations

import asyncio

import h11

_READ = 1 << 16


class LoopbackService:
    """Listens on a loopback address at a port of the system's choice."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Start, and return the port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(_serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    state = h11.Connection(h11.SERVER)
    try:
        while isinstance(request := await _event(state, reader), h11.Request):
            while not isinstance(await _event(state, reader), h11.EndOfMessage):
                pass
            if any(name == b"upgrade" for name, _ in request.headers):
                await _echo(state, reader, writer)
                return
            caller = next((value for name, value in request.headers if name == b"x-intaglio-identity"), b"nobody")
            head = h11.Response(status_code=200, headers=[("content-length", str(len(caller)))])
            for event in (head, h11.Data(data=caller), h11.EndOfMessage()):
                writer.write(state.send(event) or b"")
            await writer.drain()
            state.start_next_cycle()
    except (OSError, h11.ProtocolError):
        return  # whatever the client did, it is over
    finally:
        writer.close()


async def _event(state: h11.Connection, reader: asyncio.StreamReader) -> object:
    while (event := state.next_event()) is h11.NEED_DATA:
        state.receive_data(await reader.read(_READ))
    return event


async def _echo(state: h11.Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    headers = [("connection", "upgrade"), ("upgrade", "echo")]
    writer.write(state.send(h11.InformationalResponse(status_code=101, headers=headers)) or b"")
    while data := await reader.read(_READ):
        writer.write(data)
        await writer.drain()
