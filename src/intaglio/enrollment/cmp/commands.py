"""Commands to copy for clients of a CMP endpoint."""

from __future__ import annotations

from intaglio.enrollment.urls import Bases, Command
from intaglio.enrollment.values import Endpoint


def commands(endpoint: Endpoint, base: Bases) -> list[Command]:
    """How OpenSSL's client is pointed at the endpoint; REFERENCE, SECRET and the names are to be filled in."""
    path = f"/.well-known/cmp/p/{endpoint.name}"
    url = base.http + path
    server = f"openssl cmp -server {url}"
    trusting = "-trusted root.pem"
    return [
        Command(
            "First certificate, by a shared secret",
            url,
            (
                "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out device.key",
                f"{server} -cmd ir \\",
                "    -ref REFERENCE -secret pass:SECRET -newkey device.key -subject '/CN=device' \\",
                "    -certout device.pem",
            ),
        ),
        Command(
            "First certificate, by the certificate of a vendor",
            url,
            (
                f"{server} -cmd ir \\",
                "    -cert vendor.pem -key vendor.key -extracerts vendor-ca.pem \\",
                f"    -newkey device.key -subject '/CN=device' {trusting} -certout device.pem",
            ),
        ),
        Command(
            "Update of the key",
            url,
            (
                "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out next.key",
                f"{server} -cmd kur \\",
                f"    -cert device.pem -key device.key -newkey next.key {trusting} -certout next.pem",
            ),
        ),
        Command(
            "From a PKCS #10 request",
            url,
            (
                "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout device.key \\",
                "    -subj /CN=device -out device.csr",
                f"{server} -cmd p10cr \\",
                "    -ref REFERENCE -secret pass:SECRET -csr device.csr -certout device.pem",
            ),
        ),
        Command(
            "Revocation",
            url,
            (
                f"{server} -cmd rr \\",
                f"    -cert device.pem -key device.key -oldcert device.pem -revreason 4 {trusting}",
            ),
        ),
    ]
