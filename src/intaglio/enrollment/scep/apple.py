"""Configuration profiles by which Apple devices get a certificate over SCEP.

Source: Apple, Device Management, payload types ``com.apple.security.scep``, ``com.apple.security.root`` and
``com.apple.security.pkcs1``.
"""

from __future__ import annotations

import plistlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal
from uuid import NAMESPACE_URL, uuid5

from intaglio.x509.certificates import CertificateInfo
from intaglio.x509.names import Name

AppleNameType = Literal["dNSName", "rfc822Name", "uniformResourceIdentifier", "ntPrincipalName"]

#: Types of names that Apple writes as words; all others are dotted.
_WORDS: Final = {
    "2.5.4.3": "CN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
}
_SIGNING, _ENCRYPTION = 1, 4
_USAGES: Final = {"digitalSignature": _SIGNING, "nonRepudiation": _SIGNING, "keyEncipherment": _ENCRYPTION}


def configuration_profile(
    url: str,
    chain: Sequence[CertificateInfo],
    subject: Name,
    *,
    sans: Mapping[AppleNameType, Sequence[str]] | None = None,
    key_usage: Sequence[str] = ("digitalSignature", "keyEncipherment"),
    key_bits: int = 2048,
    challenge: str | None = None,
) -> bytes:
    """A ``.mobileconfig`` (XML property list): the CA certificates of ``chain``, and the request for a certificate.

    ``url`` is that of the endpoint; ``chain`` is its CA and the issuers of that, root last. Values of ``subject`` and
    ``sans`` may have variables of the management software in them, such as ``%SerialNumber%``. Without ``challenge``
    the person at the device is asked for it. The same arguments make the same identifiers, so that a profile that is
    installed again replaces itself.
    """
    content: dict[str, Any] = {
        "URL": url,
        "Name": chain[0].subject.rfc4514,
        "Subject": [[[_WORDS.get(each.oid, each.oid), each.value] for each in rdn] for rdn in subject.attributes],
        "Key Type": "RSA",
        "Keysize": key_bits,
        "Key Usage": sum({_USAGES[usage] for usage in key_usage if usage in _USAGES}),
        "KeyIsExtractable": False,
        "Retries": 10,
        "RetryDelay": 10,
    }
    if challenge is not None:
        content["Challenge"] = challenge
    if sans:
        content["SubjectAltName"] = {kind: list(values) for kind, values in sans.items()}
    payloads = [_authority(url, each, is_root=each is chain[-1]) for each in reversed(chain)]
    title = f"Certificate of {chain[0].subject.rfc4514}"
    payloads.append(_payload(url, "scep", "com.apple.security.scep", title, content))
    whole = _payload(url, "profile", "Configuration", title, payloads)
    return plistlib.dumps({**whole, "PayloadDescription": "Gets a certificate and trusts its issuer."})


def _authority(url: str, certificate: CertificateInfo, *, is_root: bool) -> dict[str, Any]:
    kind = "com.apple.security.root" if is_root else "com.apple.security.pkcs1"
    part = f"ca-{certificate.fingerprint.hex()[:16]}"
    return _payload(url, part, kind, certificate.subject.rfc4514, certificate.der)


def _payload(url: str, part: str, kind: str, title: str, content: Any) -> dict[str, Any]:
    identifier = str(uuid5(NAMESPACE_URL, f"{url}#{part}")).upper()
    return {
        "PayloadType": kind,
        "PayloadVersion": 1,
        "PayloadIdentifier": f"intaglio.scep.{identifier}",
        "PayloadUUID": identifier,
        "PayloadDisplayName": title,
        "PayloadContent": content,
    }
