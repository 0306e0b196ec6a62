"""Roots kept elsewhere, and issuing CAs below them, with OpenSSL as the outside CA."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.support.authority import OPERATOR, issuing_wish, openssl, verify_chain

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.audit.models import audit_record
from intaglio.authority import models
from intaglio.authority.cas import external, renewal, requests
from intaglio.authority.cas.create import create_issuing
from intaglio.authority.cas.delete import delete_ca
from intaglio.authority.cas.edit import edit_ca
from intaglio.authority.cas.values import CaChanges, NewExternalRoot
from intaglio.authority.cas.views import get_ca, get_chain
from intaglio.authority.context import Authority
from intaglio.core import clock
from intaglio.core.errors import IntaglioError, InvalidInput, Refused, StateConflict
from intaglio.x509.certificates import read_certificate
from intaglio.x509.requests import parse_request, request_pem

_CA_EXTENSIONS = ("basicConstraints=critical,CA:TRUE,pathlen:0", "keyUsage=critical,keyCertSign,cRLSign")


@dataclass
class OutsideCa:
    """A root CA made by the openssl command, with SHA-1 key identifiers as many real ones have."""

    folder: Path
    subject: str = "/C=CA/O=Outside/CN=Outside root"

    def make(self, name: str = "root", *, days: int = 3650, extensions: Sequence[str] = _CA_EXTENSIONS[:1]) -> str:
        """A self-signed certificate and its key; returns the PEM."""
        constraints = [extension.replace(",pathlen:0", "") for extension in extensions]
        openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", str(days),
            "-subj", self.subject, "-keyout", self.key(name), "-out", self.certificate(name), "-config", self._config(),
            *(part for each in (*constraints, "keyUsage=critical,keyCertSign,cRLSign") for part in ("-addext", each)),
        )  # fmt: skip
        return self.certificate(name).read_text()

    def sign(
        self,
        request: bytes,
        *,
        by: str = "root",
        extensions: Sequence[str] = _CA_EXTENSIONS,
        days: int = 365,
        subject: str | None = None,
        key: Path | None = None,
    ) -> str:
        """The PEM of a certificate for a request, with these extensions; ``subject`` and ``key`` falsify it."""
        (self.folder / "request.pem").write_text(request_pem(request))
        lines = [*extensions, "subjectKeyIdentifier=hash", "authorityKeyIdentifier=keyid"]
        (self.folder / "extensions.cnf").write_text("\n".join(lines))
        return openssl(
            "x509", "-req", "-in", self.folder / "request.pem", "-CA", self.certificate(by), "-CAkey", self.key(by),
            "-days", str(days), "-extfile", self.folder / "extensions.cnf",
            *(["-subj", subject] if subject else []), *(["-force_pubkey", key] if key else []),
        )  # fmt: skip

    def key(self, name: str) -> Path:
        return self.folder / f"{name}.key"

    def certificate(self, name: str) -> Path:
        return self.folder / f"{name}.crt"

    def _config(self) -> Path:
        path = self.folder / "openssl.cnf"
        path.write_text("[req]\ndistinguished_name = dn\n[dn]\n")
        return path


@pytest.fixture
def outside(tmp_path: Path) -> OutsideCa:
    return OutsideCa(tmp_path)


async def _add(authority: Authority, certificate: str | bytes, name: str = "outside") -> Any:
    return await external.add_external_root(
        authority, OPERATOR, "demo", NewExternalRoot(name=name, certificate=certificate)
    )


async def _waiting(authority: Authority, outside: OutsideCa, **changes: Any) -> bytes:
    """An issuing CA that waits for its certificate; returns its request."""
    await _add(authority, outside.make())
    made = await create_issuing(authority, OPERATOR, "demo", issuing_wish("issuing", "outside", **changes))
    assert (made.ca.state, made.ca.request_pending, made.ca.generation) == ("awaiting-certificate", True, 0)
    return (await requests.get_request(authority, OPERATOR, "demo~issuing")).der


async def test_an_external_root_has_no_key_and_only_its_label_is_edited(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    shown = await _add(authority, outside.make())
    assert (shown.type, shown.state, shown.has_key) == ("ca-external-root", "active", False)
    assert shown.subject == "CN=Outside root,O=Outside,C=CA"
    edited = await edit_ca(authority, OPERATOR, "demo~outside", CaChanges(label="In the vault"))
    assert edited.ca.label == "In the vault"
    with pytest.raises(Refused) as refusal:
        await edit_ca(authority, OPERATOR, "demo~outside", CaChanges(profiles=["privatessl-tls-server"]))
    assert refusal.value.code == "setting-frozen"


@pytest.mark.parametrize("form", ["pem", "der", "base64", "p7b-pem", "p7b-der"])
async def test_a_root_is_read_in_every_usual_form(
    authority: Authority, organization: str, outside: OutsideCa, form: str
) -> None:
    pem = outside.make()
    path = outside.certificate("root")
    if form == "pem":
        given: str | bytes = pem
    elif form in ("der", "base64"):
        openssl("x509", "-in", path, "-outform", "der", "-out", outside.folder / "root.der")
        given = (outside.folder / "root.der").read_bytes()
        given = given if form == "der" else "".join(pem.splitlines()[1:-1])
    else:
        kind = form.removeprefix("p7b-")
        out = outside.folder / "root.p7b"
        openssl("crl2pkcs7", "-nocrl", "-certfile", path, "-outform", kind, "-out", out)
        given = out.read_bytes()
    assert (await _add(authority, given)).state == "active"


async def test_the_root_is_found_in_a_chain(authority: Authority, organization: str, outside: OutsideCa) -> None:
    request = await _waiting(authority, outside)
    bundle = outside.sign(request) + outside.certificate("root").read_text()
    other = OutsideCa(outside.folder / "other", "/CN=Other")
    other.folder.mkdir()
    with pytest.raises(StateConflict) as refusal:
        await _add(authority, bundle, "again")
    assert refusal.value.code == "root-exists"
    with pytest.raises(InvalidInput) as ambiguous:
        await _add(authority, bundle + other.make(), "two")
    assert ambiguous.value.code == "root-ambiguous"


async def test_what_is_no_root_is_refused(authority: Authority, organization: str, outside: OutsideCa) -> None:
    outside.make("leaf", extensions=["basicConstraints=critical,CA:FALSE"])
    request = await _waiting(authority, outside)
    cases = {
        "root-not-a-ca": outside.certificate("leaf").read_text(),
        "root-not-self-signed": outside.sign(request),
        "certificate-unparsable": "-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----",
    }
    for code, certificate in cases.items():
        with pytest.raises(InvalidInput) as refusal:
            await _add(authority, certificate, "refused")
        assert refusal.value.code == code
    with clock.frozen(datetime(2090, 1, 1, tzinfo=UTC)), pytest.raises(InvalidInput) as expired:
        await _add(authority, OutsideCa(outside.folder, "/CN=Old").make("old"), "refused")
    assert expired.value.code == "root-not-valid-now"


async def test_a_weak_root_is_refused(authority: Authority, organization: str, outside: OutsideCa) -> None:
    weak = outside.folder / "weak.crt"
    openssl(
        "req", "-x509", "-newkey", "rsa:1024", "-noenc", "-subj", "/CN=Weak", "-keyout", outside.folder / "weak.key",
        "-out", weak, "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    with pytest.raises(InvalidInput) as refusal:
        await _add(authority, weak.read_text())
    assert refusal.value.code in ("weak-key", "key-algorithm-not-allowed")


async def test_an_old_root_is_recorded_with_a_warning_and_certifies_cas(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    openssl(
        "req", "-x509", "-newkey", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-pkeyopt", "rsa_keygen_pubexp:17",
        "-sha1", "-noenc", "-days", "3650", "-subj", outside.subject, "-keyout", outside.key("root"),
        "-out", outside.certificate("root"), "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        "-addext", "basicConstraints=critical,CA:TRUE",
    )  # fmt: skip
    shown = await _add(authority, outside.certificate("root").read_text())
    assert [("SHA-1" in each, "exponent is 17" in each) for each in shown.warnings] == [(True, False), (False, True)]
    assert (await get_ca(authority, OPERATOR, "demo~outside")).warnings == shown.warnings
    async with authority.database.read() as view:
        query = select(audit_record.c.detail).where(audit_record.c.object == "demo~outside")
        assert (await view.scalar(query))["warnings"] == list(shown.warnings)

    await create_issuing(authority, OPERATOR, "demo", issuing_wish("issuing", "outside"))
    request = (await requests.get_request(authority, OPERATOR, "demo~issuing")).der
    issuing = await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    assert (issuing.state, issuing.warnings) == ("active", ())
    verify_chain(outside.folder, await get_chain(authority, OPERATOR, "demo~issuing"))


async def test_the_request_asks_for_a_ca_certificate(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    request = await _waiting(authority, outside)
    text = openssl("req", "-verify", "-noout", "-text", "-inform", "der", stdin=request)
    assert "Subject: C = CA, O = Demo, CN = issuing" in text
    assert "CA:TRUE, pathlen:0" in text
    assert "Digital Signature, Certificate Sign, CRL Sign" in text


@pytest.mark.parametrize("algorithm", KeyAlgorithm)
async def test_requests_of_every_key_type_prove_possession(
    authority: Authority, organization: str, outside: OutsideCa, algorithm: KeyAlgorithm
) -> None:
    request = parse_request(await _waiting(authority, outside, key_algorithm=algorithm, path_length=0))
    assert request.key_algorithm == algorithm


async def test_a_request_is_made_anew_over_the_same_key(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    first = parse_request(await _waiting(authority, outside))
    again = await requests.reissue_request(authority, OPERATOR, "demo~issuing")
    second = parse_request(again.der)
    assert second.der != first.der
    assert (second.spki, second.subject, second.extensions) == (first.spki, first.subject, first.extensions)


async def test_with_its_certificate_the_ca_becomes_active_and_its_chain_verifies(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    request = await _waiting(authority, outside)
    signed = outside.sign(request)
    shown = await external.upload_certificate(authority, OPERATOR, "demo~issuing", signed)
    assert (shown.state, shown.generation, shown.request_pending) == ("active", 1, False)
    verify_chain(outside.folder, await get_chain(authority, OPERATOR, "demo~issuing"))
    ca = (await authority.snapshot()).ca("demo~issuing")
    assert ca.key.key_identifier == read_certificate(signed).ski
    with pytest.raises(StateConflict) as refusal:
        await external.upload_certificate(authority, OPERATOR, "demo~issuing", signed)
    assert refusal.value.code == "no-request"


async def test_wrong_certificates_leave_the_ca_waiting(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    request = await _waiting(authority, outside)
    OutsideCa(outside.folder, "/CN=Foreign").make("foreign")
    OutsideCa(outside.folder).make("namesake")
    openssl("ec", "-in", outside.key("foreign"), "-pubout", "-out", outside.folder / "foreign.pub")
    cases = {
        "ca-certificate-wrong-key": outside.sign(request, key=outside.folder / "foreign.pub"),
        "ca-certificate-wrong-issuer": outside.sign(request, by="foreign"),
        "ca-certificate-not-a-ca": outside.sign(request, extensions=["basicConstraints=critical,CA:FALSE"]),
        "ca-certificate-no-cert-sign": outside.sign(
            request, extensions=[_CA_EXTENSIONS[0], "keyUsage=critical,digitalSignature"]
        ),
        "ca-certificate-outlives-issuer": outside.sign(request, days=9999),
        "ca-certificate-wrong-subject": outside.sign(request, subject="/CN=somebody else"),
        "certificate-unparsable": "no certificate at all",
    }
    for code, certificate in cases.items():
        with pytest.raises(IntaglioError) as refusal:
            await external.upload_certificate(authority, OPERATOR, "demo~issuing", certificate)
        assert refusal.value.code == code
        assert refusal.value.status == (400 if code == "certificate-unparsable" else 422)
    with pytest.raises(Refused):
        await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request, by="namesake"))
    with clock.frozen(datetime(2034, 1, 1, tzinfo=UTC)), pytest.raises(Refused) as late:
        await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    assert late.value.code == "ca-certificate-not-valid-now"
    assert (await get_ca(authority, OPERATOR, "demo~issuing")).state == "awaiting-certificate"
    await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))


async def test_a_waiting_ca_is_deleted_with_its_request(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    await _waiting(authority, outside)
    await delete_ca(authority, OPERATOR, "demo~issuing")
    await delete_ca(authority, OPERATOR, "demo~outside")
    async with authority.database.read() as view:
        assert await view.all(select(models.ca_request)) == []


async def test_renewal_below_an_external_root_goes_on_with_the_old_certificate_meanwhile(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    request = await _waiting(authority, outside)
    await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    waiting = await renewal.renew_ca(authority, OPERATOR, "demo~issuing")
    assert (waiting.state, waiting.request_pending, waiting.generation) == ("active", True, 1)
    renewal_request = (await requests.get_request(authority, OPERATOR, "demo~issuing")).der
    assert parse_request(renewal_request).spki == parse_request(request).spki
    with pytest.raises(StateConflict) as refusal:
        await renewal.rekey_ca(authority, OPERATOR, "demo~issuing")
    assert refusal.value.code == "request-pending"
    renewed = await external.upload_certificate(
        authority, OPERATOR, "demo~issuing", outside.sign(renewal_request, days=800)
    )
    assert (renewed.generation, renewed.request_pending) == (1, False)
    assert waiting.not_after is not None
    assert renewed.not_after is not None
    assert renewed.not_after > waiting.not_after


async def test_a_rekey_below_an_external_root_takes_effect_with_the_upload_or_is_withdrawn(
    authority: Authority, organization: str, outside: OutsideCa
) -> None:
    request = await _waiting(authority, outside)
    with pytest.raises(StateConflict):
        await requests.withdraw_request(authority, OPERATOR, "demo~issuing")
    await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    await renewal.rekey_ca(authority, OPERATOR, "demo~issuing", key_algorithm=KeyAlgorithm.RSA_2048)
    await requests.withdraw_request(authority, OPERATOR, "demo~issuing")
    assert list((await authority.snapshot()).ca("demo~issuing").keys) == [1]
    before = await renewal.rekey_ca(authority, OPERATOR, "demo~issuing", key_algorithm=KeyAlgorithm.ECDSA_P384)
    assert (before.generation, before.key_algorithm) == (1, KeyAlgorithm.ECDSA_P256)
    request = (await requests.get_request(authority, OPERATOR, "demo~issuing")).der
    after = await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    assert (after.generation, after.key_algorithm, after.ocsp_key_algorithm) == (2, "ecdsa-p384", "ecdsa-p384")
    for generation in (1, 2):
        chain = await get_chain(authority, OPERATOR, "demo~issuing", generation=generation)
        verify_chain(outside.folder, chain)


async def test_a_renewed_external_root_is_recorded(authority: Authority, organization: str, outside: OutsideCa) -> None:
    request = await _waiting(authority, outside)
    await external.upload_certificate(authority, OPERATOR, "demo~issuing", outside.sign(request))
    replaced = await external.replace_external_root(authority, OPERATOR, "demo~outside", outside.make("new"))
    assert replaced.generation == 2
    # The issuing CA still hangs from the key that signed it.
    verify_chain(outside.folder, await get_chain(authority, OPERATOR, "demo~issuing"))
    other = OutsideCa(outside.folder, "/CN=Other").make("other")
    with pytest.raises(Refused) as refusal:
        await external.replace_external_root(authority, OPERATOR, "demo~outside", other)
    assert refusal.value.code == "root-other-subject"
