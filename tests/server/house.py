"""A server with applications made for tests: ``python house.py``, configured by INTAGLIO_ variables as always."""

from __future__ import annotations

import asyncio
import hashlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from intaglio.core.errors import IntaglioError
from intaglio.core.settings import Settings
from intaglio.server.supervisor import serve

TYPE_CHECKING = False
if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from intaglio.server.composition import Composition
    from intaglio.server.services import Services


class Item(BaseModel):
    name: str
    size: int


def compose(settings: Settings) -> Composition:
    from intaglio.server.composition import Application, Composition

    jobs = {"forever": run_forever, "fail": fail_at_once}.get(os.environ.get("HOUSE_JOBS", ""))
    listeners = ("public", "console", "enroll", "gateway", "admin")
    return Composition({name: Application(application) for name in listeners}, trust=trusted, jobs=jobs)


async def trusted(services: Services, listener: str) -> Sequence[bytes]:
    folder = services.settings.data_dir / "trusted"
    return [path.read_bytes() for path in sorted(folder.glob("*.der"))]


async def run_forever(services: Services) -> None:
    await asyncio.Event().wait()


async def fail_at_once(services: Services) -> None:
    raise RuntimeError("this job engine never works")


def application(services: Services) -> ASGIApp:
    from fastapi import FastAPI
    from fastapi.responses import JSONResponse, StreamingResponse

    from intaglio.core.errors import Refused
    from intaglio.server import problems

    app = FastAPI()
    problems.install(app)

    @app.get("/who")
    async def who(request: Request) -> Response:
        tls = request.scope["extensions"].get("tls") or {}
        leaf = tls.get("client_cert_der")
        return JSONResponse(
            {
                "pid": os.getpid(),
                "fingerprint": hashlib.sha256(leaf).hexdigest() if leaf else None,
                "chain": list(tls.get("client_cert_chain", ())),
                "version": tls.get("tls_version"),
                "error": tls.get("client_cert_error"),
                "observed": [hashlib.sha256(each).hexdigest() for each in tls.get("observed_chain_der", ())],
                "peer": request.scope["extensions"].get("peer"),
            }
        )

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return JSONResponse({"octets": len(await request.body())})

    @app.post("/items/{name}")
    async def item(name: str, item: Item) -> Response:
        return JSONResponse(item.model_dump())

    @app.get("/wait")
    async def wait() -> Response:
        """Answers once the file DATA_DIR/release exists, having made DATA_DIR/waiting."""
        (services.settings.data_dir / "waiting").touch()
        while not (services.settings.data_dir / "release").exists():  # noqa: ASYNC110 - another process makes the file
            await asyncio.sleep(0.01)
        return JSONResponse({"released": True})

    @app.get("/forever")
    async def forever() -> None:
        await asyncio.Event().wait()

    @app.get("/stream")
    async def stream() -> Response:
        async def parts():  # type: ignore[no-untyped-def]
            for _ in range(4):
                yield b"x" * 1000

        return StreamingResponse(parts())

    @app.get("/database")
    async def database() -> Response:
        await services.database.ping()
        return JSONResponse({"reached": True})

    @app.get("/refused")
    async def refused() -> None:
        raise Refused("No.", code="no-luck", remedy="Ask again.", target="wish", extra={"blocking": ["a"]})

    @app.get("/defect")
    async def defect() -> None:
        raise RuntimeError("secret inner working")

    return app


if __name__ == "__main__":
    try:
        sys.exit(serve(Settings(), compose))
    except IntaglioError as error:
        print(f"{error.code}: {error}", file=sys.stderr)
        Path(os.environ["INTAGLIO_DATA_DIR"], "failure").write_text(error.code)
        sys.exit(1)
