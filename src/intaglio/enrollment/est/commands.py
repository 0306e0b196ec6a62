"""Commands of EST clients for an endpoint, to be copied."""

from __future__ import annotations

from intaglio.enrollment.est.routes import DEFAULT_LABEL
from intaglio.enrollment.urls import Bases, Command
from intaglio.enrollment.values import Endpoint


def commands(endpoint: Endpoint, base: Bases) -> list[Command]:
    """How clients enrol and renew at an endpoint."""
    label = "" if endpoint.name == DEFAULT_LABEL else f"/{endpoint.name}"
    url = f"{base.https}/.well-known/est{label}"
    return [
        Command(
            "CA certificates",
            f"{url}/cacerts",
            (f"curl --cacert platform-ca.pem {url}/cacerts | base64 -d | openssl pkcs7 -inform DER -print_certs",),
        ),
        Command(
            "Enrol with OpenSSL and curl",
            f"{url}/simpleenroll",
            (
                "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout device.key "
                "-subj /CN=device-1 -outform DER | base64 > device.b64",
                f"curl --cacert platform-ca.pem{_login(endpoint)} -H 'Content-Type: application/pkcs10' "
                f"--data-binary @device.b64 {url}/simpleenroll "
                "| base64 -d | openssl pkcs7 -inform DER -print_certs > device.pem",
            ),
        ),
        Command(
            "Renew with OpenSSL and curl",
            f"{url}/simplereenroll",
            (
                "openssl req -new -key device.key -subj /CN=device-1 -outform DER | base64 > renewal.b64",
                "curl --cacert platform-ca.pem --cert device.pem --key device.key "
                f"-H 'Content-Type: application/pkcs10' --data-binary @renewal.b64 {url}/simplereenroll "
                "| base64 -d | openssl pkcs7 -inform DER -print_certs",
            ),
        ),
        Command(
            "Enrol with strongSwan",
            url,
            (
                f"pki --estca --url {base.https} --cacert platform-ca.pem --caout ca.pem --outform pem",
                "pki --gen --type ecdsa --size 256 --outform pem > device.key",
                "pki --req --in device.key --type ecdsa --dn CN=device-1 --outform pem > device.req",
                f"pki --est --url {base.https} --in device.req --cacert platform-ca.pem "
                f"$(printf -- '--cacert %s ' ca*.pem){_user(endpoint)} --outform pem > device.pem",
            ),
        )
        if endpoint.name == DEFAULT_LABEL
        else Command(
            "Keys and names that are wanted", f"{url}/csrattrs", (f"curl --cacert platform-ca.pem {url}/csrattrs",)
        ),
    ]


def _login(endpoint: Endpoint) -> str:
    if endpoint.options.authentication == "certificate":
        return " --cert present.pem --key present.key"
    return " --user USER:PASSWORD" + (
        " --cert present.pem --key present.key" if endpoint.options.authentication == "both" else ""
    )


def _user(endpoint: Endpoint) -> str:
    return "" if endpoint.options.authentication == "certificate" else " --userpass USER:PASSWORD"

