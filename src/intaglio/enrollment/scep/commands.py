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
                "    --password CHALLENGE --cacert-enc ra.crt --cacert-sig ca.crt --cipher aes > device.crt",
            ),
        ),
        Command(
            "micromdm scepclient",
            plain,
            (
                f"scepclient -server-url {plain} -challenge CHALLENGE -cn device \\",
                "    -key-encipherment-selector -private-key key.pem -certificate device.pem",
            ),
        ),
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
            (f"crypto pki trustpoint {name}", f" enrollment url {plain}", " password CHALLENGE"),
        ),
    ]
