"""Certificate requests of issuing CAs whose issuer is elsewhere."""

from __future__ import annotations

from uuid import UUID

from sqlalchemy.dialects.postgresql import insert

from intaglio.asn1 import der
from intaglio.authority import models
from intaglio.db.engine import Transaction
from intaglio.keystore.service import Signer
from intaglio.x509 import extensions as ext
from intaglio.x509.names import Name

_EXTENSION_REQUEST = "1.2.840.113549.1.9.14"
_KEY_USAGE = ("digitalSignature", "keyCertSign", "cRLSign")


async def make_request(
    tx: Transaction, signer: Signer, ca_id: UUID, generation: int, subject: Name, path_length: int
) -> bytes:
    """Make and keep the request for a key of a CA, in place of an earlier one. Returns its DER."""
    request = await signed_request(signer, subject, path_length)
    values = {"generation": generation, "csr": request, "created_at": tx.now}
    statement = insert(models.ca_request).values(ca_id=ca_id, **values)
    await tx.execute(statement.on_conflict_do_update(index_elements=["ca_id"], set_=values))
    return request


async def signed_request(signer: Signer, subject: Name, path_length: int) -> bytes:
    """A PKCS #10 request that asks for what the certificate of a CA needs. Source: RFC 2986 section 4, RFC 2985
    section 5.4.2."""
    wanted = der.sequence(
        ext.extension(ext.BASIC_CONSTRAINTS, True, ext.basic_constraints(True, path_length)),
        ext.extension(ext.KEY_USAGE, True, ext.key_usage(_KEY_USAGE)),
    )
    attributes = der.explicit(0, der.sequence(der.oid(_EXTENSION_REQUEST), der.set_of(wanted)))
    info = der.sequence(der.integer(0), subject.der, signer.spki, attributes)
    signature = await signer.sign(info)
    return der.sequence(info, signer.algorithm.signature_identifier, der.bit_string(signature))
