"""Serving a folder of built files, such as the enrolment page.

A site is read once and then served from memory: no request ever names a file of the disk, so none can leave the folder.
"""

from __future__ import annotations

import hashlib
import mimetypes
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

BUILT = Path(__file__).with_name("static")
_INDEX = "index.html"
#: Compressed copies that the build leaves beside a file, by content coding, the better one first (RFC 9110, 8.4.1).
_COPIES = {"br": ".br", "gzip": ".gz"}
#: The build puts a digest of the content into these names: what was cached under one never becomes wrong.
_HASHED = re.compile(r"assets/[^/]+-[A-Za-z0-9_-]{8,}\.[a-z0-9]+")
_FOREVER = "public, max-age=31536000, immutable"
_ASK_FIRST = "no-cache"  # may be kept, but is asked for with its ETag each time
_TYPES = {".js": "text/javascript", ".svg": "image/svg+xml", ".webmanifest": "application/manifest+json"}
_NOT_BUILT = (
    'The page "{0}" is not part of this installation: it has not been built.\n'
    "Run scripts/ensure-web in the checkout, then load this page again. Packages of Intaglio contain it.\n"
)
_TEXTS = ("text/", "application/json", "image/svg+xml")


def content_security_policy(*, connect: str = "") -> str:
    """The policy of a page that takes everything from its own origin; ``connect`` names one more it may speak to.

    Nothing inline, nothing from elsewhere, no frames, no forms that submit, no scripts made from text.
    Source: W3C Content Security Policy Level 3, Trusted Types.
    """
    rules = (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        f"connect-src 'self' {connect}".rstrip(),
        "form-action 'none'",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)


@dataclass(frozen=True)
class _File:
    content: bytes
    content_type: str
    etag: str
    cache_control: str
    copies: Mapping[str, bytes] = field(default_factory=dict)


class StaticSite:
    """The ASGI application of one built site, to be mounted where its build expects to be.

    ``policy`` is asked for the Content-Security-Policy of each answer, with the Host header of its request. While
    ``folder`` has no ``index.html`` every request is answered with what to do about it, so a build that comes later is
    found.
    """

    def __init__(self, folder: Path, *, policy: Callable[[str], str]) -> None:
        self.folder = folder
        self._policy = policy
        self._files: Mapping[str, _File] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer GET and HEAD; refusals are plain sentences, because people read them."""
        scope["intaglio.route"] = scope.get("root_path", "") + "/{file}"
        response = self._respond(scope)
        await response(scope, receive, send)

    def _respond(self, scope: Scope) -> Response:
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("Pages are only read.\n", 405, {"allow": "GET, HEAD"})
        path = str(scope["path"]).removeprefix(scope.get("root_path", ""))
        if path == "":
            return RedirectResponse(f"{scope['path']}/", 308)
        files = self._built()
        if not files:
            return PlainTextResponse(_NOT_BUILT.format(self.folder.name), 503, {"cache-control": "no-store"})
        found = files.get(path.removeprefix("/") or _INDEX)
        if found is None:
            return PlainTextResponse("There is no such page.\n", 404)
        return self._deliver(found, Headers(scope=scope))

    def _built(self) -> Mapping[str, _File]:
        if not self._files:
            self._files = _read(self.folder)
        return self._files

    def _deliver(self, found: _File, asked: Headers) -> Response:
        headers = {
            "etag": found.etag,
            "cache-control": found.cache_control,
            "vary": "accept-encoding",
            "content-security-policy": self._policy(asked.get("host", "")),
            "cross-origin-opener-policy": "same-origin",
            "cross-origin-resource-policy": "same-origin",
            "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
        }
        if _matches(asked.get("if-none-match", ""), found.etag):
            return Response(status_code=304, headers=headers)
        content = found.content
        coding = _preferred(asked.get("accept-encoding", ""), found.copies)
        if coding is not None:
            content = found.copies[coding]
            headers["content-encoding"] = coding
        return Response(content, headers=headers, media_type=found.content_type)


def _read(folder: Path) -> dict[str, _File]:
    """Every file below ``folder`` by its path; nothing when it holds no site."""
    if not (folder / _INDEX).is_file():
        return {}
    paths = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.suffix not in _COPIES.values()]
    return {path.relative_to(folder).as_posix(): _file(path, folder) for path in paths}


def _file(path: Path, folder: Path) -> _File:
    content = path.read_bytes()
    name = path.relative_to(folder).as_posix()
    copies = {
        coding: copy.read_bytes()
        for coding, suffix in _COPIES.items()
        if (copy := path.with_name(path.name + suffix)).is_file()
    }
    return _File(
        content,
        _content_type(path),
        f'"{hashlib.sha256(content).hexdigest()[:32]}"',
        _FOREVER if _HASHED.fullmatch(name) else _ASK_FIRST,
        copies,
    )


def _content_type(path: Path) -> str:
    kind = _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    return f"{kind}; charset=utf-8" if kind.startswith(_TEXTS) else kind


def _matches(if_none_match: str, etag: str) -> bool:
    """RFC 9110, section 13.1.2: the comparison is weak."""
    given = {part.strip().removeprefix("W/") for part in if_none_match.split(",")}
    return etag in given or "*" in given


def _preferred(accept_encoding: str, copies: Mapping[str, bytes]) -> str | None:
    """The best of our copies that the client takes (RFC 9110, section 12.5.3); None: as it is."""
    accepted = set()
    for part in accept_encoding.lower().split(","):
        coding, _, parameters = part.strip().partition(";")
        if not re.fullmatch(r"\s*q\s*=\s*0(\.0{0,3})?\s*", parameters):
            accepted.add(coding.strip())
    return next((coding for coding in copies if coding in accepted), None)


def enrolment_page(mtls_origin: Callable[[str], str]) -> ASGIApp:
    """The enrolment page, to be mounted at ``/enroll``.

    ``mtls_origin`` returns the origin of the mTLS host for the Host header that the page was reached by; it must not
    repeat what is no host name.
    """
    return StaticSite(BUILT / "enroll", policy=lambda host: content_security_policy(connect=mtls_origin(host)))
