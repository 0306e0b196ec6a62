"""Commands to copy for clients of a SCEP endpoint."""

from __future__ import annotations

from intaglio.enrollment.urls import Bases, Command
from intaglio.enrollment.values import Endpoint


def commands(endpoint: Endpoint, base: Bases) -> list[Command]:
    """How the usual clients are pointed at the endpoint; CHALLENGE and the name are to be filled in."""
    path = f"/scep/{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}/"
    plain, name = base.http + path, endpoint.name
    return [
        Command("What the service can do", f"{plain}?operation=GetCACaps", (f"curl '{plain}?operation=GetCACaps'",)),
        Command(
            "strongSwan",
            plain,
            (
                f"pki --scepca --url {plain} --caout ca.crt --raout ra.crt",
                "pki --gen --type rsa --size 2048 > key.der",
                f"pki --scep --url {plain} --in key.der --dn 'CN=device' --san device.example.com \\",
                "    --password CHALLENGE --cacert-enc ra.crt --cacert-sig ra.crt \\",
                "    $(printf -- '--cacert %s ' ca*.crt) > device.crt",
            ),
        ),
        *_scepclient(endpoint, plain),
        Command(
            "certmonger",
            plain,
            (
                f"getcert add-scep-ca -c {name} -u {plain}",
                f"getcert request -c {name} -k /etc/pki/device.key -f /etc/pki/device.crt -N CN=device -L CHALLENGE",
            ),
        ),
        Command(
            "Cisco IOS",
            plain,
            (
                f"crypto pki trustpoint {name}",
                f" enrollment url {plain}",
                " subject-name CN=router.example.com",
                " hash sha256",
                " revocation-check crl",
                f" rsakeypair {name} 2048",
                " password CHALLENGE",
                " auto-enroll 80 regenerate",
                f"crypto pki authenticate {name}",
                f"crypto pki enroll {name}",
            ),
        ),
    ]


def _scepclient(endpoint: Endpoint, url: str) -> list[Command]:
    # It encrypts with DES alone, and signs with SHA-1.
    if not {"des", "sha1"} <= set(endpoint.options.legacy):
        return []
    fingerprint = f"$(curl -s '{url}?operation=GetCACert' | openssl pkcs7 -inform DER -print_certs |"
    return [
        Command(
            "micromdm scepclient",
            url,
            (
                f"fingerprint={fingerprint}",
                "    openssl x509 -noout -fingerprint -sha256 | cut -d= -f2 | tr -d :)",
                f"scepclient -server-url {url} -challenge CHALLENGE -cn device \\",
                "    -ca-fingerprint $fingerprint -private-key key.pem -certificate device.pem",
            ),
        )
    ]
