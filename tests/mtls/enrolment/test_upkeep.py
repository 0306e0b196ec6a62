"""What enrolment does by itself: reminders, ended sessions, forgotten counters; and records in a bucket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer
from pydantic import SecretStr
from sqlalchemy import text
from tests.mtls.enrolment.conftest import EMAIL, VISITOR, Mailbox, begin, csr_for, set_live
from tests.support.authority import OPERATOR

from intaglio.core import clock
from intaglio.core.errors import IntaglioError
from intaglio.mtls.context import Mtls
from intaglio.mtls.enrolment import enrolling, record_store, upkeep
from intaglio.mtls.enrolment.codes import CreatedCode, NewCode, create_code, get_code
from intaglio.mtls.enrolment.enrolling import submit_request
from intaglio.mtls.enrolment.settings import EnrolmentSettings
from intaglio.mtls.enrolment.stored_secrets import Secret, set_secret
from intaglio.mtls.identities import revoking
from intaglio.mtls.identities.values import Identity, IssuedIdentity
from intaglio.platform import live_settings


async def enrolled(mtls: Mtls, code: CreatedCode) -> IssuedIdentity:
    opened = await begin(mtls, code)
    return await submit_request(mtls, opened.token, csr_for(opened), VISITOR)


async def test_people_are_reminded_once_per_threshold(mtls: Mtls, code: CreatedCode, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    issued = await enrolled(mtls, code)
    for hours, expected in ((80, 0), (71, 1), (70, 1), (30, 1), (23, 2), (1, 2)):
        with clock.frozen(issued.not_after - timedelta(hours=hours)):
            await asyncio.gather(upkeep.send_reminders(mtls), upkeep.send_reminders(mtls))
        assert len(mailbox.messages) == expected, hours
    assert mailbox.messages[0]["To"] == EMAIL
    assert "ends" in mailbox.messages[0]["Subject"]


async def test_who_has_renewed_or_is_revoked_hears_nothing(mtls: Mtls, code: CreatedCode, mailbox: Mailbox) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    issued = await enrolled(mtls, code)
    await revoking.revoke_binding(mtls, OPERATOR, issued.binding_id)
    with clock.frozen(issued.not_after - timedelta(hours=1)):
        assert await upkeep.send_reminders(mtls) == 0


async def test_a_reminder_that_could_not_be_sent_is_sent_later(
    mtls: Mtls, code: CreatedCode, mailbox: Mailbox
) -> None:
    await set_live(mtls, "mail", **mailbox.settings | {"ca_file": ""})
    issued = await enrolled(mtls, code)
    with clock.frozen(issued.not_after - timedelta(hours=20)):
        with pytest.raises(IntaglioError, match="mail server"):
            await upkeep.send_reminders(mtls)
        await set_live(mtls, "mail", ca_file=mailbox.ca_file)
        assert await upkeep.send_reminders(mtls) == 1


async def test_a_certificate_of_a_day_is_not_about_to_end_at_once(
    mtls: Mtls, alice: Identity, mailbox: Mailbox
) -> None:
    await set_live(mtls, "mail", **mailbox.settings)
    issued = await enrolled(mtls, await create_code(mtls, OPERATOR, NewCode(alice, validity_days=1)))
    with clock.frozen(issued.not_before + timedelta(minutes=5)):
        assert await upkeep.send_reminders(mtls) == 0


async def _expire_sessions(mtls: Mtls) -> None:
    async with mtls.database.transaction() as tx:
        await tx.execute(
            text(
                "UPDATE mtls_session SET expires_at = now() - interval '1 second', "
                "working_until = now() - interval '1 second'"
            )
        )


async def _states(mtls: Mtls) -> list[str]:
    async with mtls.database.read() as view:
        return [row["state"] for row in await view.all(text("SELECT state FROM mtls_session"))]


async def test_sessions_time_out(mtls: Mtls, code: CreatedCode) -> None:
    await begin(mtls, code)
    assert await upkeep.settle_sessions(mtls) == 0
    await _expire_sessions(mtls)
    assert await upkeep.settle_sessions(mtls) == 1
    assert await _states(mtls) == ["timed-out"]
    assert await upkeep.settle_sessions(mtls) == 0


async def test_a_session_whose_process_died_after_issuing_uses_its_code_up(
    mtls: Mtls, code: CreatedCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def die(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    opened = await begin(mtls, code)
    with monkeypatch.context() as patch:
        patch.setattr(enrolling, "_conclude", die)
        with pytest.raises(asyncio.CancelledError):
            await submit_request(mtls, opened.token, csr_for(opened), VISITOR)
    await _expire_sessions(mtls)
    await asyncio.gather(upkeep.settle_sessions(mtls), upkeep.settle_sessions(mtls))
    assert await _states(mtls) == ["issued"]
    found = await get_code(mtls, OPERATOR, code.code.id)
    assert (found.state, found.uses) == ("used", 1)


async def test_old_counters_and_sessions_are_forgotten(mtls: Mtls, code: CreatedCode) -> None:
    await begin(mtls, code)
    await upkeep.prune(mtls)
    assert len(await _states(mtls)) == 1
    async with mtls.database.transaction() as tx:
        await tx.execute(text("UPDATE mtls_session SET expires_at = now() - interval '31 days'"))
        await tx.execute(text("UPDATE mtls_attempt SET since = now() - interval '5 days'"))
    await upkeep.prune(mtls)
    async with mtls.database.read() as view:
        assert await view.scalar(text("SELECT count(*) FROM mtls_attempt")) == 0
    assert await _states(mtls) == []


# ---- the bucket ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    """An S3-compatible service of this module's own."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def _client(endpoint: str) -> Any:
    return boto3.session.Session().client(
        "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )


async def _use_bucket(mtls: Mtls, endpoint: str, name: str) -> None:
    await set_secret(mtls, OPERATOR, Secret.S3_SECRET_KEY, SecretStr("b"))
    settings = {"s3_endpoint": endpoint, "s3_bucket": name, "s3_access_key": "a", "s3_region": "us-east-1"}
    await set_live(mtls, "enrolment", binding_store="s3", **settings)


async def test_a_record_goes_to_the_bucket_as_ciphertext(mtls: Mtls, code: CreatedCode, s3: str) -> None:
    client = _client(s3)
    client.create_bucket(Bucket="records")
    await _use_bucket(mtls, s3, "records")
    issued = await enrolled(mtls, code)
    names = [each["Key"] for each in client.list_objects_v2(Bucket="records")["Contents"]]
    assert names == [f"bindings/{issued.binding_id}.json"]
    stored = client.get_object(Bucket="records", Key=names[0])["Body"].read()
    assert json.loads(stored)["algorithm"] == "AES-256-GCM"
    for secret in (EMAIL, VISITOR.source, VISITOR.user_agent, issued.identity.name, issued.serial.hex().upper()):
        assert secret.encode() not in stored
    async with mtls.database.read() as view:
        settings = await live_settings.current(view, EnrolmentSettings)
    record = await record_store.read(mtls, settings, issued.binding_id)
    assert (record["email"], record["source"]) == (EMAIL, VISITOR.source)


async def test_nothing_is_issued_without_the_bucket(mtls: Mtls, code: CreatedCode, s3: str) -> None:
    await _use_bucket(mtls, s3, "missing")
    opened = await begin(mtls, code)
    request = csr_for(opened)
    with pytest.raises(IntaglioError, match="bucket") as caught:
        await submit_request(mtls, opened.token, request, VISITOR)
    assert caught.value.code == "ca_unavailable"
    async with mtls.database.read() as view:
        assert await view.scalar(text("SELECT count(*) FROM mtls_binding")) == 0
    _client(s3).create_bucket(Bucket="missing")
    await submit_request(mtls, opened.token, request, VISITOR)
    assert (await get_code(mtls, OPERATOR, code.code.id)).state == "used"


async def test_a_bucket_that_fails_after_issuing_withholds_the_certificate_until_it_is_back(
    mtls: Mtls, code: CreatedCode, s3: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from intaglio.core.errors import Unavailable

    async def fail(*_: Any, **__: Any) -> None:
        raise Unavailable("The bucket does not answer.")

    _client(s3).create_bucket(Bucket="flaky")
    await _use_bucket(mtls, s3, "flaky")
    opened = await begin(mtls, code)
    request = csr_for(opened)
    with monkeypatch.context() as patch:
        patch.setattr(record_store, "keep", fail)
        with pytest.raises(IntaglioError) as caught:
            await submit_request(mtls, opened.token, request, VISITOR)
    assert caught.value.code == "ca_unavailable"
    issued = await submit_request(mtls, opened.token, request, VISITOR)
    async with mtls.database.read() as view:
        assert await view.scalar(text("SELECT count(*) FROM mtls_binding")) == 1
        assert await view.scalar(text("SELECT count(*) FROM certificate WHERE profile = 'identity-user'")) == 1
    assert len(_client(s3).list_objects_v2(Bucket="flaky")["Contents"]) == 1
    assert issued.certificate


async def test_settings_that_cannot_work_are_refused(mtls: Mtls) -> None:
    for group, values in (
        ("enrolment", {"binding_store": "s3"}),
        ("enrolment", {"page_url": "http://pki.example"}),
        ("enrolment", {"page_url": "https://pki.example/enroll/?x=y"}),
        ("enrolment", {"access_url": "https://pki.example/path"}),
        ("enrolment", {"access_url": "https://pki.example; script-src *"}),
        ("enrolment", {"s3_endpoint": "http://s3.example", "s3_bucket": "x"}),
        ("enrolment", {"s3_endpoint": "http://localhost.s3.example", "s3_bucket": "x"}),
        ("enrolment", {"reminder_hours": [0]}),
        ("enrolment", {"key_algorithms": ["Ed25519"]}),
        ("mail", {"host": "smtp.example"}),
        ("mail", {"host": "smtp.example", "sender": "a@example.com", "security": "loopback"}),
        ("mail", {"security": "none"}),
    ):
        with pytest.raises(IntaglioError) as caught:
            await set_live(mtls, group, **values)
        assert caught.value.code == "setting-invalid"
