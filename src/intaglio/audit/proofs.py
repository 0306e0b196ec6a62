"""Proofs: one audit record with everything needed to check elsewhere that it was sealed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select

from intaglio.asn1.algorithms import load_public_key, verify
from intaglio.audit.merkle import HASH_LENGTH, canonical, inclusion_path, leaf_hash, root_from_path
from intaglio.audit.models import audit_record, audit_seal
from intaglio.audit.sealing import SIGNED_PREFIX, signed_octets
from intaglio.audit.verification import public_key_pem
from intaglio.core.errors import IntaglioError, NotFound, StateConflict
from intaglio.db.engine import Transaction


async def inclusion_proof(view: Transaction, seq: int, spki: bytes | None = None) -> dict[str, Any]:
    """The proof for record ``seq``, JSON-safe: the record as it was hashed, its path, the signed seal and, when given,
    the sealing key.

    Raises NotFound for an unknown record, StateConflict (``not-sealed-yet``).
    """
    row = await view.one_or_none(select(audit_record).where(audit_record.c.seq == seq))
    if row is None:
        raise NotFound(f"There is no audit record {seq}.", code="audit-record-unknown")
    query = select(audit_seal).where(audit_seal.c.first_seq <= seq, audit_seal.c.last_seq >= seq)
    seal = await view.one_or_none(query)
    if seal is None:
        raise StateConflict(f"Audit record {seq} is not sealed yet.", code="not-sealed-yet", retry_after=1)
    octets = bytes(seal["leaves"])
    leaves = [octets[at : at + HASH_LENGTH] for at in range(0, len(octets), HASH_LENGTH)]
    index = seq - seal["first_seq"]
    return {
        "record": canonical(row).decode(),
        "path": [step.hex() for step in inclusion_path(leaves, index)],
        "signed": signed_octets(seal).decode(),
        "signature": bytes(seal["signature"]).hex(),
        "keyId": str(seal["key_id"]),
        **({"publicKey": public_key_pem(spki)} if spki else {}),
    }


def proof_is_valid(proof: Mapping[str, Any], spki: bytes) -> bool:
    """Whether the proof shows that its record is under a seal signed by this key (SubjectPublicKeyInfo, DER)."""
    try:
        record, signed = json.loads(proof["record"]), proof["signed"].encode()
        seal = json.loads(signed.removeprefix(SIGNED_PREFIX))
        size = seal["last_seq"] - seal["first_seq"] + 1
        path = [bytes.fromhex(step) for step in proof["path"]]
        root = root_from_path(leaf_hash(proof["record"].encode()), record["seq"] - seal["first_seq"], size, path)
        key, algorithm = load_public_key(spki)
        signature_valid = verify(key, algorithm.signature_oid, bytes.fromhex(proof["signature"]), signed)
    except (KeyError, TypeError, ValueError, AttributeError, IntaglioError):
        return False
    return root is not None and root.hex() == seal["root"] and signed.startswith(SIGNED_PREFIX) and signature_valid
