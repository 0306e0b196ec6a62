"""CMP over HTTP: paths, statuses, limits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from tests.enrollment.cmp.conftest import Desk, NewDesk
from tests.support.cmp_client import certificate_request, taken_apart

from intaglio.asn1 import cmp
from intaglio.asn1.cmp import MAX_MESSAGE_OCTETS, Body
from intaglio.enrollment.cmp.commands import commands
from intaglio.enrollment.cmp.routes import MEDIA_TYPE, routes
from intaglio.enrollment.urls import Bases

TYPE = {"content-type": MEDIA_TYPE}


@dataclass
class Site:
    """An endpoint, and its process by HTTP."""

    desk: Desk
    http: httpx.AsyncClient

    @property
    def path(self) -> str:
        return f"/.well-known/cmp/p/{self.desk.endpoint.name}"

    def message(self) -> bytes:
        content, _ = certificate_request()
        return self.desk.client(implicit=True).message(Body.IR, content)


@pytest_asyncio.fixture
async def site(new_desk: NewDesk) -> AsyncIterator[Site]:
    desk = await new_desk(name="default")
    app = Starlette(routes=routes(desk.enrollment))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://cmp.example") as http:
        yield Site(desk, http)


def failures(answer: httpx.Response) -> frozenset[str]:
    assert answer.headers["content-type"] == MEDIA_TYPE
    return taken_apart(cmp.read_message(answer.content)).failures


@pytest.mark.parametrize(
    "path",
    [
        "/.well-known/cmp",
        "/.well-known/cmp/initialization",
        "/.well-known/cmp/p/default",
        "/.well-known/cmp/p/default/initialization",
        "/cmp/main/demo~issuing/cmp-digital-signature",
        "/cmp/main/demo~issuing/cmp_digital_signature",
    ],
)
async def test_an_endpoint_has_several_paths(site: Site, path: str) -> None:
    answer = await site.http.post(path, content=site.message(), headers=TYPE)
    assert (answer.status_code, answer.headers["content-type"]) == (200, MEDIA_TYPE)
    assert answer.headers["cache-control"] == "no-store"
    assert taken_apart(cmp.read_message(answer.content)).certificate is not None


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/.well-known/cmp/p/unknown", "unknown"),
        ("/.well-known/cmp/p/default/unknown", "unknown"),
        ("/cmp/other/demo~issuing/cmp-digital-signature", "tenant"),
        ("/cmp/main/demo~other/cmp-digital-signature", "CA"),
        ("/cmp/main/demo~issuing/other", "profile"),
    ],
)
async def test_an_unknown_path_says_what_is_not_known(site: Site, path: str, names: str) -> None:
    answer = await site.http.post(path, content=site.message(), headers=TYPE)
    assert answer.status_code == 404
    assert failures(answer) == {"badRequest"}
    assert names in taken_apart(cmp.read_message(answer.content)).texts[0]


async def test_only_post_is_answered(site: Site) -> None:
    answer = await site.http.get(site.path)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("media_type", ["application/octet-stream", "text/plain", ""])
async def test_another_media_type_is_refused(site: Site, media_type: str) -> None:
    answer = await site.http.post(site.path, content=site.message(), headers={"content-type": media_type})
    assert answer.status_code == 415
    assert failures(answer)


async def test_a_message_that_is_too_long_is_refused_before_it_is_read(site: Site) -> None:
    answer = await site.http.post(site.path, content=bytes(MAX_MESSAGE_OCTETS + 1), headers=TYPE)
    assert answer.status_code == 413
    assert failures(answer) == {"badDataFormat"}


async def test_what_is_no_message_is_a_bad_request(site: Site) -> None:
    answer = await site.http.post(site.path, content=b"\x30\x00", headers=TYPE)
    assert answer.status_code == 400
    assert failures(answer) == {"badDataFormat"}


async def test_a_message_that_is_refused_is_an_answer_all_the_same(site: Site) -> None:
    content, _ = certificate_request()
    message = site.desk.client(secret=("nobody", b"nothing")).message(Body.IR, content)
    answer = await site.http.post(site.path, content=message, headers=TYPE)
    assert answer.status_code == 200
    assert failures(answer) == {"badMessageCheck"}


async def test_commands_to_copy_name_the_endpoint(site: Site) -> None:
    found = commands(site.desk.endpoint, Bases("https://enroll.example", "http://plain.example"))
    assert {command.url for command in found} == {"http://plain.example/.well-known/cmp/p/default"}
    assert all("openssl" in "\n".join(command.lines) for command in found)
