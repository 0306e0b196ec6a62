"""Octets both ways after an upgrade, until one side has had enough."""

from __future__ import annotations

import asyncio
import contextlib

from intaglio.mtls.proxy.exchange import ClientGone, Duplex
from intaglio.mtls.proxy.upstream import UpstreamConnection, UpstreamFailed


async def join(client: Duplex, service: UpstreamConnection) -> None:
    """Connect both sides until either ends."""
    tasks = {asyncio.create_task(_up(client, service)), asyncio.create_task(_down(client, service))}
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.close()
        client.close()


async def _up(client: Duplex, service: UpstreamConnection) -> None:
    with contextlib.suppress(ClientGone, UpstreamFailed):
        while data := await client.receive():
            await service.write_raw(data)


async def _down(client: Duplex, service: UpstreamConnection) -> None:
    with contextlib.suppress(ClientGone):
        if early := service.leftover():
            await client.send(early)
        while data := await service.read_raw():
            await client.send(data)
