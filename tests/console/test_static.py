"""Serving a built site: what browsers get, what they may keep, and what nobody gets."""

from __future__ import annotations

import gzip
from pathlib import Path

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import Mount

from intaglio.console.static import StaticSite, content_security_policy

_SCRIPT = b"console.log('hello')\n" * 100


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site as the build leaves it, with a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    site = tmp_path / "site"
    (site / "assets").mkdir(parents=True)
    (site / "index.html").write_text("<!doctype html><title>Hello</title>")
    (site / "assets" / "index-Ab12_-Cd.js").write_bytes(_SCRIPT)
    (site / "assets" / "index-Ab12_-Cd.js.gz").write_bytes(gzip.compress(_SCRIPT))
    (site / "assets" / "index-Ab12_-Cd.js.br").write_bytes(b"as good as brotli")
    (site / "seal.svg").write_text("<svg/>")
    return site


def _client(folder: Path) -> httpx.AsyncClient:
    site = StaticSite(folder, policy=lambda host: content_security_policy(connect=f"https://{host}:1443"))
    app = Starlette(routes=[Mount("/enroll", site)])
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="https://pki.example")


async def _get(folder: Path, path: str, **headers: str) -> httpx.Response:
    given_headers = {name.replace("_", "-"): value for name, value in headers.items()}
    async with _client(folder) as client:
        return await client.get(path, headers=given_headers)


async def test_the_page_is_found_with_and_without_its_slash(folder: Path) -> None:
    page = await _get(folder, "/enroll/")
    assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "Hello" in page.text
    bare = await _get(folder, "/enroll")
    assert bare.status_code in (307, 308)
    assert httpx.URL(bare.headers["location"]).path == "/enroll/"


async def test_the_policy_allows_own_files_and_the_mtls_host_only(folder: Path) -> None:
    policy = (await _get(folder, "/enroll/")).headers["content-security-policy"]
    rules = {name: values for name, *values in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == rules["style-src"] == ["'self'"]
    assert rules["connect-src"] == ["'self'", "https://pki.example:1443"]
    assert rules["frame-ancestors"] == rules["form-action"] == rules["base-uri"] == ["'none'"]
    assert rules["require-trusted-types-for"] == ["'script'"]
    assert "unsafe" not in policy


async def test_names_with_a_digest_are_kept_and_others_asked_for_again(folder: Path) -> None:
    assert "immutable" in (await _get(folder, "/enroll/assets/index-Ab12_-Cd.js")).headers["cache-control"]
    for path in ("/enroll/", "/enroll/index.html", "/enroll/seal.svg"):
        assert (await _get(folder, path)).headers["cache-control"] == "no-cache"


async def test_an_unchanged_file_is_not_sent_again(folder: Path) -> None:
    first = await _get(folder, "/enroll/")
    again = await _get(folder, "/enroll/", if_none_match=f'"other", W/{first.headers["etag"]}')
    assert (again.status_code, again.content) == (304, b"")
    assert (await _get(folder, "/enroll/", if_none_match='"other"')).status_code == 200


@pytest.mark.parametrize(
    ("accepted", "coding"),
    [("gzip, deflate, br", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip"), ("identity", None), ("", None)],
)
async def test_the_best_copy_that_the_client_takes_is_sent(folder: Path, accepted: str, coding: str | None) -> None:
    async with _client(folder) as client:
        path = "/enroll/assets/index-Ab12_-Cd.js"
        async with client.stream("GET", path, headers={"accept-encoding": accepted}) as answer:
            raw = b"".join([part async for part in answer.aiter_raw()])
    expected = {"br": b"as good as brotli", "gzip": gzip.compress(_SCRIPT), None: _SCRIPT}
    assert answer.headers.get("content-encoding") == coding
    assert len(raw) == len(expected[coding])
    assert answer.headers["vary"] == "accept-encoding"
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"


async def test_head_has_no_body_and_nothing_can_be_written(folder: Path) -> None:
    async with _client(folder) as client:
        head = await client.head("/enroll/")
        assert (head.status_code, head.content) == (200, b"")
        written = await client.post("/enroll/", content=b"x")
    assert (written.status_code, written.headers["allow"]) == (405, "GET, HEAD")


@pytest.mark.parametrize(
    "path",
    [
        "/enroll/../secret.txt",
        "/enroll/%2e%2e/secret.txt",
        "/enroll/..%2fsecret.txt",
        "/enroll/assets/../../secret.txt",
        "/enroll//etc/passwd",
        "/enroll/assets",
        "/enroll/assets/index-Ab12_-Cd.js.gz",
        "/enroll/index.html%00",
    ],
)
async def test_nothing_but_the_files_of_the_site_is_found(folder: Path, path: str) -> None:
    scope = {
        "type": "http",
        "method": "GET",
        "path": httpx.URL(f"https://x{path}").raw_path.decode() if "%" not in path else _unquoted(path),
        "root_path": "/enroll",
        "headers": [],
    }
    assert await _status(folder, scope) == 404


@given(path=st.text(max_size=200), accepted=st.binary(max_size=60), etags=st.binary(max_size=60))
async def test_any_request_is_answered(path: str, accepted: bytes, etags: bytes) -> None:
    folder = Path(__file__).parents[2] / "web" / "apps" / "enroll"  # any folder with an index.html
    headers = [(b"accept-encoding", accepted), (b"if-none-match", etags)]
    scope = {"type": "http", "method": "GET", "path": f"/enroll/{path}", "root_path": "/enroll", "headers": headers}
    known = {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} | {""}
    assert await _status(folder, scope) == (200 if path.removeprefix("/") in known else 404)


def _unquoted(path: str) -> str:
    return bytes(httpx.URL(f"https://x{path}").path, "utf-8").decode()


async def _status(folder: Path, scope: dict[str, object]) -> int:
    statuses: list[int] = []

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b""}

    async def send(message: dict[str, object]) -> None:
        if message["type"] == "http.response.start":
            statuses.append(int(str(message["status"])))

    await StaticSite(folder, policy=lambda _: content_security_policy())(scope, receive, send)  # type: ignore[arg-type]
    return statuses[0]


async def test_a_missing_build_is_explained_and_found_once_it_is_there(folder: Path) -> None:
    page = (folder / "index.html").rename(folder.parent / "index.html")
    async with _client(folder) as client:
        missing = await client.get("/enroll/")
        assert missing.status_code == 503
        assert "scripts/ensure-web" in missing.text
        page.rename(folder / "index.html")
        assert (await client.get("/enroll/")).status_code == 200
