"""The service as HTTP clients meet it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tests.support.authority import OPERATOR
from tests.timestamping.conftest import TYPE, House, query, shown

from intaglio.core.errors import TooLarge
from intaglio.platform import live_settings
from intaglio.timestamping import issuers
from intaglio.timestamping.clock.measurement import ClockUnreachable, Measurement
from intaglio.timestamping.reading import read_reply


async def settings(house: House, **values: Any) -> None:
    """Change the settings of timestamping, and have the process hear of it."""
    async with house.timestamps.authority.database.transaction() as tx:
        await live_settings.change(tx, OPERATOR, "timestamping", values)
    await house.app.configuration_changed()


async def test_an_unknown_issuer_is_not_found(house: House) -> None:
    assert (await house.client.post("/tsa/nobody", content=b"", headers=TYPE)).status_code == 404
    assert (await house.client.post("/tsa/", content=b"", headers=TYPE)).status_code == 404
    assert (await house.client.post("/tsa/a/b", content=b"", headers=TYPE)).status_code == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
async def test_other_methods_are_not_allowed(house: House, method: str) -> None:
    await house.issuer()
    answer = await house.client.request(method, "/tsa/standard")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_a_foreign_media_type_is_refused_and_a_missing_one_is_not(house: House, tmp_path: Path) -> None:
    await house.issuer()
    request = query(tmp_path)
    answer = await house.client.post("/tsa/standard", content=request, headers={"content-type": "text/xml"})
    assert answer.status_code == 415
    for headers in ({}, {"content-type": "Application/Timestamp-Query; version=1"}):
        answer = await house.client.post("/tsa/standard", content=request, headers=headers)
        assert answer.status_code == 200
        assert "Status: Granted." in shown(tmp_path, answer.content)


async def test_what_is_too_large_is_refused(house: House) -> None:
    await house.issuer()

    async def parts() -> Any:
        for _ in range(10):
            yield bytes(1000)

    for body in (bytes(9000), parts()):  # with a length, and in chunks
        with pytest.raises(TooLarge):  # answered 413 by the boundary round every application
            await house.client.post("/tsa/standard", content=body, headers=TYPE)
    answer = await house.client.post("/tsa/standard", content=b"", headers={**TYPE, "x-more": "x" * 2000})
    assert answer.status_code == 431
    await settings(house, max_header_octets=8192)
    answer = await house.client.post("/tsa/standard", content=b"", headers={**TYPE, "x-more": "x" * 2000})
    assert answer.status_code == 200


def _scope(
    path: str = "/tsa/standard", *, method: str = "POST", content_type: bytes = b"application/timestamp-query"
) -> Any:
    return {
        "type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b"",
        "headers": [(b"content-type", content_type)],
    }  # fmt: skip


async def test_a_token_is_given_at_once_when_nothing_has_to_be_waited_for(house: House, tmp_path: Path) -> None:
    await house.issuer()
    await house.issuer("sorted", profile={"ordering": True})
    request = query(tmp_path)
    assert house.app.at_once(_scope(), request) is None  # serial numbers come from the database first
    await house.reply(request)
    answer = house.app.at_once(_scope(), request)
    assert answer is not None
    status, headers, body = answer
    assert (status, dict(headers)) == (
        200, {b"content-type": b"application/timestamp-reply", b"content-length": b"%d" % len(body)},
    )  # fmt: skip
    assert "Status: Granted." in shown(tmp_path, body)
    assert read_reply(house.app.at_once(_scope(), request)[2]).info.serial != read_reply(body).info.serial  # type: ignore[index]
    assert house.app.at_once(_scope("/tsa/sorted"), request) is None


async def test_what_is_refused_is_not_refused_at_once(house: House, tmp_path: Path) -> None:
    await house.issuer()
    request = query(tmp_path)
    await house.reply(request)
    assert house.app.at_once(_scope(), request) is not None
    for scope in (
        _scope(method="GET"), _scope("/tsa/nobody"), _scope("/tsa/health"), _scope(content_type=b"text/xml"),
        _scope("/tsa/standard" + "?" * 2000),
    ):  # fmt: skip
        assert house.app.at_once(scope, request) is None
    assert house.app.at_once(_scope(), bytes(9000)) is None


async def test_no_token_is_given_at_once_while_changes_are_not_heard_of(house: House, tmp_path: Path) -> None:
    await house.issuer()
    request = query(tmp_path)
    await house.reply(request)
    await house.timestamps.watch.stop()
    house.timestamps.watch._last_heard = float("-inf")
    house.app.service.directory._confirmed = float("-inf")
    assert house.app.at_once(_scope(), request) is None


async def test_a_request_that_does_not_arrive_is_given_up(house: House) -> None:
    await house.issuer()
    house.app._longest = 0.01
    stuck = asyncio.Event()

    async def receive() -> dict[str, Any]:
        await stuck.wait()
        return {"type": "http.disconnect"}

    assert (await _by_hand(house, receive))["status"] == 503


async def test_more_requests_than_are_allowed_are_told_to_come_again(house: House) -> None:
    await house.issuer()
    await settings(house, listen_limit=1)
    arrived, go_on = asyncio.Event(), asyncio.Event()

    async def receive() -> dict[str, Any]:
        arrived.set()
        await go_on.wait()
        return {"type": "http.request", "body": b"garbage", "more_body": False}

    first = asyncio.create_task(_by_hand(house, receive))
    await arrived.wait()
    second = await house.client.post("/tsa/standard", content=b"", headers=TYPE)
    assert (second.status_code, second.headers["retry-after"]) == (503, "1")
    go_on.set()
    assert (await first)["status"] == 200
    assert (await house.client.post("/tsa/standard", content=b"", headers=TYPE)).status_code == 200


async def _by_hand(house: House, receive: Any) -> Any:
    """The start of the answer to a request whose body comes from ``receive``."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "method": "POST", "path": "/tsa/standard", "raw_path": b"/tsa/standard", "query_string": b"",
        "headers": [(b"content-type", b"application/timestamp-query")],
    }  # fmt: skip
    await house.app(scope, receive, send)
    return sent[0]


