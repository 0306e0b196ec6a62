"""What a server answers on the public listener, by what it was told to run."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from tests.support.eventually import eventually

from intaglio.authority.context import Authority
from intaglio.core.secrets import MasterKey
from intaglio.core.settings import Settings
from intaglio.server.public_listener import PublicListener
from intaglio.server.services import Services


@pytest.mark.parametrize(
    ("only", "ocsp_status", "health_status"),
    [([], 200, 200), (["tsa"], 404, 200), (["ocsp", "crl"], 200, 404), (["ocsp", "tsa"], 200, 200)],
)
async def test_only_what_was_asked_for_is_there(
    database_url: str, master_key: MasterKey, tmp_path: Path, only: list[str], ocsp_status: int, health_status: int
) -> None:
    settings = Settings(data_dir=tmp_path, only=only)
    services = Services(settings, database_url, master_key=master_key, make_authority=Authority)
    await services.start()
    try:
        await eventually(lambda: services.watch.current)
        transport = httpx.ASGITransport(PublicListener(services))
        async with httpx.AsyncClient(transport=transport, base_url="http://pki.example") as client:
            # OCSP answers whatever it is asked; timestamping says how it is.
            ocsp = await client.post("/ocsp", content=b"", headers={"content-type": "application/ocsp-request"})
            assert ocsp.status_code == ocsp_status
            assert (await client.get("/tsa/health")).status_code == health_status
    finally:
        await services.stop()
