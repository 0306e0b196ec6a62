"""``ocsp-signed``: OCSP answers signed on demand because every request carries another nonce."""

from __future__ import annotations

from bench import ocsp_load, reference
from bench.figure import Figure
from bench.installation import installation

SHARE = 0.50
CERTIFICATES = 16
NONCES = 64


def measure() -> Figure:
    """The reference is the smaller of the bare P-256 signing rate and a static responder's rate."""
    figure = Figure("ocsp-signed")
    with installation() as product:
        certificates, issuer = ocsp_load.issued(product, CERTIFICATES)
        requests = ocsp_load.requests_for(certificates, issuer, nonces=NONCES)
        signing = reference.rate(reference.bare_signature(), seconds=2)
        with ocsp_load.static_responder(ocsp_load.answer_size(product, requests[0])) as static_port:
            port = product.runtime.port("public")
            pairs = [(ocsp_load.run(static_port, requests), ocsp_load.run(port, requests)) for _ in range(3)]
    static, signed = (sorted(column, key=lambda r: r.rate)[1] for column in zip(*pairs, strict=True))
    bound = min(signing, static.rate)
    note = f"{signed.rate:,.0f}/s of {bound:,.0f}/s"
    figure.add("signed / min(bare signing, static)", signed.rate / bound, "", ">=", SHARE, note)
    figure.add("answers other than 200", sum(n for s, n in signed.statuses.items() if s != "200"), "", "<=", 0)
    figure.measured = {"signing_per_second": signing, "static": static.__dict__, "signed": signed.__dict__}
    return figure
