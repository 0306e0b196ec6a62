"""Fetches revocation status from where certificates say it is: OCSP first, then CRLs. Sources: RFC 6960, RFC 5019."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace

import httpx
from cryptography import x509 as pyca
from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from intaglio.cli.commands import Cli
from intaglio.mtls.toolkit import verification
from intaglio.mtls.toolkit.verification import Question
from intaglio.x509.certificates import CertificateInfo

_TIMEOUT = httpx.Timeout(10.0)
_LARGEST = 32 << 20


def with_fetched_status(
    cli: Cli,
    leaf: CertificateInfo,
    others: Sequence[CertificateInfo],
    trusted: Sequence[CertificateInfo],
    asked: Question,
) -> Question:
    """The question with the status of every certificate of the chain that could be fetched; warns of the rest."""
    chain = verification.verify(leaf, others, trusted, replace(asked, require_status=False)).chain
    crls, answers = list(asked.crls), list(asked.ocsp)
    with httpx.Client(timeout=_TIMEOUT, follow_redirects=False) as http:
        for certificate, issuer in itertools.pairwise(chain):
            if answer := _ask(cli, http, certificate, issuer):
                answers.append(answer)
            elif crl := _fetch_first(cli, http, certificate.crl_urls):
                crls.append(crl)
    return replace(asked, crls=crls, ocsp=answers)


def _ask(cli: Cli, http: httpx.Client, certificate: CertificateInfo, issuer: CertificateInfo) -> bytes | None:
    # SHA-1 only names the issuer here, and many responders know no other name.
    request = ocsp.OCSPRequestBuilder().add_certificate(
        pyca.load_der_x509_certificate(certificate.der),
        pyca.load_der_x509_certificate(issuer.der),
        SHA1(),  # noqa: S303
    )
    body = request.build().public_bytes(Encoding.DER)
    for url in certificate.ocsp_urls[:3]:
        content = _get(cli, http, url, body)
        if content is not None and _is_answer(content):
            return content
    return None


def _is_answer(content: bytes) -> bool:
    try:
        return ocsp.load_der_ocsp_response(content).response_status is ocsp.OCSPResponseStatus.SUCCESSFUL
    except ValueError:
        return False


def _fetch_first(cli: Cli, http: httpx.Client, urls: Sequence[str]) -> bytes | None:
    return next((found for url in urls[:3] if (found := _get(cli, http, url)) is not None), None)


def _get(cli: Cli, http: httpx.Client, url: str, body: bytes | None = None) -> bytes | None:
    if not url.startswith("http://"):  # status over https would need the status of that server first
        cli.out.warning(f"{url} was not asked: status is fetched over plain http, it is signed.")
        return None
    headers = {"content-type": "application/ocsp-request"} if body is not None else {}
    try:
        with http.stream("GET" if body is None else "POST", url, content=body, headers=headers) as response:
            content = b""
            for chunk in response.iter_bytes():
                content += chunk
                if len(content) > _LARGEST:
                    cli.out.warning(f"{url} answers with more than {_LARGEST >> 20} MiB.")
                    return None
            if response.status_code != 200:
                cli.out.warning(f"{url} answers {response.status_code}.")
                return None
            return content
    except httpx.HTTPError as error:
        cli.out.warning(f"{url} cannot be reached: {error}.")
        return None
