"""Client certificates that are observed: what is seen of them, and that seeing is not trusting."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server import certificates
from tests.server.certificates import Credential
from tests.support.handshakes import Outcome, shake

from intaglio.core.errors import InvalidInput
from intaglio.transport.contexts import ServerIdentity
from intaglio.transport.observing import CHAIN_LIMIT, ObservingContext

AUTHORITY = certificates.authority("authority")
SERVER = certificates.server(AUTHORITY)
IDENTITY = ServerIdentity(SERVER.pem, SERVER.key_pem)
VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


def _expired() -> Credential:
    return certificates.client(AUTHORITY, lifetime=timedelta(hours=-1))


def _foreign() -> Credential:
    return certificates.client(certificates.authority("foreign"))


def _namesake() -> Credential:
    return certificates.client(certificates.authority("authority"))


def _self_signed() -> Credential:
    return certificates.authority("self-signed")


def _server() -> Credential:
    return certificates.server(AUTHORITY)


def _weak() -> Credential:
    key = rsa.generate_private_key(65537, 1024)
    return certificates.server(AUTHORITY, key=key)


BAD = pytest.mark.parametrize(
    ("make", "error"),
    [
        (_expired, "CERT_HAS_EXPIRED"),
        (_foreign, "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"),
        (_namesake, "CERT_SIGNATURE_FAILURE"),
        (_self_signed, "DEPTH_ZERO_SELF_SIGNED_CERT"),
        (_server, "INVALID_PURPOSE"),
    ],
)


@VERSIONS
def test_trusted_client_is_verified(version: ssl.TLSVersion) -> None:
    credential = certificates.client(AUTHORITY)
    outcome = _shake(credential, version)
    assert outcome.peer.verified
    assert outcome.peer.chain == (credential.der, AUTHORITY.der)
    assert (outcome.peer.error, outcome.peer.errors) == (None, ())


@VERSIONS
def test_client_without_certificate_is_nobody(version: ssl.TLSVersion) -> None:
    peer = _shake(None, version).peer
    assert (peer.chain, peer.verified, peer.error) == ((), False, None)


@VERSIONS
@BAD
def test_untrusted_client_is_seen_and_not_verified(
    make: Callable[[], Credential], error: str, version: ssl.TLSVersion
) -> None:
    credential = make()
    peer = _shake(credential, version).peer
    assert peer.chain[0] == credential.der
    assert (peer.verified, peer.error) == (False, error)


def test_weak_key_is_named_among_the_errors() -> None:
    assert "EE_KEY_TOO_SMALL" in _shake(_weak(), lax=True).peer.errors


def test_untrusted_issuer_matters_more_than_expiry() -> None:
    credential = certificates.client(certificates.authority("foreign"), lifetime=timedelta(hours=-1))
    peer = _shake(credential).peer
    assert peer.error == "UNABLE_TO_GET_ISSUER_CERT_LOCALLY"
    assert "CERT_HAS_EXPIRED" in peer.errors


@VERSIONS
@pytest.mark.parametrize(
    ("make", "alert"),
    [
        (_expired, "CERTIFICATE_EXPIRED"),
        (_foreign, "UNKNOWN_CA"),
        (_namesake, "DECRYPT_ERROR|BAD_CERTIFICATE"),
        (_self_signed, "UNKNOWN_CA"),
        (_server, "UNSUPPORTED_CERTIFICATE|BAD_CERTIFICATE"),
    ],
)
def test_refusing_context_ends_the_handshake_with_the_alert(
    make: Callable[[], Credential], alert: str, version: ssl.TLSVersion
) -> None:
    outcome = _shake(make(), version, refuse=True)
    assert isinstance(outcome.server_error, ssl.SSLCertVerificationError)
    with pytest.raises(ssl.SSLError, match=alert):
        raise outcome.client_error or AssertionError("the client heard nothing")


@VERSIONS
def test_required_certificate_is_required(version: ssl.TLSVersion) -> None:
    outcome = _shake(None, version, refuse=True, require=True)
    assert outcome.server_error is not None
    with pytest.raises(ssl.SSLError, match=r"CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE"):
        raise outcome.client_error or AssertionError("the client heard nothing")


@VERSIONS
def test_certificate_without_its_key_does_not_finish_the_handshake(version: ssl.TLSVersion) -> None:
    """A copied certificate is of no use: TLS wants a signature of its key over this very handshake."""
    stolen = certificates.client(AUTHORITY)
    forged = _shake(stolen, version, tamper=True)
    assert forged.server_error is not None
    assert not forged.finished


@VERSIONS
def test_session_is_not_resumed(version: ssl.TLSVersion) -> None:
    context = ObservingContext(IDENTITY, trusted=[AUTHORITY.der])
    client = _client(certificates.client(AUTHORITY), version)
    first = shake(client, context.engine())
    second = shake(client, context.engine(), session=first.session)
    assert first.finished
    assert second.finished
    assert not second.resumed
    assert second.peer.verified


def test_chain_of_too_many_certificates_is_not_verified() -> None:
    credential = certificates.client(AUTHORITY)
    extra = [certificates.authority(f"extra {number}").pem for number in range(CHAIN_LIMIT)]
    peer = _shake(credential, extra=extra).peer
    assert (peer.verified, peer.error) == (False, "CERT_CHAIN_TOO_LONG")
    assert len(peer.chain) == CHAIN_LIMIT


def test_chain_of_too_many_octets_ends_the_handshake() -> None:
    bulky = [_bulky(number) for number in range(4)]
    outcome = _shake(certificates.client(AUTHORITY), extra=bulky)
    assert outcome.server_error is not None
    assert "excessive message size" in str(outcome.server_error)


def test_authority_need_not_be_self_signed() -> None:
    issuing = certificates.authority("issuing", issuer=AUTHORITY)
    context = ObservingContext(IDENTITY, trusted=[issuing.der])
    assert shake(_client(certificates.client(issuing)), context.engine()).peer.verified
    assert not shake(_client(certificates.client(AUTHORITY)), context.engine()).peer.verified


@pytest.mark.parametrize(("offer", "chosen"), [(["h2", "http/1.1"], "h2"), (["http/1.1"], "http/1.1"), (["x"], None)])
def test_protocol_is_negotiated(offer: list[str], chosen: str | None) -> None:
    context = ObservingContext(IDENTITY, trusted=[AUTHORITY.der], alpn=["h2", "http/1.1"])
    client = _client(None)
    client.set_alpn_protocols(offer)
    assert shake(client, context.engine()).protocol == chosen


def test_foreign_key_is_refused() -> None:
    with pytest.raises(InvalidInput):
        ObservingContext(ServerIdentity(SERVER.pem, certificates.server(AUTHORITY).key_pem), trusted=[])


def test_application_data_passes_both_ways() -> None:
    outcome = _shake(certificates.client(AUTHORITY))
    assert outcome.exchange(b"x" * 100_000) == b"x" * 100_000


@given(st.binary(max_size=600))
@settings(deadline=None, max_examples=200)
def test_no_octets_bring_an_engine_down(data: bytes) -> None:
    engine = _CONTEXT.engine()
    engine.feed(data)
    try:
        engine.do_handshake()
    except ssl.SSLError:
        engine.drain()
        return
    raise AssertionError("a handshake out of nothing")


_CONTEXT = ObservingContext(IDENTITY, trusted=[AUTHORITY.der])


def _shake(
    credential: Credential | None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    *,
    refuse: bool = False,
    require: bool = False,
    extra: list[bytes] | None = None,
    lax: bool = False,
    tamper: bool = False,
) -> Outcome:
    context = ObservingContext(IDENTITY, trusted=[AUTHORITY.der], refuse=refuse, require=require)
    client = _client(credential, version, extra or [], lax=lax)
    return shake(client, context.engine(), tamper=tamper)


def _client(
    credential: Credential | None,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    extra: list[bytes] | None = None,
    *,
    lax: bool = False,
) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    context.minimum_version = context.maximum_version = version
    if lax:
        context.set_ciphers("ALL:@SECLEVEL=0")
    if credential is not None:
        credential.load_into(context, extra or [])
    return context


def _bulky(number: int) -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, f"bulky {number}")])
    template = AUTHORITY.certificate
    padding = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\x04\x82\x75\x30" + b"x" * 30000)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(number + 1)
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .add_extension(padding, False)
        .sign(key, SHA256())
    )
    return Credential(certificate, key).pem
