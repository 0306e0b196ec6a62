"""What is said under every status profile, as `openssl ocsp` prints it."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.support.foreign import HELD, REVOKED, ForeignCa, Known, learn
from tests.support.relying_party import listening
from tests.support.status_authorities import Establish

from intaglio.core import clock
from intaglio.db.engine import Database
from intaglio.validation.api import PublicApp

_EIGHT_HOURS = timedelta(hours=8)
#: OpenSSL's name of id-pkix-ocsp-extended-revoke (1.3.6.1.5.5.7.48.1.9), where it is printed.
_EXTENDED_REVOKED = "    Response Extensions:\n        valid: "


class Asked:
    """What `openssl ocsp` said."""

    def __init__(self, output: str) -> None:
        self.output = output

    def moment(self, name: str) -> datetime | None:
        found = re.search(rf"^\s+{name}: (.+)$", self.output, re.MULTILINE)
        return None if found is None else datetime.strptime(found[1], "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)


async def ask(folder: Path, url: str, ca: ForeignCa, serial: int, *options: str) -> Asked:
    """Ask with OpenSSL about a serial number, and have it verify the answer under the CA."""
    (folder / "ca.pem").write_text(ca.pem)
    process = await asyncio.create_subprocess_exec(
        "openssl", "ocsp", "-issuer", str(folder / "ca.pem"), "-CAfile", str(folder / "ca.pem"), "-serial",
        hex(serial), "-url", url, "-resp_text", *options, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    output = (await process.communicate())[0].decode()
    return Asked(output)


@pytest.mark.parametrize(
    ("profile", "has_next", "has_cutoff"),
    [
        ("basic", False, False),
        ("archiveCutOff", False, True),
        ("nextUpdate", True, False),
        ("archiveCutOffWithNextUpdate", True, True),
    ],
)
async def test_a_feed_is_answered_from_as_its_profile_says(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path,
    profile: str, has_next: bool, has_cutoff: bool,
) -> None:  # fmt: skip
    ca = ForeignCa()
    authority = await establish(ca, "foreign", profile)
    pulled = clock.now().replace(microsecond=0) - timedelta(seconds=40)
    since = pulled - timedelta(days=3)
    await learn(
        database, authority, {7: Known(), 8: Known(REVOKED, since, 1), 9: Known(HELD, since)}, last_ok=pulled
    )
    async with listening(public) as base:
        good = await ask(tmp_path, f"{base}/eva", ca, 7)
        assert "Response verify OK" in good.output
        assert "0x7: good" in good.output
        assert good.moment("This Update") == pulled
        assert good.moment("Next Update") == (pulled + _EIGHT_HOURS if has_next else None)
        assert ("Archive Cutoff" in good.output) is has_cutoff
        if has_cutoff:
            assert f"{ca.since:%b} {ca.since.day:2d} {ca.since:%H:%M:%S %Y} GMT" in good.output
        assert _EXTENDED_REVOKED not in good.output
        revoked = await ask(tmp_path, f"{base}/eva", ca, 8)
        assert "0x8: revoked" in revoked.output
        assert "Reason: keyCompromise" in revoked.output
        assert revoked.moment("Revocation Time") == since
        held = await ask(tmp_path, f"{base}/eva", ca, 9)
        assert "Reason: certificateHold" in held.output
        never_issued = await ask(tmp_path, f"{base}/eva", ca, 10)
        assert "0xA: revoked" in never_issued.output or "0xa: revoked" in never_issued.output
        assert never_issued.moment("Revocation Time") == datetime(1970, 1, 1, tzinfo=UTC)
        assert "Reason: certificateHold" in never_issued.output
        assert _EXTENDED_REVOKED in never_issued.output


@pytest.mark.parametrize(
    ("profile", "next_of_crl", "has_cutoff", "absent"),
    [
        ("CRLProfile", False, False, "good"),
        ("CRLProfileWithArchiveCutOff", False, True, "good"),
        ("CRLProfileWithNextUpdate", True, False, "good"),
        ("SNListProfile", False, False, "unknown"),
        ("SNListProfileWithArchiveCutOff", False, True, "unknown"),
        ("SNListProfileWithNextUpdate", True, False, "unknown"),
    ],
)
async def test_a_crl_is_answered_from_as_its_profile_says(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path,
    profile: str, next_of_crl: bool, has_cutoff: bool, absent: str,
) -> None:  # fmt: skip
    ca = ForeignCa()
    authority = await establish(ca, "foreign", profile)
    now = clock.now().replace(microsecond=0)
    begin, end = now - timedelta(hours=1), now + timedelta(hours=5)
    parts = ("", ":serials") if "SNList" in profile else ("",)
    entries = {8: Known(REVOKED, begin, 4)} | ({7: Known()} if "SNList" in profile else {})
    await learn(database, authority, entries, parts=parts, this_update=begin, next_update=end)
    async with listening(public) as base:
        good = await ask(tmp_path, f"{base}/eva/foreign", ca, 7)
        assert "Response verify OK" in good.output
        assert "0x7: good" in good.output
        assert good.moment("This Update") == begin
        assert good.moment("Next Update") == (end if next_of_crl else None)
        assert ("Archive Cutoff" in good.output) is has_cutoff
        revoked = await ask(tmp_path, f"{base}/eva/foreign", ca, 8)
        assert "0x8: revoked" in revoked.output
        assert "Reason: superseded" in revoked.output
        other = await ask(tmp_path, f"{base}/eva/foreign", ca, 0x77)
        assert f"0x77: {absent}" in other.output
        assert _EXTENDED_REVOKED not in other.output


async def test_nothing_is_good_before_a_source_was_read_completely_or_after_it_ended(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path
) -> None:
    feed, crl = ForeignCa("Fed"), ForeignCa("Listed")
    by_feed, by_crl = await establish(feed, "fed", "basic"), await establish(crl, "listed", "CRLProfile")
    now = clock.now()
    async with listening(public) as base:
        for ca in (feed, crl):
            assert "trylater" in (await ask(tmp_path, f"{base}/eva", ca, 7)).output
        await learn(database, by_feed, {7: Known()}, complete=False)
        begin = now - timedelta(days=2)
        await learn(database, by_crl, {}, this_update=begin, next_update=now - timedelta(seconds=1))
        for ca in (feed, crl):
            assert "trylater" in (await ask(tmp_path, f"{base}/eva", ca, 7)).output
        await learn(database, by_feed, {7: Known()}, last_ok=now - timedelta(minutes=6))
        assert "trylater" in (await ask(tmp_path, f"{base}/eva", feed, 7)).output
        await learn(database, by_feed, {7: Known()})
        await learn(database, by_crl, {}, this_update=now, next_update=now + timedelta(days=1))
        for ca in (feed, crl):
            assert "0x7: good" in (await ask(tmp_path, f"{base}/eva", ca, 7)).output


async def test_serial_numbers_are_compared_as_numbers(
    database: Database, public: PublicApp, establish: Establish, tmp_path: Path
) -> None:
    ca = ForeignCa()
    serial = 0x80FF00AA
    authority = await establish(ca, "foreign", "basic")
    await learn(database, authority, {serial: Known()})
    async with listening(public) as base:
        for spelling in ("0x80ff00aa", "0x0080FF00AA", str(serial)):
            (tmp_path / "ca.pem").write_bytes(ca.certificate.public_bytes(Encoding.PEM))
            process = await asyncio.create_subprocess_exec(
                "openssl", "ocsp", "-issuer", str(tmp_path / "ca.pem"), "-CAfile", str(tmp_path / "ca.pem"),
                "-serial", spelling, "-url", f"{base}/eva",
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            assert f"{spelling}: good" in (await process.communicate())[0].decode()
