"""A timestamping application of one process over a two-tier hierarchy, and the clock it is judged by."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest_asyncio
from tests.support.authority import OPERATOR, openssl
from tests.support.eventually import eventually

from intaglio.authority.cas.values import CreatedCa
from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.db.listen import Watch
from intaglio.timestamping import issuers
from intaglio.timestamping.app import TimestampApp
from intaglio.timestamping.clock.gate import ClockGate
from intaglio.timestamping.clock.measurement import Measurement
from intaglio.timestamping.context import Timestamps
from intaglio.timestamping.issuers import IssuerView, NewIssuer
from intaglio.timestamping.settings import Timestamping
from intaglio.timestamping.values import SignerOptions, TokenProfile
from intaglio.x509.certificates import pem

POLICY = "1.3.6.1.4.1.99999.1"
TYPE = {"content-type": "application/timestamp-query"}


@dataclass
class SourceOfTime:
    """What the clock is told about itself; a measurement, or what goes wrong."""

    found: Measurement | Exception

    async def ask(self, settings: Timestamping) -> Measurement:
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


@dataclass
class House:
    """One process that gives timestamps."""

    timestamps: Timestamps
    app: TimestampApp
    source: SourceOfTime
    client: httpx.AsyncClient

    async def issuer(self, name: str = "standard", **changes: Any) -> IssuerView:
        """An issuer certified by ``demo~issuing``; ``profile`` and ``signer`` as mappings of what differs."""
        profile = TokenProfile(**{"policy": POLICY, **changes.pop("profile", {})})
        signer = SignerOptions(**changes.pop("signer", {}))
        if "share_with" not in changes:
            changes.setdefault("ca", "demo~issuing")
        wish = NewIssuer(name=name, profile=profile, signer=signer, **changes)
        made = await issuers.create_issuer(self.timestamps, OPERATOR, wish)
        await self.app.configuration_changed()  # as the process does when it hears of it
        return made

    async def reply(self, request: bytes, name: str = "standard") -> bytes:
        """The answer to a request, which is an answer whatever it says."""
        answer = await self.client.post(f"/tsa/{name}", content=request, headers=TYPE)
        assert answer.status_code == 200, answer.text
        assert answer.headers["content-type"] == "application/timestamp-reply"
        return answer.content


@pytest_asyncio.fixture
async def watch(database: Database) -> AsyncIterator[Watch]:
    started = Watch(database)
    await started.start()
    await eventually(lambda: started.current)
    yield started
    await started.stop()


@pytest_asyncio.fixture
async def house(
    authority: Authority, hierarchy: tuple[CreatedCa, CreatedCa], master_key: MasterKey, watch: Watch
) -> AsyncIterator[House]:
    timestamps = Timestamps(authority, master_key, watch)
    source = SourceOfTime(Measurement("test", 0.0, 0.001))
    app = TimestampApp(timestamps, request_timeout=30)
    app.service.gate = ClockGate(source.ask)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://tsa.example") as client:
        yield House(timestamps, app, source, client)
    await app.close()


@pytest_asyncio.fixture
async def root_file(house: House, tmp_path: Path) -> Path:
    """The root certificate that tokens are verified by."""
    snapshot = await house.timestamps.authority.current()
    found = tmp_path / "root.pem"
    found.write_text(pem(snapshot.ca("demo~root").chain[-1]))
    return found


Query = Callable[..., bytes]


def query(folder: Path, *options: str, data: bytes = b"to be stamped") -> bytes:
    """A request made by OpenSSL over a file ``data.txt``."""
    (folder / "data.txt").write_bytes(data)
    openssl("ts", "-query", "-data", folder / "data.txt", *(options or ("-sha256", "-cert")), "-out", folder / "q.tsq")
    return (folder / "q.tsq").read_bytes()


def shown(folder: Path, reply: bytes) -> str:
    """A reply as OpenSSL shows it."""
    (folder / "r.tsr").write_bytes(reply)
    return openssl("ts", "-reply", "-in", folder / "r.tsr", "-text")


def verify(folder: Path, reply: bytes, root: Path, *how: object) -> str:
    """OpenSSL's verdict over a reply; fails the test when it is bad."""
    (folder / "r.tsr").write_bytes(reply)
    how = how or ("-queryfile", folder / "q.tsq")
    return openssl("ts", "-verify", "-in", folder / "r.tsr", "-CAfile", root, *how)