async def test_a_bad_clock_gives_no_tokens_and_a_good_one_gives_them_again(house: House, tmp_path: Path) -> None:
    await house.issuer()
    await settings(house, poll_interval=1)
    request = query(tmp_path)
    assert "Status: Granted." in shown(tmp_path, await house.reply(request))
    house.source.found = Measurement("test", 3.0, 3.0)
    await house.app.service.gate._check(house.app.service.directory.settings)
    text = shown(tmp_path, await house.reply(request))
    assert "Status: Rejected." in text
    assert "the TSA's time source is not available" in text
    house.source.found = ClockUnreachable("gone")
    await house.app.service.gate._check(house.app.service.directory.settings)
    assert "Status: Rejected." in shown(tmp_path, await house.reply(request))
    house.source.found = Measurement("test", 0.0, 0.001)
    await house.app.service.gate._check(house.app.service.directory.settings)
    assert "Status: Granted." in shown(tmp_path, await house.reply(request))


async def test_health_tells_what_is_wrong(house: House, tmp_path: Path) -> None:
    answer = await house.client.get("/tsa/health")
    assert (answer.status_code, answer.json()) == (200, {"status": "UP", "issuers": {}})
    await house.issuer()
    answer = await house.client.get("/tsa/health")
    assert answer.status_code == 200
    assert answer.json()["clock"]["status"] == "UP"
    assert answer.json()["issuers"]["standard"]["status"] == "UP"
    await house.issuer("foreign", ca=None)
    answer = await house.client.get("/tsa/health")
    assert answer.status_code == 503
    assert answer.json()["issuers"]["foreign"]["reason"] == "There is no certificate yet."
    text = shown(tmp_path, await house.reply(query(tmp_path), "foreign"))
    assert "the request cannot be handled due to system failure" in text
    await issuers.delete_issuer(house.timestamps, OPERATOR, "foreign")
    await house.app.configuration_changed()
    house.source.found = ClockUnreachable("chronyd is gone.")
    await house.app.service.gate._check(house.app.service.directory.settings)
    answer = await house.client.get("/tsa/health")
    assert (answer.status_code, answer.json()["clock"]["cause"]) == (503, "chronyd is gone.")


async def test_a_disabled_issuer_is_not_there(house: House, tmp_path: Path) -> None:
    await house.issuer()
    await issuers.change_issuer(house.timestamps, OPERATOR, "standard", enabled=False)
    await house.app.configuration_changed()
    assert (await house.client.post("/tsa/standard", content=query(tmp_path), headers=TYPE)).status_code == 404


async def test_an_expired_certificate_signs_nothing(house: House, tmp_path: Path) -> None:
    await house.issuer()
    request = query(tmp_path)
    await house.reply(request)
    ready = house.app.service.directory.issuers["standard"]
    assert ready.signer is not None
    end = ready.signer.certificate.not_after
    with pytest.raises(Exception, match="is valid from"):
        ready.signer.require_usable(end.replace(year=end.year + 1))


async def test_requests_at_the_same_time_get_tokens_of_their_own(house: House, tmp_path: Path) -> None:
    await house.issuer(profile={"ordering": True})
    request = query(tmp_path)
    replies = await asyncio.gather(*(house.reply(request) for _ in range(50)))
    tokens = [read_reply(reply).info for reply in replies]
    assert len({token.serial for token in tokens}) == 50
    assert len({token.time for token in tokens}) == 50
