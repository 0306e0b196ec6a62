"""Parts of the management API are opened when they are first asked, and it makes no difference to whoever asks."""

from __future__ import annotations

import asyncio
import itertools
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from fastapi.routing import APIRoute
from starlette.responses import PlainTextResponse
from tests.server import management_client
from tests.server.management_client import Management

import intaglio
from intaglio.core.secrets import MasterKey
from intaglio.server.deferred import DeferredApp
from intaglio.server.management.app import ROOMS
from intaglio.server.management.rooms import Room

#: What a serving process imports before anybody asked anything.
_AT_START = """
import sys
from intaglio.server import worker
from intaglio.server.product import compose
from intaglio.platform import live_settings
print(*sorted(name for name in sys.modules if name.startswith("intaglio.")))
"""


@pytest_asyncio.fixture
async def management(database_url: str, master_key: MasterKey, tmp_path: Path) -> AsyncIterator[Management]:
    async with management_client.management(database_url, master_key, tmp_path) as started:
        yield started
        await started.services.mtls.close()


def routes(room: Room) -> list[APIRoute]:
    return [each for each in room.router().routes if isinstance(each, APIRoute)]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.module.rpartition(".")[2])
def test_every_path_of_a_room_opens_it(room: Room) -> None:
    assert routes(room)
    assert [each.path for each in routes(room) if not room.answers(room.prefix + each.path)] == []


def test_every_room_is_there_once() -> None:
    modules = [room.module for room in ROOMS]
    assert sorted(modules) == sorted(set(modules))


def test_order_in_which_rooms_are_opened_does_not_matter() -> None:
    known: dict[tuple[str, str], str] = {}
    for room in ROOMS:
        for route in routes(room):
            shape = re.sub(r"\{\w+\}", "{}", room.prefix + route.path)
            for method in route.methods or ():
                assert known.setdefault((method, shape), room.module) == room.module
    for (one, path), (other, pattern) in itertools.permutations(known, 2):
        # A fixed word and a parameter at the same place are told apart by order, which holds only within a room.
        if one == other and known[one, path] != known[other, pattern]:
            assert not re.fullmatch(pattern.replace("{}", "[^/{}]+"), path), (path, pattern)


def test_idle_process_has_imported_no_room_and_no_gateway() -> None:
    shown = subprocess.run([sys.executable, "-c", _AT_START], capture_output=True, check=True, text=True).stdout.split()
    assert set(shown) & {room.module for room in ROOMS} == set()
    unused = ("intaglio.mtls.proxy.reverse_proxy", "intaglio.mtls.automation.vault", "intaglio.mtls.scenarios.plays")
    assert not any(name.startswith(unused) for name in shown)


def test_every_group_of_settings_is_known_though_nobody_asked_for_its_part() -> None:
    definition = re.compile(r"SettingsGroup\):.*?^    group = \"(\w+)\"", re.DOTALL | re.MULTILINE)
    sources = Path(intaglio.__file__).parent.rglob("*.py")
    defined = {found[1] for path in sources for found in definition.finditer(path.read_text())}
    assert {"logging", "alerts", "drills", "outgoing"} <= defined
    command = (
        "import intaglio.server.management.settings; from intaglio.platform import live_settings;"
        "print(*live_settings.CATALOGUE)"
    )
    shown = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True, text=True).stdout.split()
    assert set(shown) == defined


async def test_many_who_ask_first_at_once_are_all_answered(management: Management) -> None:
    async with management.client(operator=True) as client:
        answers = await asyncio.gather(
            *(client.get("/me") for _ in range(5)),
            *(client.get("http://management/mtls/v1/domains") for _ in range(5)),
            *(client.get("http://management/toolkit/v1/advice?key=RSA-4096") for _ in range(5)),
        )
        unknown = await client.get("http://management/mtls/v1/domainsx")
        document = (await client.get("/openapi.json")).json()
    assert {each.status_code for each in answers[:10]} == {200}
    assert {each.status_code for each in answers[10:]} & {404, 500} == set()
    assert unknown.status_code == 404
    assert {f"/{path.split('/')[1]}" for path in document["paths"]} == {"/api", "/enrol", "/mtls", "/toolkit"}


async def test_deferred_application_is_made_once_and_again_after_a_failure() -> None:
    made: list[int] = []

    def make() -> PlainTextResponse:
        made.append(len(made))
        if len(made) == 1:
            raise OSError("not this time")
        return PlainTextResponse("here")

    transport = httpx.ASGITransport(app=DeferredApp(make))
    async with httpx.AsyncClient(transport=transport, base_url="http://x") as client:
        with pytest.raises(OSError, match="not this time"):
            await client.get("/")
        answers = await asyncio.gather(*(client.get("/") for _ in range(4)))
    assert [each.text for each in answers] == ["here"] * 4
    assert made == [0, 1]
