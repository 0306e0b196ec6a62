"""How clients are told to use an ACME endpoint: command lines and configuration to copy."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from intaglio.enrollment.acme.context import options_of
from intaglio.enrollment.urls import Bases, Command
from intaglio.enrollment.values import Endpoint

#: What the reader replaces: the file with the CA certificate that the server's certificate chains to, and a name.
_ROOT: Final = "platform-ca.pem"
_NAME: Final = "www.example.com"
_MAIL: Final = "admin@example.com"


def commands(endpoint: Endpoint, base: Bases) -> list[Command]:
    """A command for each of the usual clients."""
    url = f"{base.https}/acme/{endpoint.tenant}/{endpoint.ca}/{endpoint.profile}/directory"
    bound = options_of(endpoint).external_account == "required"
    return [Command(title, url, tuple(lines)) for title, lines in _all(url, bound)]


def _all(url: str, bound: bool) -> Iterator[tuple[str, list[str]]]:
    yield "Look at the directory", [f"curl --cacert {_ROOT} {url}"]
    binding = " --eab-kid KID --eab-hmac-key KEY" if bound else ""
    yield (
        "certbot",
        [
            f"export REQUESTS_CA_BUNDLE=$PWD/{_ROOT}",
            f"certbot certonly --standalone --server {url} --agree-tos --no-eff-email -m {_MAIL}{binding} -d {_NAME}",
        ],
    )
    binding = " --eab --kid KID --hmac KEY" if bound else ""
    yield (
        "lego",
        [
            f"export LEGO_CA_CERTIFICATES=$PWD/{_ROOT}",
            f"lego --server {url} --accept-tos --email {_MAIL}{binding} --http --domains {_NAME} run",
        ],
    )
    register = f"acme.sh --register-account --server {url} --ca-bundle {_ROOT} -m {_MAIL}"
    yield (
        "acme.sh",
        [
            register + (" --eab-kid KID --eab-hmac-key KEY" if bound else ""),
            f"acme.sh --issue --standalone --server {url} --ca-bundle {_ROOT} -d {_NAME}",
        ],
    )
    yield (
        "dehydrated",
        [
            f"export CURL_CA_BUNDLE=$PWD/{_ROOT}",
            f"printf '%s\\n' 'CA={url}' 'WELLKNOWN=/var/www/challenges' 'CONTACT_EMAIL={_MAIL}'"
            + (" 'EAB_KID=KID' 'EAB_HMAC_KEY=KEY'" if bound else "")
            + " > config",
            "dehydrated --config config --register --accept-terms",
            f"dehydrated --config config --cron --domain {_NAME}",
        ],
    )
    yield (
        "uacme (trusts the CA certificates of the system)",
        [
            f"uacme --acme-url {url} --confdir uacme --yes{' --eab KID:KEY' if bound else ''} new {_MAIL}",
            f"uacme --acme-url {url} --confdir uacme --hook /usr/share/uacme/uacme.sh issue {_NAME}",
        ],
    )
    yield "Caddy (Caddyfile)", list(_caddy(url, bound))
    yield "Apache httpd with mod_md", list(_apache(url, bound))
    yield "cert-manager (kubectl apply -f -)", list(_cert_manager(url, bound))
    yield (
        "win-acme",
        [
            f"wacs.exe --baseuri {url} --accepttos --emailaddress {_MAIL}"
            f"{' --eab-key-identifier KID --eab-key KEY' if bound else ''} --target manual --host {_NAME}"
        ],
    )


def _caddy(url: str, bound: bool) -> Iterator[str]:
    yield from ("{", f"    acme_ca {url}", f"    acme_ca_root {_ROOT}", f"    email {_MAIL}")
    if bound:
        yield from ("    acme_eab {", "        key_id KID", "        mac_key KEY", "    }")
    yield from ("}", f"{_NAME} {{", '    respond "hello"', "}")


def _apache(url: str, bound: bool) -> Iterator[str]:
    yield f"MDCertificateAuthority {url}"
    yield f"MDCACertificateFile {_ROOT}"
    yield "MDCertificateAgreement accepted"
    yield f"MDContactEmail {_MAIL}"
    if bound:
        yield "MDExternalAccountBinding KID KEY"
    yield f"MDomain {_NAME}"


def _cert_manager(url: str, bound: bool) -> Iterator[str]:
    yield from ("apiVersion: cert-manager.io/v1", "kind: ClusterIssuer", "metadata:", "  name: intaglio", "spec:")
    yield from ("  acme:", f"    server: {url}", f"    email: {_MAIL}")
    yield f"    caBundle: BASE64 # base64 -w0 {_ROOT}"
    yield from ("    privateKeySecretRef:", "      name: intaglio-account")
    if bound:
        yield from ("    externalAccountBinding:", "      keyID: KID", "      keySecretRef:")
        yield from ("        name: intaglio-eab", "        key: secret")
    yield from ("    solvers:", "      - http01:", "          ingress:", "            ingressClassName: nginx")
    yield from ("---", "apiVersion: cert-manager.io/v1", "kind: Certificate", "metadata:", "  name: www", "spec:")
    yield from ("  secretName: www-tls", f"  dnsNames: [{_NAME}]")
    yield from ("  issuerRef:", "    kind: ClusterIssuer", "    name: intaglio")
