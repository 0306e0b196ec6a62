"""curl as a client of the gateway: who is let in, who is refused and how, and what nobody can find out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from tests.interop.conftest import Pki
from tests.support.product import Product, eventually
from tests.support.programs import run

from intaglio.core import clock

_CAS = "/certificate-authorities"


@pytest.fixture(scope="session")
def elsewhere(product: Product) -> Iterator[Pki]:
    """A PKI of another organization on the same server."""
    with tempfile.TemporaryDirectory(prefix="intaglio-pki-") as name:
        yield Pki.create(product, "outofhere", Path(name))


def test_a_client_comes_with_pem_or_with_pkcs12(pki: Pki) -> None:
    by_pem = pki.call(_CAS)
    assert by_pem.status == 200
    assert [ca["id"] for ca in by_pem.json["caList"]] == [pki.issuing]
    password = (pki.folder / "alice.password").read_text().strip()
    config = pki.folder / "alice.curlrc"  # a password in the arguments could be read by every user of the machine
    config.write_text(f'cert = "{pki.folder / "alice.p12"}:{password}"\ncert-type = "P12"\n')
    by_p12 = pki.call(_CAS, "--config", config, client=None)
    assert (by_p12.status, by_p12.body) == (200, by_pem.body)


def test_an_auditor_may_look_and_not_enroll(pki: Pki, tmp_path: Path) -> None:
    assert pki.call(f"{_CAS}/{pki.issuing}", client="bob").status == 200
    refused = pki.call(f"{_CAS}/{pki.issuing}/enrollments", client="bob", body={"profileId": "x", "csr": "AAAA"})
    assert (refused.status, refused.json["error"]["code"]) == (403, "cagw-4014")


def test_nobody_is_let_in_without_a_certificate(pki: Pki) -> None:
    refused = pki.call(_CAS, client=None)
    assert (refused.status, refused.json["error"]["code"]) == (401, "cagw-4010")


def test_a_certificate_of_a_ca_for_others_is_refused_in_the_handshake(pki: Pki, tmp_path: Path) -> None:
    foreign = pki.enroll(tmp_path, "alice", "privatessl-tls-client")
    both = tmp_path / "both.pem"
    both.write_text(foreign.certificate.read_text() + foreign.key.read_text())
    assert "unknown ca" in _handshake_refusal(pki, both)


def test_a_self_made_certificate_with_the_right_names_is_refused_in_the_handshake(pki: Pki, tmp_path: Path) -> None:
    """An impostor copies the issuer's and the client's name, and even the serial number."""
    alice = pki.folder / "alice.pem"
    issuer, subject, serial = (
        run("openssl", "x509", "-in", alice, "-noout", f"-{part}", "-nameopt", "compat").strip().partition("=")[2]
        for part in ("issuer", "subject", "serial")
    )
    ca, key, csr, made = (tmp_path / name for name in ("ca.pem", "key.pem", "csr.pem", "made.pem"))
    new = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key)
    run("openssl", "req", "-x509", *new, "-subj", issuer, "-out", ca)
    run("openssl", "req", "-new", "-key", key, "-subj", subject, "-out", csr)
    run("openssl", "x509", "-req", "-in", csr, "-CA", ca, "-CAkey", key, "-set_serial", f"0x{serial}", "-out", made)
    made.write_text(made.read_text() + key.read_text())
    # The names match, so the signature is checked under the real CA's key, and does not.
    assert "alert" in _handshake_refusal(pki, made)


def test_an_expired_credential_is_refused(pki: Pki) -> None:
    carol = _new_client(pki, "carol")
    assert pki.call(_CAS, client="carol").status == 200
    end = clock.rfc3339(clock.now() + timedelta(seconds=5))
    pki.product.run(
        "credential", "reissue", "carol", "--org", pki.organization, "--not-after", end,
        "--credentials-dir", pki.folder, "--save-passwords", "--force",
    )  # fmt: skip
    pki.unpack("carol")
    eventually(lambda: pki.attempt(_CAS, client=carol).status != 0, what="the credential expires")
    assert "certificate expired" in _handshake_refusal(pki, carol)


def test_a_revoked_credential_is_refused_at_once(pki: Pki) -> None:
    _new_client(pki, "dave")
    assert pki.call(_CAS, client="dave").status == 200
    pki.product.run("credential", "revoke", "dave", "--org", pki.organization, "--yes")
    refused = pki.call(_CAS, client="dave")
    assert (refused.status, refused.json["error"]["code"]) == (401, "cagw-4011")


def test_a_withdrawn_right_is_gone_at_once(pki: Pki) -> None:
    _new_client(pki, "erin")
    path = f"{_CAS}/{pki.issuing}"
    assert pki.call(path, client="erin").status == 200
    pki.product.run("ca", "edit", pki.issuing, "--remove-auditor", "erin")
    refused = pki.call(path, client="erin")
    assert (refused.status, refused.json["error"]["code"]) == (404, "cagw-4018")


@pytest.mark.parametrize("path", ["", "/profiles", "/capabilities", "/certificates/12", "/certificate-events", "/crl"])
def test_a_ca_of_another_organization_looks_like_one_that_does_not_exist(
    pki: Pki, elsewhere: Pki, path: str
) -> None:
    real, invented = "outofhere~issuing", "notthere1~issuing"
    assert elsewhere.call(f"{_CAS}/{real}").status == 200
    assert _bare(pki, real, path) == _bare(pki, invented, path)
    assert _bare(elsewhere, "interop~issuing", path) == _bare(elsewhere, "notther~issuing", path)


def _bare(pki: Pki, ca: str, path: str) -> str:
    """The answer with its headers, without the CA's name and what differs in every answer."""
    answer = pki.call(f"{_CAS}/{ca}{path}", "--include").body.decode()
    assert " 404 " in answer.splitlines()[0]
    lines = [line for line in answer.splitlines() if not line.lower().startswith(("date:", "x-correlation-id:"))]
    return "\n".join(lines).replace(ca, "CA")


def _new_client(pki: Pki, name: str) -> Path:
    """A further auditor of the issuing CA; certificate and key in PEM."""
    pki.product.run(
        "ca", "edit", pki.issuing, "--add-auditor", name, "--credentials-dir", pki.folder, "--save-passwords"
    )
    return pki.unpack(name)


def _handshake_refusal(pki: Pki, client: Path) -> str:
    """What curl says about a connection that the gateway does not let come about."""
    outcome = pki.attempt(_CAS, client=client)
    assert outcome.status in (35, 55, 56), outcome.output  # curl's codes of a failed TLS connection
    return outcome.output
