"""Proof of possession: that whoever asks has the private key. Source: RFC 4211 section 4, RFC 9483 section 4.1.1."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from intaglio.asn1.algorithms import PublicKey
from intaglio.asn1.cmp import Failure
from intaglio.asn1.crmf import CertRequestMessage, ProofOfPossession, read_signed_input
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Exchange
from intaglio.enrollment.cmp.headers import directory_name
from intaglio.enrollment.cmp.strength import verify_signature

#: Name without any attribute.
EMPTY_NAME: Final = b"\x30\x00"


class Proof(StrEnum):
    """SHOWN: it is proven; BY_DECRYPTION: the certificate is sent encrypted, and whoever confirms it has the key."""

    SHOWN = "shown"
    BY_DECRYPTION = "by-decryption"


def check_proof(exchange: Exchange, request: CertRequestMessage, key: PublicKey) -> Proof:
    """Check the proof of possession of a request. Raises CmpRefusal (badPOP, badAlg)."""
    proof = request.proof
    if proof is None:
        raise _no_proof("The request has no proof of possession.", "Sign it with the key that is to be certified.")
    if proof.kind == "ra-verified":
        if not exchange.acts_for_others:
            raise _no_proof("Only a registration authority may say raVerified.", "Sign the request with its key.")
        return Proof.SHOWN
    if proof.kind == "signature":
        _check_signature(exchange, request, proof, key)
        return Proof.SHOWN
    if proof.method != "encrypted-certificate":
        raise _no_proof(
            f"Possession of a key for {proof.kind} is not shown this way here.",
            "Ask for the certificate to be sent encrypted (subsequentMessage encrCert).",
        )
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise _no_proof("Nothing can be encrypted for a key of this kind.", "Sign the request with its key.")
    return Proof.BY_DECRYPTION


def _check_signature(
    exchange: Exchange, request: CertRequestMessage, proof: ProofOfPossession, key: PublicKey
) -> None:
    signed = request.request_der
    if proof.signed is not None:
        signed = proof.signed
        sender, spki = read_signed_input(signed)
        if request.template.subject not in (None, EMPTY_NAME):
            # Such a proof says nothing of the name, so it could be taken from somebody else's message.
            raise _no_proof("The signed proof of possession leaves out the subject.", "Sign the CertRequest.")
        if spki != request.template.public_key or not _is_sender(exchange, sender):
            raise _no_proof("The signed proof of possession is about another key or sender.", "Sign the CertRequest.")
    if not verify_signature(exchange.options, key, proof.algorithm, proof.signature, signed):
        raise _no_proof(
            "The signature of the request is not valid under its own key.",
            "Sign the CertRequest with the private key of the key in the template.",
        )


def _is_sender(exchange: Exchange, general_name: bytes | None) -> bool:
    if general_name is None:
        return False
    named, sender = directory_name(general_name), directory_name(exchange.message.header.sender)
    return named is not None and sender is not None and named.key == sender.key


def _no_proof(detail: str, remedy: str) -> CmpRefusal:
    return CmpRefusal(Failure.BAD_POP, detail, remedy=remedy)
