from __future__ import annotations

import ipaddress
import ssl
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from intaglio.core import clock
from intaglio.core.errors import Forbidden, InvalidInput, NotFound
from intaglio.core.principal import ANONYMOUS, Principal, operator
from intaglio.core.secrets import MasterKey
from intaglio.db.engine import Database
from intaglio.keystore import rewrap
from intaglio.platform import server_certificates, server_identities

OPERATOR = operator("root")
P256 = ec.generate_private_key(ec.SECP256R1())
CA_KEY = ec.generate_private_key(ec.SECP256R1())
NAMES = [x509.DNSName("pki.example.org"), x509.IPAddress(ipaddress.ip_address("192.0.2.1"))]


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def certificate(
    key: object = P256,
    *,
    subject: str = "server",
    issuer: str = "CA",
    signed_by: ec.EllipticCurvePrivateKey = CA_KEY,
    ca: bool = False,
    names: list[x509.GeneralName] | None = NAMES,
    starts: timedelta = timedelta(days=-1),
    ends: timedelta = timedelta(days=30),
    usage: x509.ObjectIdentifier | None = ExtendedKeyUsageOID.SERVER_AUTH,
) -> bytes:
    builder = x509.CertificateBuilder(
        name(issuer), name(subject), key.public_key(), 7, clock.now() + starts, clock.now() + ends
    ).add_extension(x509.BasicConstraints(ca, None), critical=True)
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    if usage:
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    return builder.sign(signed_by, SHA256()).public_bytes(Encoding.PEM)


CA = certificate(CA_KEY, subject="CA", ca=True, names=None, usage=None)


def pem(key: object = P256, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


async def install(
    database: Database,
    master_key: MasterKey,
    chain: bytes,
    key: bytes,
    *,
    by: Principal = OPERATOR,
    **options: object,
) -> server_identities.ServerIdentityInfo:
    async with database.transaction() as tx:
        return await server_identities.install(tx, by, master_key, chain, key, **options)


async def served(database: Database, master_key: MasterKey, listener: str = "console") -> bytes | None:
    async with database.read() as view:
        identity = await server_identities.load(view, master_key, listener)
    return identity.chain if identity else None


async def test_an_installed_identity_can_be_served(
    database: Database, master_key: MasterKey, tmp_path: Path
) -> None:
    info = await install(database, master_key, certificate() + CA, pem())
    assert (info.subject, info.issuer, info.names) == ("CN=server", "CN=CA", ("pki.example.org", "192.0.2.1"))
    assert (info.key_algorithm, info.chain_length, info.self_signed) == ("ECDSA secp256r1", 2, False)
    async with database.read() as view:
        identity = await server_identities.load(view, master_key, "gateway")
        assert await server_identities.list_identities(view, OPERATOR) == [info]
    assert identity is not None
    (tmp_path / "both.pem").write_bytes(identity.key + identity.chain)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / "both.pem")


async def test_a_listener_prefers_its_own_identity(database: Database, master_key: MasterKey) -> None:
    own, default = certificate(subject="own"), certificate(subject="default")
    await install(database, master_key, default, pem())
    await install(database, master_key, own, pem(), listener="gateway")
    assert await served(database, master_key, "gateway") == own
    assert await served(database, master_key, "console") == default
    async with database.transaction() as tx:
        await server_identities.remove(tx, OPERATOR, "gateway")
    assert await served(database, master_key, "gateway") == default


async def test_without_an_identity_there_is_nothing_to_serve(database: Database, master_key: MasterKey) -> None:
    assert await served(database, master_key) is None


async def test_an_encrypted_key_opens_with_its_password(database: Database, master_key: MasterKey) -> None:
    locked = pem(encryption=BestAvailableEncryption(b"correct"))
    for password, code in ((None, "key-password-missing"), (SecretStr("wrong"), "key-password-wrong")):
        with pytest.raises(InvalidInput) as refused:
            await install(database, master_key, certificate(), locked, password=password)
        assert refused.value.code == code
    await install(database, master_key, certificate(), locked, password=SecretStr("correct"))
    assert await served(database, master_key)


async def test_a_password_for_an_open_key_does_no_harm(database: Database, master_key: MasterKey) -> None:
    await install(database, master_key, certificate(), pem(), password=SecretStr("unneeded"))
    assert await served(database, master_key)


RSA_1024 = rsa.generate_private_key(65537, 1024)
RSA_2048 = rsa.generate_private_key(65537, 2048)
P224 = ec.generate_private_key(ec.SECP224R1())
P384 = ec.generate_private_key(ec.SECP384R1())


@pytest.mark.parametrize("key", [RSA_2048, P384], ids=["rsa-2048", "p-384"])
async def test_strong_keys_are_accepted(database: Database, master_key: MasterKey, key: object) -> None:
    await install(database, master_key, certificate(key), pem(key))
    assert await served(database, master_key)


