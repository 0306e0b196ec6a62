"""The disk of the database is full: refusals say so, nothing that was answered is lost, and room is noticed."""

from __future__ import annotations

import asyncio
import base64
import os
from pathlib import Path

import httpx
from tests.support.pki import (
    Gateway,
    Issued,
    Pki,
    certificate_request,
    eventually,
    issued,
    ok,
    refusal,
)
from tests.support.product import NewProduct, Product

_SIZE = 160 << 20  # octets: an empty cluster takes 60 MiB, its first write-ahead log 16
_CHUNK = 1 << 20

# A disk of its own for the database, which nobody else sees. Who is not root becomes so in a user namespace for as long
# as it takes to mount it, and then himself again, because PostgreSQL refuses to run as root.
_MOUNT = 'mount -t tmpfs -o size="$0",mode=755 intaglio-test "$1"; shift; '
_AS_ROOT = ["unshare", "--mount", "sh", "-ec", _MOUNT + 'exec "$@"']
_AS_USER = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-ec", _MOUNT + 'exec unshare --user "$@"']
_INIT_AND_SERVE = ["sh", "-ec", 'intaglio init; exec "$@"', "-"]


async def test_a_full_disk_is_said_loses_nothing_and_is_over_when_there_is_room(new_product: NewProduct) -> None:
    product = new_product()
    disk = _with_small_disk(product)
    pki = Pki.create(product.start(), "demo")
    async with pki.http() as gateway:
        before = [issued(await gateway.enroll(certificate_request())) for _ in range(5)]
        ballast = f"/proc/{product.runtime.pid}/root/{disk}/ballast"
        await asyncio.to_thread(_fill, ballast)
        after, codes = await _enroll_until_refused_steadily(gateway)
        assert "database-full" in codes, codes
        assert codes <= {"database-full", "database-unavailable", "database-timeout"}, codes
        os.unlink(ballast)
        recovered = await eventually(lambda: _enrolled(gateway), what="the server notices that there is room")
        for certificate in (*before, *after, recovered):
            found = ok(await gateway.client.get(f"/{pki.issuing}/certificates/{certificate.serial}")).json()
            assert base64.b64decode(found["certificate"]["certificateData"]) == certificate.der
    product.run("audit", "verify")


def _with_small_disk(product: Product) -> Path:
    folder = product.data / "postgres"
    folder.mkdir(parents=True)
    product.data.chmod(0o711)
    product.settings |= {"DATABASE_TIMEOUT": "3", "REQUEST_TIMEOUT": "5"}
    disk = [str(_SIZE), str(folder)]
    if os.geteuid() == 0:
        product.launcher = [*_AS_ROOT, *disk, *_INIT_AND_SERVE]
    else:
        himself = [f"--map-user={os.geteuid()}", f"--map-group={os.getegid()}"]
        product.launcher = [*_AS_USER, *disk, *himself, *_INIT_AND_SERVE]
    return folder


def _fill(ballast: str) -> None:
    """Take all the room there is, to the last octet."""
    with open(ballast, "wb", buffering=0) as file:
        for size in (_CHUNK, 4096, 1):
            try:
                while file.write(bytes(size)) == size:
                    pass
            except OSError:
                continue


async def _enroll_until_refused_steadily(gateway: Gateway) -> tuple[list[Issued], set[str]]:
    """What was still issued, and the codes of thirty refusals."""
    received: list[Issued] = []
    codes: list[str] = []
    request = certificate_request()
    while len(codes) < 30:
        answers = await asyncio.gather(*(gateway.enroll(request, properties={"x": "y" * 4000}) for _ in range(10)))
        for answer in answers:
            if answer.status_code == 200:
                received.append(issued(answer))
            else:
                codes.append(refusal(answer, 503, 504)["details"][0]["code"])
        assert len(received) < 10_000, "the disk does not get full"
    return received, set(codes)


async def _enrolled(gateway: Gateway) -> Issued | None:
    answer: httpx.Response = await gateway.enroll(certificate_request())
    return issued(answer) if answer.status_code == 200 else None
