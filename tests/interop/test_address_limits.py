"""Which e-mail addresses the CA of a trust domain certifies, as OpenSSL, GnuTLS, NSS and Java see it.

What is outside of the limits counts nowhere, although it was signed with the very key of the CA.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import pytest_asyncio
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID
from tests.support.identities import hours, issue, make_domain, make_user
from tests.support.programs import attempt, run

from intaglio.core import clock
from intaglio.core.errors import Refused
from intaglio.mtls.context import Mtls
from intaglio.x509.certificates import pem

_JAVA = Path(__file__).with_name("java") / "RelyingParty.java"
#: Addresses by the name of their file, and whether the CA may certify them.
_ADDRESSES = {
    "named": ("alice@example.com", True),
    "below": ("bob@mail.corp.example", True),  # .corp.example
    "forged": ("mallory@example.com", True),  # good but for who made it
    "other": ("ceo@bank.example", False),
    "ending": ("eve@evilexample.com", False),
    "deeper": ("eve@a.example.com", False),  # only the host itself is named
}


@pytest_asyncio.fixture
async def folder(mtls: Mtls, organization: str, tmp_path: Path) -> Path:
    """root.pem, issuing.pem, and a certificate for each address, whether the registry would have it or not."""
    domain = await make_domain(mtls, email_domains=["example.com", ".corp.example"])
    issuing = (await mtls.authority.current()).ca(domain.issuing_ca)
    for name, der in zip(("issuing", "root"), issuing.chain, strict=True):
        (tmp_path / f"{name}.pem").write_text(pem(der))
    for name, (address, fits) in _ADDRESSES.items():
        if fits and name != "forged":
            made = (await issue(mtls, await make_user(mtls, address))).certificate
        else:
            made = await _forged(mtls, domain.issuing_ca, address)
        (tmp_path / f"{name}.pem").write_text(pem(made))
    return tmp_path


async def _forged(mtls: Mtls, ca: str, address: str) -> bytes:
    """What somebody with the key of the CA could sign."""
    view = (await mtls.authority.current()).ca(ca)
    assert view.key.key_id is not None
    async with mtls.database.read() as reading:
        signer = await mtls.authority.keystore.load(reading, view.key.key_id)
    issuer, now = x509.load_der_x509_certificate(view.chain[0]), clock.now()
    key_identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateBuilder(issuer.subject, x509.Name([]), key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - hours(1)).not_valid_after(now + hours(1))
    usage = x509.KeyUsage(True, *[False] * 8)
    for value, critical in (
        (x509.SubjectAlternativeName([x509.RFC822Name(address)]), True), (usage, True),
        (x509.BasicConstraints(False, None), True), (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_identifier.value), False),
    ):  # fmt: skip
        builder = builder.add_extension(value, critical)
    return builder.sign(signer.private_key, SHA256()).public_bytes(Encoding.DER)  # type: ignore[arg-type]


_EXPECTED = {name: fits for name, (_, fits) in _ADDRESSES.items()}


async def test_openssl_takes_only_addresses_of_the_trust_domain(folder: Path) -> None:
    trust = ("-purpose", "sslclient", "-CAfile", folder / "root.pem", "-untrusted", folder / "issuing.pem")
    seen = {name: attempt("openssl", "verify", *trust, folder / f"{name}.pem") for name in _ADDRESSES}
    assert {name: each.status == 0 for name, each in seen.items()} == _EXPECTED
    assert "permitted subtree violation" in seen["other"].output


async def test_gnutls_takes_only_addresses_of_the_trust_domain(folder: Path) -> None:
    trust, verified = ("--verify", "--load-ca-certificate", folder / "root.pem"), {}
    for name in _ADDRESSES:
        chain = folder / "chain.pem"
        chain.write_text((folder / f"{name}.pem").read_text() + (folder / "issuing.pem").read_text())
        verified[name] = attempt("certtool", *trust, "--infile", chain).status == 0
    assert verified == _EXPECTED


async def test_nss_takes_only_addresses_of_the_trust_domain(folder: Path) -> None:
    store = folder / "nss"
    store.mkdir()
    run("certutil", "-N", "-d", f"sql:{store}", "--empty-password")
    for name, trust in {"root": "CT,,", "issuing": ",,", **dict.fromkeys(_ADDRESSES, ",,")}.items():
        run("certutil", "-A", "-d", f"sql:{store}", "-n", name, "-t", trust, "-a", "-i", folder / f"{name}.pem")
    seen = {name: attempt("certutil", "-V", "-d", f"sql:{store}", "-n", name, "-u", "C", "-e") for name in _ADDRESSES}
    assert {name: "certificate is valid" in each.output for name, each in seen.items()} == _EXPECTED


async def test_java_takes_only_addresses_of_the_trust_domain(folder: Path) -> None:
    # Java takes a common name for a host where no DNS name is certified, and holds it against the limits of those; what
    # is signed here has none, so that only the address counts.
    nameless = {name: fits for name, fits in _EXPECTED.items() if name not in ("named", "below")}
    files = [folder / f"{name}.pem" for name in ("root", "issuing", *nameless)]
    told = run("java", "-XX:TieredStopAtLevel=1", _JAVA, "path", *files)
    assert {name: f"{name}.pem: valid" in told for name in nameless} == nameless


@pytest.mark.parametrize("address", [address for address, fits in _ADDRESSES.values() if not fits])
async def test_the_registry_takes_no_other_address(mtls: Mtls, folder: Path, address: str) -> None:
    with pytest.raises(Refused) as refusal:
        await make_user(mtls, address)
    assert refusal.value.code == "email-outside-domain"
