"""``ocsp-cached``: OCSP answers from the cache, against a static responder of the same size on the same server."""

from __future__ import annotations

from bench import ocsp_load
from bench.figure import Figure
from bench.installation import installation

SHARE = 0.70
CERTIFICATES = 32


def measure() -> Figure:
    """Alternate responder and reference three times, report the medians."""
    figure = Figure("ocsp-cached")
    with installation() as product:
        certificates, issuer = ocsp_load.issued(product, CERTIFICATES)
        requests = ocsp_load.requests_for(certificates, issuer)
        with ocsp_load.static_responder(ocsp_load.answer_size(product, requests[0])) as static_port:
            port = product.runtime.port("public")
            pairs = [(ocsp_load.run(static_port, requests), ocsp_load.run(port, requests)) for _ in range(3)]
    static, cached = (sorted(column, key=lambda r: r.rate)[1] for column in zip(*pairs, strict=True))
    note = f"{cached.rate:,.0f}/s of {static.rate:,.0f}/s"
    figure.add("cached / static ASGI responder", cached.rate / static.rate, "", ">=", SHARE, note)
    figure.add("answers other than 200", sum(n for s, n in cached.statuses.items() if s != "200"), "", "<=", 0)
    figure.measured = {"static": static.__dict__, "cached": cached.__dict__}
    return figure