async def test_a_certificate_with_only_a_common_name_is_accepted(database: Database, master_key: MasterKey) -> None:
    info = await install(database, master_key, certificate(names=None, subject="pki.example.org"), pem())
    assert info.names == ("pki.example.org",)


STRANGER = ec.generate_private_key(ec.SECP256R1())
BAD = {
    "foreign key": (certificate(), pem(STRANGER), "key-mismatch"),
    "rsa of 1024 bits": (certificate(RSA_1024), pem(RSA_1024), "weak-key"),
    "p-224": (certificate(P224), pem(P224), "weak-key"),
    "ed25519": (certificate(), pem(ed25519.Ed25519PrivateKey.generate()), "key-algorithm-not-allowed"),
    "expired": (certificate(ends=timedelta(hours=-1)), pem(), "certificate-expired"),
    "not yet valid": (certificate(starts=timedelta(hours=1)), pem(), "certificate-not-yet-valid"),
    "for clients": (certificate(usage=ExtendedKeyUsageOID.CLIENT_AUTH), pem(), "certificate-not-for-servers"),
    "no host names": (
        certificate(names=[x509.RFC822Name("a@example.org")]),
        pem(),
        "certificate-without-names",
    ),
    "wrong order": (CA + certificate(), pem(CA_KEY), "chain-broken"),
    "issuer missing": (certificate(signed_by=STRANGER) + CA, pem(), "chain-broken"),
    "issuer is no ca": (
        certificate(issuer="leaf", signed_by=STRANGER) + certificate(STRANGER, subject="leaf", ca=False),
        pem(),
        "chain-broken",
    ),
    "expired issuer": (
        certificate() + certificate(CA_KEY, subject="CA", ca=True, ends=timedelta(hours=-1)),
        pem(),
        "certificate-expired",
    ),
    "weak issuer": (certificate() + certificate(RSA_1024, subject="CA", ca=True), pem(), "weak-key"),
    "no certificate": (b"", pem(), "certificate-unreadable"),
    "rubbish certificate": (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", pem(), None),
    "rubbish key": (certificate(), b"not a key", "key-unreadable"),
    "key is a certificate": (certificate(), certificate(), "key-unreadable"),
    "huge": (CA * 2000, pem(), "certificate-unreadable"),
    "long chain": (CA * 11, pem(CA_KEY), "chain-too-long"),
}


@pytest.mark.parametrize("case", BAD)
async def test_a_bad_identity_is_refused_and_the_old_one_stays(
    database: Database, master_key: MasterKey, case: str
) -> None:
    before = certificate(subject="before")
    await install(database, master_key, before, pem())
    chain, key, code = BAD[case]
    with pytest.raises(InvalidInput) as refused:
        await install(database, master_key, chain, key)
    assert refused.value.code == (code or "certificate-unreadable")
    assert await served(database, master_key) == before


async def test_a_certificate_whose_common_name_is_not_a_host_can_still_be_a_chain_of_one(
    database: Database, master_key: MasterKey
) -> None:
    """A self-signed certificate is served as it is: it has nothing above it."""
    own = certificate(subject="host", issuer="host", signed_by=P256)
    assert (await install(database, master_key, own, pem())).self_signed


async def test_only_platform_managers_change_identities(database: Database, master_key: MasterKey) -> None:
    with pytest.raises(Forbidden):
        await install(database, master_key, certificate(), pem(), by=Principal("user", "bob"))
    with pytest.raises(NotFound):
        await install(database, master_key, certificate(), pem(), listener="nowhere")
    with pytest.raises(InvalidInput):
        async with database.transaction() as tx:
            await server_identities.remove(tx, OPERATOR, "default")
    assert not ANONYMOUS.permissions


async def test_identities_survive_a_rotation_of_the_master_key(database: Database, master_key: MasterKey) -> None:
    chain = certificate()
    await install(database, master_key, chain, pem())
    ring = master_key.rotated()
    assert await rewrap.outstanding(database, ring) == 1
    await rewrap.rewrap(database, ring, principal=OPERATOR)
    assert await rewrap.outstanding(database, ring) == 0
    assert await served(database, ring.without(master_key.current)) == chain


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"-----BEGIN CERTIFICATE-----\n" + b))
def test_any_octets_are_a_chain_or_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        server_certificates.read_chain(data)


@given(
    st.binary(max_size=200) | st.binary(max_size=200).map(lambda b: b"-----BEGIN ENCRYPTED PRIVATE KEY-----\n" + b),
    st.none() | st.just(SecretStr("secret")),
)
def test_any_octets_are_a_key_or_refused(data: bytes, password: SecretStr | None) -> None:
    with pytest.raises(InvalidInput):
        server_certificates.read_key(data, password)
