"""Issuers: who may make them, what is wrong with their certificates, how they are renewed."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.authority import OPERATOR, openssl
from tests.support.eventually import eventually
from tests.timestamping.conftest import POLICY, House, query, shown

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.authority import revocation
from intaglio.authority.revocation import RevocationReason
from intaglio.core import clock
from intaglio.core.errors import Forbidden, IntaglioError, InvalidInput, NotFound, Refused, StateConflict
from intaglio.core.principal import Permission, Principal
from intaglio.core.troubles import Troubles
from intaglio.db.engine import Transaction
from intaglio.keystore.models import private_key
from intaglio.timestamping import issuers, signers
from intaglio.timestamping.clock.measurement import ClockUnreachable
from intaglio.timestamping.issuers import IssuerView, NewIssuer
from intaglio.timestamping.numbering import SerialNumbers
from intaglio.timestamping.reading import read_reply
from intaglio.timestamping.settings import Timestamping
from intaglio.timestamping.upkeep import renew_due_signers
from intaglio.timestamping.values import SignerKey, TokenProfile
from intaglio.x509.certificates import CertificateInfo, read_certificate
from intaglio.x509.requests import request_pem

PROFILE = TokenProfile(policy=POLICY)


def user(*permissions: Permission) -> Principal:
    return Principal("user", "someone", frozenset(permissions))


@pytest.mark.parametrize("name", ["health", "", "Upper", "a/b", "-a", "a" * 101, "ä"])
async def test_names_that_cannot_stand_in_a_url_are_refused(house: House, name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await house.issuer(name)
    assert refused.value.code == "timestamp-issuer-name"


async def test_a_name_is_given_once(house: House) -> None:
    await house.issuer()
    with pytest.raises(StateConflict) as refused:
        await house.issuer()
    assert refused.value.code == "timestamp-issuer-exists"


async def test_only_who_may_manage_timestamping_changes_it(house: House) -> None:
    await house.issuer()
    wish = NewIssuer(name="mine", profile=PROFILE)
    with pytest.raises(Forbidden):
        await issuers.create_issuer(house.timestamps, user(Permission.TIMESTAMPING_VIEW), wish)
    with pytest.raises(Forbidden):
        await issuers.delete_issuer(house.timestamps, user(Permission.CA_OPERATE), "standard")
    with pytest.raises(Forbidden):
        await issuers.list_issuers(house.timestamps, user(Permission.CA_VIEW))
    assert await issuers.list_issuers(house.timestamps, user(Permission.TIMESTAMPING_VIEW))
    await issuers.create_issuer(house.timestamps, user(Permission.TIMESTAMPING_MANAGE), wish)
    # Having one of our CAs issue is a matter of that CA too.
    wish = NewIssuer(name="certified", profile=PROFILE, ca="demo~issuing")
    with pytest.raises(Forbidden):
        await issuers.create_issuer(house.timestamps, user(Permission.TIMESTAMPING_MANAGE), wish)


async def test_an_issuer_is_certified_for_as_long_as_its_ca_lasts_at_most(house: House) -> None:
    made = await house.issuer(signer={"lifetime_days": 3660})
    ca = (await house.timestamps.authority.snapshot()).ca("demo~issuing").certificate
    assert made.certificate is not None
    assert made.certificate.not_after <= ca.not_after


async def test_a_signer_is_renewed_after_two_thirds_of_its_life(house: House, root_file: Path, tmp_path: Path) -> None:
    first = _certificate(await house.issuer(signer={"lifetime_days": 30}))
    before = await house.reply(query(tmp_path))
    assert await renew_due_signers(house.timestamps, Troubles()) == 0
    with clock.frozen(first.not_before + timedelta(days=19)):
        assert await renew_due_signers(house.timestamps, Troubles()) == 0
    with clock.frozen(first.not_before + timedelta(days=21)):
        assert await renew_due_signers(house.timestamps, Troubles()) == 1
        assert await renew_due_signers(house.timestamps, Troubles()) == 0
        second = _certificate(await issuers.show_issuer(house.timestamps, OPERATOR, "standard"))
    assert second.spki != first.spki
    assert second.not_before > first.not_before
    # What was given before stays good: its certificate was neither revoked nor forgotten.
    (tmp_path / "r.tsr").write_bytes(before)
    arguments = ("-in", tmp_path / "r.tsr", "-CAfile", root_file, "-queryfile", tmp_path / "q.tsq")
    assert "Verification: OK" in openssl("ts", "-verify", *arguments)


async def test_a_revoked_signer_signs_nothing_and_is_replaced(house: House, tmp_path: Path) -> None:
    made = await house.issuer()
    certificate = _certificate(made)
    request = query(tmp_path)
    await house.reply(request)
    authority = house.timestamps.authority
    ca = (await authority.snapshot()).ca("demo~issuing")
    change = revocation.revocation(RevocationReason.KEY_COMPROMISE)
    await revocation.change_status(authority, OPERATOR, ca, certificate.serial, change)
    await house.app.events_arrived()
    assert "system failure" in shown(tmp_path, await house.reply(request))
    assert await renew_due_signers(house.timestamps, Troubles()) == 1
    await house.app.configuration_changed()
    assert read_reply(await house.reply(request)).certificates[0].serial != certificate.serial


async def _revoke(house: House, certificate: CertificateInfo) -> None:
    authority = house.timestamps.authority
    ca = (await authority.snapshot()).ca("demo~issuing")
    change = revocation.revocation(RevocationReason.KEY_COMPROMISE)
    await revocation.change_status(authority, OPERATOR, ca, certificate.serial, change)


async def test_a_revoked_signer_signs_nothing_when_nothing_is_heard_of_changes_either(
    house: House, tmp_path: Path
) -> None:
    certificate = _certificate(await house.issuer())
    request = query(tmp_path)
    await house.timestamps.watch.stop()
    read_reply(await house.reply(request))
    await _revoke(house, certificate)

    async def refused() -> bool:
        return "system failure" in shown(tmp_path, await house.reply(request))

    await eventually(refused)


async def test_a_revocation_counts_although_the_issuers_were_just_being_read(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, directory = _certificate(await house.issuer()), house.app.service.directory
    read, revoked, usual = asyncio.Event(), asyncio.Event(), directory._load

    async def slowly(view: Transaction, key: SignerKey | None) -> Any:
        read.set()
        await revoked.wait()
        return await usual(view, key)

    monkeypatch.setattr(directory, "_load", slowly)
    reading = asyncio.create_task(directory.refresh())
    await read.wait()
    await _revoke(house, certificate)
    hearing = asyncio.create_task(house.app.events_arrived())
    await asyncio.wait({hearing}, timeout=0.3)
    revoked.set()
    await asyncio.gather(reading, hearing)
    assert "system failure" in shown(tmp_path, await house.reply(query(tmp_path)))


async def test_a_clock_that_went_wrong_while_a_request_waited_gives_no_token(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.issuer()
    usual, gate = SerialNumbers.next, house.app.service.gate

    async def late(self: SerialNumbers, octets: int) -> bytes:
        house.source.found = ClockUnreachable("Nobody says what time it is.")
        await gate.replace(Timestamping(poll_interval=29))
        return await usual(self, octets)

    monkeypatch.setattr(SerialNumbers, "next", late)
    assert "time source is not available" in shown(tmp_path, await house.reply(query(tmp_path)))


async def test_the_key_of_a_ca_gives_no_timestamps_and_one_without_purpose_only_to_who_keeps_keys(
    house: House, tmp_path: Path
) -> None:
    foreign = Foreign(house, tmp_path)
    await house.issuer("foreign", ca=None)
    authority, made = house.timestamps.authority, {}
    for label, public in (
        ("ca", (await authority.snapshot()).ca("demo~issuing").key.spki),
        ("service", await _service_key(house)),
    ):
        (tmp_path / "public.der").write_bytes(public)
        openssl("pkey", "-pubin", "-inform", "DER", "-in", tmp_path / "public.der", "-out", tmp_path / "public.pem")
        certificate = await foreign.signed(await foreign.request(), forced=tmp_path / "public.pem")
        made[label] = certificate.read_bytes(), [foreign.ca.read_bytes()]
    with pytest.raises(Refused) as refused:
        await issuers.import_certificate(house.timestamps, OPERATOR, "foreign", *made["ca"])
    assert refused.value.code == "tsa-certificate-key-taken"
    runs_timestamping = user(Permission.TIMESTAMPING_MANAGE, Permission.TIMESTAMPING_VIEW)
    with pytest.raises(Forbidden):
        await issuers.import_certificate(house.timestamps, runs_timestamping, "foreign", *made["service"])
    await issuers.import_certificate(house.timestamps, OPERATOR, "foreign", *made["service"])


async def test_renewing_by_hand_changes_the_key_of_all_who_share_it(house: House) -> None:
    first = _certificate(await house.issuer("first"))
    await house.issuer("second", share_with="first")
    renewed = _certificate(await issuers.renew_issuer(house.timestamps, OPERATOR, "second"))
    shown_now = await issuers.show_issuer(house.timestamps, OPERATOR, "first")
    assert _certificate(shown_now).der == renewed.der != first.der
    assert shown_now.shared_with == ("second",)


async def test_a_key_lasts_as_long_as_an_issuer_has_it(house: House) -> None:
    await house.issuer("first")
    await house.issuer("second", share_with="first")
    await issuers.delete_issuer(house.timestamps, OPERATOR, "first")
    assert await _keys(house) == 1
    await issuers.delete_issuer(house.timestamps, OPERATOR, "second")
    assert await _keys(house) == 0
    with pytest.raises(NotFound):
        await issuers.show_issuer(house.timestamps, OPERATOR, "second")


async def test_old_keys_are_destroyed_after_a_while(house: House) -> None:
    await house.issuer()
    await issuers.renew_issuer(house.timestamps, OPERATOR, "standard")
    assert await signers.destroy_old_keys(house.timestamps) == 0
    with clock.frozen(clock.now() + timedelta(hours=2)):
        assert await signers.destroy_old_keys(house.timestamps) == 1
        assert await signers.destroy_old_keys(house.timestamps) == 0
    assert await _keys(house) == 1


async def test_the_request_of_a_renewal_is_over_the_key_in_use(house: House, tmp_path: Path) -> None:
    foreign = Foreign(house, tmp_path)
    await house.issuer("foreign", ca=None)
    await foreign.install(await foreign.signed(await foreign.request()))
    current = _certificate(await issuers.show_issuer(house.timestamps, OPERATOR, "foreign"))
    again = read_certificate((await foreign.signed(await foreign.request())).read_bytes())
    assert again.spki == current.spki
    other = read_certificate((await foreign.signed(await foreign.request(new_key=True))).read_bytes())
    assert other.spki != current.spki
    with pytest.raises(Refused) as refused:
        await issuers.renew_issuer(house.timestamps, OPERATOR, "foreign")
    assert refused.value.code == "timestamp-signer-foreign"


async def test_four_wrong_certificates_get_four_messages(house: House, tmp_path: Path) -> None:
    foreign = Foreign(house, tmp_path)
    await house.issuer("foreign", ca=None)
    request = await foreign.request()
    openssl("genpkey", "-algorithm", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", tmp_path / "other.key")
    openssl("req", "-new", "-key", tmp_path / "other.key", "-subj", "/CN=Other", "-out", tmp_path / "other.csr")
    cases = {
        "tsa-certificate-purpose": (await foreign.signed(request, purpose="timeStamping"), True),
        "tsa-chain-broken": (await foreign.signed(request), False),
        "tsa-certificate-key-missing": (await foreign.signed(tmp_path / "other.csr"), True),
        "tsa-certificate-expired": (await foreign.signed(request, days="-1"), True),
    }
    messages = set()
    for code, (certificate, with_chain) in cases.items():
        with pytest.raises(Refused) as refused:
            await foreign.install(certificate, with_chain=with_chain)
        assert refused.value.code == code
        found = await issuers.validate_issuer(
            house.timestamps, OPERATOR, "foreign",
            certificate=certificate.read_bytes(), chain=[foreign.ca.read_bytes()] if with_chain else [],
        )  # fmt: skip
        assert code in {each.code for each in found if each.level == "error"}
        messages.add(refused.value.detail)
    assert len(messages) == 4
    await foreign.install(await foreign.signed(request))
    assert [e for e in await issuers.validate_issuer(house.timestamps, OPERATOR, "foreign") if e.level == "error"] == []


async def test_what_deserves_a_look_is_told(house: House) -> None:
    await house.issuer(profile={"accuracy": "1ms", "hashes": ("sha1", "sha256")})
    found = await issuers.validate_issuer(house.timestamps, OPERATOR, "standard")
    assert {each.code for each in found} == {"tsa-accuracy", "tsa-weak-hash"}
    assert all(each.level == "warning" for each in found)


async def test_a_ca_that_cannot_issue_makes_no_issuer(house: House) -> None:
    with pytest.raises(IntaglioError):
        await house.issuer(ca="demo~nothing")
    assert await issuers.list_issuers(house.timestamps, OPERATOR) == []


async def test_every_change_is_in_the_audit_trail(house: House) -> None:
    from intaglio.audit.models import audit_record

    await house.issuer()
    profile = TokenProfile(policy="1.2.3")
    await issuers.change_issuer(house.timestamps, OPERATOR, "standard", profile=profile)
    await issuers.renew_issuer(house.timestamps, OPERATOR, "standard")
    await issuers.delete_issuer(house.timestamps, OPERATOR, "standard")
    async with house.timestamps.authority.database.read() as view:
        rows = await view.all(select(audit_record.c.action).where(audit_record.c.object_kind == "timestamp-issuer"))
    assert {row["action"] for row in rows} == {
        *("timestamp-issuer.create", "timestamp-issuer.change", "timestamp-issuer.delete", "timestamp-signer.certify"),
    }


async def test_a_change_under_somebody_elses_hands_is_refused(house: House) -> None:
    made = await house.issuer()
    profile = TokenProfile(policy="1.2.3")
    await issuers.change_issuer(house.timestamps, OPERATOR, "standard", profile=profile, version=made.record.version)
    with pytest.raises(StateConflict) as refused:
        await issuers.change_issuer(house.timestamps, OPERATOR, "standard", enabled=False, version=made.record.version)
    assert refused.value.code == "version-moved"


class Foreign:
    """A CA made with OpenSSL, and the issuer ``foreign`` that it certifies."""

    def __init__(self, house: House, folder: Path) -> None:
        self._house = house
        self._folder = folder
        self._count = 0
        self.ca, self._key = folder / "foreign-ca.pem", folder / "foreign-ca.key"
        openssl(
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=Foreign", "-keyout", self._key,
            "-out", self.ca, "-days", "90", "-addext", "keyUsage=critical,keyCertSign",
        )  # fmt: skip

    async def request(self, *, new_key: bool = False) -> Path:
        """The request of the issuer, as a file."""
        found = await issuers.request_certificate(self._house.timestamps, OPERATOR, "foreign", new_key=new_key)
        path = self._folder / "foreign.csr"
        path.write_text(request_pem(found))
        openssl("req", "-verify", "-noout", "-in", path)
        return path

    async def signed(
        self, request: Path, *, purpose: str = "critical,timeStamping", days: str = "30",
        forced: Path | None = None,
    ) -> Path:
        """The certificate this CA makes of a request; ``forced`` is another public key to put into it."""
        self._count += 1
        made, extensions = self._folder / f"foreign-{self._count}.pem", self._folder / "foreign.cnf"
        extensions.write_text(f"extendedKeyUsage={purpose}\nkeyUsage=critical,digitalSignature\n")
        openssl(
            "x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self._key, "-days", days,
            "-extfile", extensions, "-out", made, *(("-force_pubkey", forced) if forced else ()),
        )  # fmt: skip
        return made

    async def install(self, certificate: Path, *, with_chain: bool = True) -> IssuerView:
        data, chain = certificate.read_bytes(), [self.ca.read_bytes()] if with_chain else []  # noqa: ASYNC240
        return await issuers.import_certificate(self._house.timestamps, OPERATOR, "foreign", data, chain)


def _certificate(found: IssuerView) -> CertificateInfo:
    assert found.certificate is not None
    return found.certificate


async def _service_key(house: House) -> bytes:
    """The public key of a private one that an operator made for something."""
    authority = house.timestamps.authority
    async with authority.database.transaction() as tx:
        return (await authority.keystore.generate(tx, KeyAlgorithm.ECDSA_P256, "some service")).spki


async def _keys(house: House) -> int:
    """Keys of timestamp issuers that were not destroyed."""
    k = private_key.c
    async with house.timestamps.authority.database.read() as view:
        query = select(k.id).where(k.label.startswith("timestamp:"), k.destroyed_at.is_(None))
        return len(await view.all(query))
