"""What tests of other folders rely on: organizations of their own in one running server."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from tests.support.pki import NewName, NewPki, Pki, certificate_request, issued
from tests.support.programs import run


async def test_organizations_of_two_tests_do_not_know_each_other(new_pki: NewPki, new_name: NewName) -> None:
    name = new_name("www")
    ours, theirs = new_pki(key_algorithm="RSA-2048"), new_pki()
    assert isinstance(ours.issuer.public_key(), rsa.RSAPublicKey)
    async with ours.http() as gateway:
        leaf = issued(await gateway.enroll(certificate_request(name)))
    x509.load_der_x509_certificate(leaf.der).verify_directly_issued_by(ours.issuer)
    async with theirs.http() as gateway:
        assert (await gateway.act(leaf, "RevokeAction", reason="keyCompromise")).status_code == 404


def test_files_of_a_pki_are_what_openssl_reads(shared_pki: Pki) -> None:
    run("openssl", "verify", "-x509_strict", "-CAfile", shared_pki.root_file, shared_pki.issuing_file)
    chain = shared_pki.issuing_file.read_text() + shared_pki.root_file.read_text()
    assert shared_pki.chain_file.read_text() == chain


def test_no_name_is_made_twice(new_name: NewName) -> None:
    assert len({new_name("www"), new_name("www"), new_name("device", "")}) == 3
