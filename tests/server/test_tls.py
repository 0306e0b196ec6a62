"""TLS policy: which certificates a server can use and which clients it trusts."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from tests.server import certificates
from tests.server.certificates import Credential

from intaglio.core.errors import InvalidInput, Unavailable
from intaglio.core.settings import Settings
from intaglio.server.tls import certificates_from_file, identity_from_files
from intaglio.transport.contexts import ServerIdentity, server_context
from intaglio.transport.observing import ObservingContext

AUTHORITY = certificates.authority("authority")
SERVER = certificates.server(AUTHORITY)
IDENTITY = ServerIdentity(SERVER.pem, SERVER.key_pem)


def test_only_ephemeral_authenticated_suites_are_offered() -> None:
    suites = {suite["name"] for suite in server_context(IDENTITY).get_ciphers()}
    assert suites
    assert all(name.startswith(("TLS_", "ECDHE-")) and ("GCM" in name or "CHACHA20" in name) for name in suites)


def test_foreign_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match="does not belong to the certificate"):
        server_context(ServerIdentity(SERVER.pem, certificates.server(AUTHORITY).key_pem))


def test_encrypted_key_is_refused_without_asking_on_the_terminal() -> None:
    encrypted = SERVER.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    with pytest.raises(InvalidInput):
        server_context(ServerIdentity(SERVER.pem, encrypted))


def test_weak_key_is_refused() -> None:
    key = rsa.generate_private_key(65537, 1024)
    weak = certificates.server(AUTHORITY, key=key)
    with pytest.raises(InvalidInput, match="weak"):
        server_context(ServerIdentity(weak.pem, weak.key_pem))


def test_text_is_refused() -> None:
    with pytest.raises(InvalidInput):
        server_context(ServerIdentity(b"hello", b"world"))


def test_issuing_authority_is_trusted_without_its_root() -> None:
    root = certificates.authority("root")
    issuing = certificates.authority("issuing", issuer=root)
    sibling = certificates.authority("sibling", issuer=root)
    assert _accepts(certificates.client(issuing), trusted=[issuing])
    assert not _accepts(certificates.client(sibling), trusted=[issuing])


def test_no_trusted_authority_means_no_client_certificate_is_accepted() -> None:
    assert not _accepts(certificates.client(AUTHORITY), trusted=[])


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_session_is_not_resumed_under_a_changed_trust(version: ssl.TLSVersion) -> None:
    credential = certificates.client(AUTHORITY)
    client = _client(credential)
    client.maximum_version = version
    server = _trusting(AUTHORITY)
    first, session = _shake(client, server)
    assert first is None
    again, _ = _shake(client, server, session=session)
    assert again is None
    other = certificates.authority("other")
    refused, _ = _shake(client, _trusting(other), session=session)
    assert refused is not None


def test_certificate_and_key_belong_together(tmp_path: Path) -> None:
    chain, key = SERVER.write(tmp_path, "server")
    assert identity_from_files(Settings(data_dir=tmp_path)) is None
    assert identity_from_files(Settings(data_dir=tmp_path, tls_certificate=chain, tls_key=key)) == IDENTITY
    with pytest.raises(InvalidInput, match="belong together"):
        identity_from_files(Settings(data_dir=tmp_path, tls_certificate=chain))
    with pytest.raises(Unavailable, match="cannot be read"):
        identity_from_files(Settings(data_dir=tmp_path, tls_certificate=chain, tls_key=tmp_path / "nothing"))


def test_trust_file_holds_any_number_of_certificates(tmp_path: Path) -> None:
    both = [certificates.authority("one"), certificates.authority("two")]
    file = tmp_path / "trust.pem"
    file.write_bytes(b"".join(each.pem for each in both))
    assert certificates_from_file(file) == tuple(each.der for each in both)
    file.write_text("nothing")
    with pytest.raises(InvalidInput, match="holds no certificates"):
        certificates_from_file(file)


def _accepts(credential: Credential, *, trusted: list[Credential]) -> bool:
    refused, _ = _shake(_client(credential), _trusting(*trusted))
    return refused is None


def _trusting(*authorities: Credential) -> ObservingContext:
    return ObservingContext(IDENTITY, trusted=[each.der for each in authorities], refuse=True)


def _client(credential: Credential) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.pem.decode())
    credential.load_into(context)
    return context


def _shake(
    client: ssl.SSLContext, server: ObservingContext, *, session: ssl.SSLSession | None = None
) -> tuple[ssl.SSLError | None, ssl.SSLSession | None]:
    """A handshake in memory: what the server refused the client with, and the session for the next one."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    near, far = client.wrap_bio(to_client, to_server, server_hostname="localhost", session=session), server.engine()
    done: set[int] = set()
    for _ in range(10):
        for end in (near, far):
            far.feed(to_server.read())
            try:
                end.do_handshake()
                done.add(id(end))
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLError as error:
                return error, None
            finally:
                to_client.write(far.drain())
        if len(done) == 2:
            assert not near.session_reused
            return None, near.session
    raise AssertionError("the handshake does not end")
