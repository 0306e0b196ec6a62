"""CRLs of other CAs: what is taken in, what is kept out, and what stays known meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509 import ReasonFlags, UnrecognizedExtension
from cryptography.x509.oid import ObjectIdentifier
from sqlalchemy import select
from tests.support.authority import OPERATOR
from tests.support.crl_server import FileServer, crl, revoked_at, scope
from tests.support.foreign import ForeignCa
from tests.validation.sources.conftest import Open, Reader

from intaglio.core import clock
from intaglio.validation import models
from intaglio.validation.authorities import service
from intaglio.validation.context import Validation

HOLD, COMPROMISE, REMOVE = ReasonFlags.certificate_hold, ReasonFlags.key_compromise, ReasonFlags.remove_from_crl


async def test_revoked_and_held_certificates_are_known_after_a_look(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 7, {0x1234: COMPROMISE, 0x80FF: HOLD, 5: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    assert (await reader.state()).stale_reason == "source-never-complete"
    looked = await reader.look()
    assert (looked.outcome, looked.changed) == ("changed", 3)
    assert await reader.statuses() == {0x1234: "revoked", 0x80FF: "held", 5: "revoked"}
    entry = await reader.entry(0x1234)
    assert entry["reason"] == 1
    assert (await reader.entry(5))["reason"] is None
    state = await reader.state()
    assert state.stale_reason is None
    assert state.entries == 3
    assert state.this_update is not None
    assert entry["revoked_at"] == revoked_at(ca)
    assert state.next_update == state.this_update + timedelta(days=1)


async def test_pem_is_read_like_der(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files["ca.pem"] = crl(ca, 1, {9: None}, pem=True)
    reader = await open_reader({"url": files.url("ca.pem")})
    await reader.look()
    assert await reader.statuses() == {9: "revoked"}


@pytest.mark.parametrize("bits", [2048, 5120])
async def test_crls_of_rsa_keys_of_any_size_are_verified(
    files: FileServer, ca: ForeignCa, open_reader: Open, bits: int
) -> None:
    ca.key = rsa.generate_private_key(65537, bits)
    ca.__post_init__()
    files.files["ca.crl"] = crl(ca, 1, {9: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    assert (await reader.look()).outcome == "changed"


async def test_what_is_not_on_the_next_crl_is_forgotten(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None, 2: HOLD, 3: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.files["ca.crl"] = crl(ca, 2, {1: None, 2: COMPROMISE, 4: None})
    assert (await reader.look()).changed == 3
    assert await reader.statuses() == {1: "revoked", 2: "revoked", 4: "revoked"}


async def test_an_unchanged_crl_is_not_sent_again(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    before = await reader.part()
    assert (await reader.look()).outcome == "unchanged"
    assert "if-none-match" in files.requests[-1].lower()
    after = await reader.part()
    assert after["last_ok_at"] >= before["last_ok_at"]
    assert after["entries"] == 1


def _sent(body: bytes, *headers: str) -> bytes:
    head = "\r\n".join(("HTTP/1.1 200 OK", f"Content-Length: {len(body)}", "Connection: close", *headers))
    return f"{head}\r\n\r\n".encode() + body


async def test_an_entity_tag_made_of_the_time_does_not_hide_another_crl_of_the_same_second(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    made = "Last-Modified: Sun, 06 Nov 2050 08:49:37 GMT"
    tag = 'ETag: "70a1b2c3-1f4"'
    at_once = (tag, made, "Date: Sun, 06 Nov 2050 08:49:38 GMT")
    later = (tag, made, "Date: Sun, 06 Nov 2050 08:49:40 GMT")
    files.answers["ca.crl"] = _sent(crl(ca, 1, {1: None}), *at_once)
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.answers["ca.crl"] = second = _sent(crl(ca, 2, {2: None}), *at_once)
    assert (await reader.look()).outcome == "changed"
    assert await reader.statuses() == {2: "revoked"}
    files.answers["ca.crl"] = second.replace(at_once[2].encode(), later[2].encode())
    assert [(await reader.look()).outcome for _ in range(2)] == ["unchanged", "unchanged"]
    assert ["if-none-match" in request.lower() for request in files.requests] == [False, False, False, True]


async def test_a_server_that_always_says_unchanged_is_asked_for_the_file_now_and_then(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.answers["ca.crl"] = b"HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n"
    looked = [(await reader.look()).outcome for _ in range(12)]
    assert looked == ["unchanged"] * 11 + ["failed"], "a file was asked for, and there was none"
    assert ["if-none-match" in request.lower() for request in files.requests[1:]] == [True] * 11 + [False]
    del files.answers["ca.crl"]
    files.files["ca.crl"] = crl(ca, 2, {2: None})
    assert (await reader.look()).outcome == "changed"


async def test_each_change_is_announced_once_with_its_serial_numbers(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None, 2: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.files["ca.crl"] = crl(ca, 2, {2: None, 3: None})
    await reader.look()
    await reader.look()
    async with validation.database.read() as view:
        c = models.status_change.c
        changes = await view.all(select(c.version, c.serial).order_by(c.version, c.serial))
        head = await view.scalar(select(models.status_head.c.version))
    last = [bytes(row["serial"]) for row in changes if row["version"] == head]
    assert last == [b"\x01", b"\x03"]
    assert len({row["version"] for row in changes}) == 2


def _bad(ca: ForeignCa) -> dict[str, bytes]:
    now = clock.now().replace(microsecond=0)
    good = crl(ca, 5, {1: None, 2: None})
    unknown = UnrecognizedExtension(ObjectIdentifier("1.2.3.4"), b"\x05\x00")
    return {
        "crl-signature-invalid": good[:-4] + bytes(octet ^ 1 for octet in good[-4:]),
        "crl-issuer-wrong": crl(ForeignCa("Somebody else"), 5, {2: None}),
        "crl-expired": crl(ca, 5, {2: None}, since=now - timedelta(days=3)),
        "crl-from-the-future": crl(ca, 5, {2: None}, since=now + timedelta(hours=1)),
        "crl-older": crl(ca, 3, {2: None}),
        "crl-not-understood": crl(ca, 5, {2: None}, extensions=((unknown, True),)),
        "crl-scope-unfit": crl(ca, 5, {2: None}, extensions=(scope("http://x.example/", user=True),)),
        "crl-kind-wrong": crl(ca, 5, {2: None}, base=4),
        "invalid-pem": b"<html>It works!</html>",
        "invalid-der": good[:200],
    }


@pytest.mark.parametrize("code", sorted(_bad(ForeignCa())))
async def test_a_bad_crl_is_kept_out_and_reported_while_the_one_before_stays(
    files: FileServer, ca: ForeignCa, open_reader: Open, code: str
) -> None:
    files.files["ca.crl"] = crl(ca, 4, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.files["ca.crl"] = _bad(ca)[code]
    looked = await reader.look()
    assert looked.outcome == "failed"
    assert looked.failures[""].code == code
    assert await reader.statuses() == {1: "revoked"}
    state = await reader.state()
    assert state.stale_reason is None
    assert (state.last_error or "").startswith(code)
    files.files["ca.crl"] = crl(ca, 6, {2: None})
    assert (await reader.look()).outcome == "changed"
    assert (await reader.state()).last_error is None


async def test_the_wrong_key_of_the_right_name_is_refused(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, key=ec.generate_private_key(ec.SECP256R1()))
    reader = await open_reader({"url": files.url("ca.crl")})
    assert (await reader.look()).failures[""].code == "crl-signature-invalid"
    assert (await reader.state()).stale_reason == "source-never-complete"


async def test_what_is_known_goes_stale_when_its_crl_ends(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, life=timedelta(hours=2))
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    with clock.frozen(clock.now() + timedelta(hours=3)):
        state = await reader.state()
        assert state.stale_reason == "crl-expired"
        assert (await reader.look()).failures[""].code == "crl-expired"


async def test_a_crl_for_user_certificates_is_enough_where_that_is_said(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, extensions=(scope(user=True),))
    reader = await open_reader({"url": files.url("ca.crl")}, covers="user")
    assert (await reader.look()).outcome == "changed"


async def test_what_a_key_signed_that_is_not_trusted_any_more_is_not_answered_from(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    files.files["ca.crl"] = crl(ca, 5, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    spec = (await service.get(validation, OPERATOR, "foreign")).authority.spec
    renewed = ForeignCa(ca.name)
    both = spec.model_copy(update={"issuers": ca.pem + renewed.pem})
    await service.change(validation, OPERATOR, "foreign", both)
    assert (await reader.state()).stale_reason is None
    await service.change(validation, OPERATOR, "foreign", both.model_copy(update={"issuers": renewed.pem}))
    assert (await reader.state()).stale_reason == "source-never-complete"
    assert (await reader.look()).outcome == "failed"
    files.files["ca.crl"] = crl(renewed, 4, {})
    assert (await reader.look()).failures[""].code == "crl-older"
    files.files["ca.crl"] = crl(renewed, 6, {2: None})
    assert (await reader.look()).outcome == "changed"
    assert await reader.statuses() == {2: "revoked"}
    assert (await reader.state()).stale_reason is None


# ---- partitions ------------------------------------------------------------------------------------------------------


async def _partitioned(files: FileServer, ca: ForeignCa, open_reader: Open) -> Reader:
    for name, serials in (("one", {1: None, 2: None}), ("two", {11: None})):
        files.files[name] = crl(ca, 1, serials, extensions=(scope(f"http://x.example/{name}"),))
    return await open_reader({"name": "one", "url": files.url("one")}, {"name": "two", "url": files.url("two")})


async def test_partitions_together_are_what_is_known(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    reader = await _partitioned(files, ca, open_reader)
    await reader.look()
    assert await reader.statuses() == {1: "revoked", 2: "revoked", 11: "revoked"}
    files.files["one"] = crl(ca, 2, {2: None}, extensions=(scope("http://x.example/one"),))
    await reader.look()
    assert await reader.statuses() == {2: "revoked", 11: "revoked"}


async def test_nothing_is_answered_while_a_partition_is_missing(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    reader = await _partitioned(files, ca, open_reader)
    there = files.files.pop("two")
    assert set((await reader.look()).failures) == {"two"}
    assert (await reader.state()).stale_reason == "source-never-complete"
    files.files["two"] = there
    await reader.look()
    assert (await reader.state()).stale_reason is None


async def test_the_same_crl_in_two_partitions_is_noticed(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    reader = await _partitioned(files, ca, open_reader)
    files.files["two"] = files.files["one"]
    assert (await reader.look()).failures["two"].code == "crl-twice"
    assert (await reader.part("one"))["complete"]


async def test_another_partition_in_place_of_the_one_before_takes_nothing_back(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    reader = await _partitioned(files, ca, open_reader)
    await reader.look()
    files.files["one"] = crl(ca, 9, {}, extensions=(scope("http://x.example/nine"),))
    looked = await reader.look()
    assert looked.failures["one"].code == "crl-scope-changed"
    assert "reset-source" in looked.failures["one"].remedy
    files.files["one"] = crl(ca, 9, {}, extensions=(scope("http://x.example/one", user=True),))
    assert (await reader.look()).failures["one"].code == "crl-scope-changed"
    assert await reader.statuses() == {1: "revoked", 2: "revoked", 11: "revoked"}


async def test_a_crl_about_more_than_before_or_named_after_its_url_is_taken(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None}, extensions=(scope("http://x.example/ca.crl"),))
    reader = await open_reader({"url": files.url("ca.crl")})
    await reader.look()
    files.files["ca.crl"] = crl(ca, 2, {2: None}, extensions=(scope(files.url("ca.crl")),))
    assert (await reader.look()).outcome == "changed"
    files.files["ca.crl"] = crl(ca, 3, {3: None})
    assert (await reader.look()).outcome == "changed"
    files.files["ca.crl"] = crl(ca, 4, {}, extensions=(scope("http://x.example/part"),))
    assert (await reader.look()).failures[""].code == "crl-scope-changed"
    assert await reader.statuses() == {3: "revoked"}


async def test_partitions_for_user_certificates_alone_are_not_taken_for_the_whole(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    for serial, name in enumerate(("one", "two"), 1):
        files.files[name] = crl(ca, 1, {serial: None}, extensions=(scope(f"http://x.example/{name}", user=True),))
    parts = [{"name": name, "url": files.url(name)} for name in ("one", "two")]
    reader = await open_reader(*parts)
    assert (await reader.look()).failures["two"].code == "crl-scope-unfit"
    assert (await reader.state()).stale_reason == "source-never-complete"
    files.files["two"] = crl(ca, 2, {2: None}, extensions=(scope("http://x.example/two"),))
    await reader.look()
    assert (await reader.state()).stale_reason is None


# ---- deltas ----------------------------------------------------------------------------------------------------------


async def _with_delta(files: FileServer, ca: ForeignCa, open_reader: Open) -> Reader:
    files.files["ca.crl"] = crl(ca, 10, {1: None, 2: HOLD})
    files.files["delta.crl"] = crl(ca, 11, {3: COMPROMISE, 2: REMOVE}, base=10)
    return await open_reader({"url": files.url("ca.crl"), "delta_url": files.url("delta.crl")})


async def test_a_delta_adds_and_removes(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    reader = await _with_delta(files, ca, open_reader)
    assert (await reader.look()).outcome == "changed"
    assert await reader.statuses() == {1: "revoked", 3: "revoked"}


async def test_what_a_delta_both_revokes_and_removes_is_revoked(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    reader = await _with_delta(files, ca, open_reader)
    files.files["delta.crl"] = crl(ca, 11, [(2, COMPROMISE), (2, REMOVE)], base=10)
    await reader.look()
    assert await reader.statuses() == {1: "revoked", 2: "revoked"}


async def test_a_delta_whose_base_is_unknown_waits(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    reader = await _with_delta(files, ca, open_reader)
    files.files["delta.crl"] = crl(ca, 13, {4: None}, base=12)
    looked = await reader.look()
    assert looked.failures[":delta"].code == "crl-delta-base"
    assert await reader.statuses() == {1: "revoked", 2: "held"}
    files.files["ca.crl"] = crl(ca, 12, {1: None})
    assert (await reader.look()).outcome == "changed"
    assert await reader.statuses() == {1: "revoked", 4: "revoked"}


async def test_a_complete_crl_below_the_delta_takes_nothing_back(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    reader = await _with_delta(files, ca, open_reader)
    files.files["delta.crl"] = crl(ca, 14, {3: None}, base=10)
    await reader.look()
    files.files["ca.crl"] = crl(ca, 12, {1: None, 2: HOLD})
    await reader.look()
    assert (await reader.statuses())[3] == "revoked"
    files.files["ca.crl"] = crl(ca, 15, {1: None})
    await reader.look()
    assert await reader.statuses() == {1: "revoked"}


# ---- lists of serial numbers -----------------------------------------------------------------------------------------


async def test_listed_certificates_are_good_unless_revoked(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {0x0A: None, 0x0F: None})
    files.files["serials.txt"] = b"# issued\r\n000A\r\n0b\n00:0C\n\n"
    reader = await open_reader(
        {"url": files.url("ca.crl")}, profile="SNListProfile", serial_list=files.url("serials.txt")
    )
    await reader.look()
    assert await reader.statuses() == {0x0A: "revoked", 0x0B: "good", 0x0C: "good", 0x0F: "revoked"}
    files.files["ca.crl"] = crl(ca, 2, {})
    files.files["serials.txt"] = b"0A\n0C\n0D\n"
    await reader.look()
    assert await reader.statuses() == {0x0A: "good", 0x0C: "good", 0x0D: "good"}


async def test_crl_and_list_are_asked_for_in_the_same_look(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files |= {"ca.crl": crl(ca, 1, {}), "serials.txt": b"0A\n"}
    reader = await open_reader(
        {"url": files.url("ca.crl")}, profile="SNListProfile", serial_list=files.url("serials.txt")
    )
    await reader.look()
    assert [head.split()[1] for head in files.requests] == ["/ca.crl", "/serials.txt"]


async def test_a_broken_list_changes_nothing(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.files |= {"ca.crl": crl(ca, 1, {}), "serials.txt": b"0A\n0B\n"}
    reader = await open_reader(
        {"url": files.url("ca.crl")}, profile="SNListProfile", serial_list=files.url("serials.txt")
    )
    await reader.look()
    files.files["serials.txt"] = b"0A\n<html>\n"
    looked = await reader.look()
    assert looked.failures[":serials"].code == "serial-list-invalid"
    assert "Line 2" in looked.failures[":serials"].detail
    assert await reader.statuses() == {0x0A: "good", 0x0B: "good"}


# ---- servers that misbehave ------------------------------------------------------------------------------------------


async def test_a_silent_server_is_left_after_the_timeout(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.silent = True
    reader = await open_reader({"url": files.url("ca.crl")})
    assert (await reader.look()).failures[""].code == "source-timeout"


async def test_a_silent_list_server_keeps_the_crl_from_nothing(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files |= {"ca.crl": crl(ca, 1, {5: None}), "list": b"0A\n"}
    files.silent_paths.add("list")
    reader = await open_reader(
        {"url": files.url("ca.crl")}, profile="SNListProfile", serial_list=files.url("list")
    )
    looked = await reader.look()
    assert {part: error.code for part, error in looked.failures.items()} == {":serials": "source-timeout"}
    assert await reader.statuses() == {5: "revoked"}
    assert (await reader.state()).stale_reason == "source-never-complete"
    files.silent_paths.clear()
    assert (await reader.look()).failures == {}
    assert await reader.statuses() == {5: "revoked", 0x0A: "good"}


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "source-refused"),
        (b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", "source-refused"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\nConnection: close\r\n\r\n", "source-too-large"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\nxx", "source-refused"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nConnection: close\r\n\r\nxx", "source-unreachable"),
        (b"this is not HTTP\r\n\r\n", "source-unreachable"),
    ],
)
async def test_answers_that_are_none_are_reported(
    files: FileServer, ca: ForeignCa, open_reader: Open, answer: bytes, code: str
) -> None:
    files.answers["a"] = answer
    reader = await open_reader({"url": files.url("a")}, max_crl_mib=1)
    assert (await reader.look()).failures[""].code == code


async def test_an_endless_answer_ends_at_the_limit(files: FileServer, ca: ForeignCa, open_reader: Open) -> None:
    files.answers["a"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + b"0" * (1 << 21)
    reader = await open_reader({"url": files.url("a")}, max_crl_mib=1)
    assert (await reader.look()).failures[""].code == "source-too-large"


async def test_a_redirection_is_followed_to_admitted_addresses_only(
    files: FileServer, ca: ForeignCa, open_reader: Open
) -> None:
    files.files["ca.crl"] = crl(ca, 1, {1: None})
    moved = "HTTP/1.1 302 Found\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    files.answers["a"] = moved.format(files.url("ca.crl")).encode()
    reader = await open_reader({"url": files.url("a")})
    assert (await reader.look()).outcome == "changed"
    files.answers["a"] = moved.format("http://169.254.169.254/latest/meta-data").encode()
    assert (await reader.look()).failures[""].code == "address-not-allowed"


async def test_a_look_that_lost_its_lease_changes_nothing(
    files: FileServer, ca: ForeignCa, open_reader: Open, validation: Validation
) -> None:
    from intaglio.core.errors import StateConflict
    from intaglio.db.engine import Transaction
    from intaglio.validation.authorities import reading
    from intaglio.validation.sources import crl_source

    files.files["ca.crl"] = crl(ca, 1, {1: None})
    reader = await open_reader({"url": files.url("ca.crl")})

    async def taken(tx: Transaction) -> None:
        raise StateConflict("Taken.", code="source-taken")

    async with validation.database.read() as view:
        authority = await reading.load(view, "foreign")
    with pytest.raises(StateConflict):
        await crl_source.look(validation, authority, taken, lambda _: None)
    assert await reader.statuses() == {}
