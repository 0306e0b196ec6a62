"""Signing a PDF with pyHanko and validating it: PAdES with a timestamp (ETSI EN 319 142)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pyhanko.keys import load_cert_from_pemder
from pyhanko.pdf_utils.incremental_writer import IncrementalPdfFileWriter
from pyhanko.pdf_utils.reader import PdfFileReader
from pyhanko.sign import signers, timestamps
from pyhanko.sign.fields import SigSeedSubFilter
from pyhanko.sign.validation import validate_pdf_signature
from pyhanko_certvalidator import ValidationContext

_EMPTY = b"""%PDF-1.7
1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj
2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj
3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Resources<<>>>>endobj
"""


def sign_and_validate(folder: Path, url: str, roots: Sequence[Path]) -> Any:
    """Sign an empty page with ``signer.key`` and ``signer.pem`` of the folder, timestamped at ``url``; pyHanko's
    verdict, trusting ``roots``."""
    document, signed = folder / "document.pdf", folder / "signed.pdf"
    document.write_bytes(_with_cross_references(_EMPTY))
    signer = signers.SimpleSigner.load(str(folder / "signer.key"), str(folder / "signer.pem"))
    metadata = signers.PdfSignatureMetadata(field_name="Signature", subfilter=SigSeedSubFilter.PADES)
    stamper = timestamps.HTTPTimeStamper(url)
    with document.open("rb") as source, signed.open("w+b") as target:
        signers.PdfSigner(metadata, signer=signer, timestamper=stamper).sign_pdf(
            IncrementalPdfFileWriter(source), output=target
        )
    context = ValidationContext(trust_roots=[load_cert_from_pemder(str(each)) for each in roots], allow_fetching=False)
    with signed.open("rb") as file:
        return validate_pdf_signature(PdfFileReader(file).embedded_signatures[0], context)


def _with_cross_references(body: bytes) -> bytes:
    offsets = [body.index(b"%d 0 obj" % number) for number in (1, 2, 3)]
    table = b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % each for each in offsets)
    return body + table + b"trailer<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % len(body)
