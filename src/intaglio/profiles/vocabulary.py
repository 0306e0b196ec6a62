"""The words of a profile declaration: names of key usages, purposes and extensions, and the sets built from them.

Everything here is data. A declaration may write a name or, for purposes and extensions, a dotted object identifier.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from intaglio.core.errors import InvalidInput
from intaglio.x509 import extensions as x509
from intaglio.x509.general_names import canonical_type

_DOTTED = re.compile(r"[0-2](\.(0|[1-9][0-9]{0,18})){1,31}")

_KEY_USAGE_ALIASES: Final = {
    **{name.lower(): name for name in x509.KEY_USAGE_BITS},
    "contentcommitment": "nonRepudiation",
}

#: The arc of the purposes of RFC 5280 section 4.2.1.12 and its successors.
ID_KP: Final = "1.3.6.1.5.5.7.3."

PURPOSES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "serverAuth": x509.SERVER_AUTH,
        "clientAuth": x509.CLIENT_AUTH,
        "codeSigning": x509.CODE_SIGNING,
        "emailProtection": x509.EMAIL_PROTECTION,
        "ipsecEndSystem": "1.3.6.1.5.5.7.3.5",
        "ipsecTunnel": "1.3.6.1.5.5.7.3.6",
        "ipsecUser": "1.3.6.1.5.5.7.3.7",
        "timeStamping": x509.TIME_STAMPING,
        "OCSPSigning": x509.OCSP_SIGNING,
        "eapOverPPP": "1.3.6.1.5.5.7.3.13",
        "eapOverLAN": "1.3.6.1.5.5.7.3.14",
        "ipsecIKE": "1.3.6.1.5.5.7.3.17",
        "sshClient": "1.3.6.1.5.5.7.3.21",
        "sshServer": "1.3.6.1.5.5.7.3.22",
        "cmcRA": "1.3.6.1.5.5.7.3.28",
        "cmKGA": "1.3.6.1.5.5.7.3.32",
        "bundleSecurity": "1.3.6.1.5.5.7.3.35",
        "documentSigning": "1.3.6.1.5.5.7.3.36",
        "anyExtendedKeyUsage": x509.ANY_EXTENDED_KEY_USAGE,
        "pkinitClient": "1.3.6.1.5.2.3.4",
        "pkinitKdc": "1.3.6.1.5.2.3.5",
        "smartcardLogon": "1.3.6.1.4.1.311.20.2.2",
        "certificateRequestAgent": "1.3.6.1.4.1.311.20.2.1",
        "encryptingFileSystem": "1.3.6.1.4.1.311.10.3.4",
        "fileRecovery": "1.3.6.1.4.1.311.10.3.4.1",
        "certificateTrustListSigning": "1.3.6.1.4.1.311.10.3.1",
        "microsoftTimeStamping": "1.3.6.1.4.1.311.10.3.2",
        "qualifiedSubordination": "1.3.6.1.4.1.311.10.3.10",
        "keyRecovery": "1.3.6.1.4.1.311.10.3.11",
        "microsoftDocumentSigning": "1.3.6.1.4.1.311.10.3.12",
        "caExchange": "1.3.6.1.4.1.311.21.5",
        "keyRecoveryAgent": "1.3.6.1.4.1.311.21.6",
        "kernelModeCodeSigning": "1.3.6.1.4.1.311.61.1.1",
        "pivCardAuth": "2.16.840.1.101.3.6.8",
        "pivContentSigning": "2.16.840.1.101.3.6.7",
    }
)
_PURPOSE_ALIASES: Final = {name.lower(): oid for name, oid in PURPOSES.items()}
_PURPOSE_NAMES: Final = {oid: name for name, oid in PURPOSES.items()}

#: Purposes that nobody obtains by merely asking: they let the holder speak for others (enrol or log on as another
#: user, act as a domain controller, recover other people's keys, sign programs or time). A custom profile may open
#: them one by one in ``eku_allow``; OCSP signing is never opened, because it lets the holder answer for the CA itself.
DANGEROUS_PURPOSES: Final = frozenset(
    PURPOSES[name]
    for name in (
        "OCSPSigning",
        "codeSigning",
        "timeStamping",
        "anyExtendedKeyUsage",
        "cmcRA",
        "cmKGA",
        "pkinitClient",
        "pkinitKdc",
        "smartcardLogon",
        "certificateRequestAgent",
        "fileRecovery",
        "certificateTrustListSigning",
        "microsoftTimeStamping",
        "qualifiedSubordination",
        "keyRecovery",
        "caExchange",
        "keyRecoveryAgent",
        "kernelModeCodeSigning",
    )
)

PRIVATE_KEY_USAGE_PERIOD: Final = "2.5.29.16"

EXTENSIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "subjectKeyIdentifier": x509.SUBJECT_KEY_IDENTIFIER,
        "keyUsage": x509.KEY_USAGE,
        "privateKeyUsagePeriod": PRIVATE_KEY_USAGE_PERIOD,
        "subjectAltName": x509.SUBJECT_ALT_NAME,
        "basicConstraints": x509.BASIC_CONSTRAINTS,
        "cRLDistributionPoints": x509.CRL_DISTRIBUTION_POINTS,
        "certificatePolicies": x509.CERTIFICATE_POLICIES,
        "authorityKeyIdentifier": x509.AUTHORITY_KEY_IDENTIFIER,
        "extendedKeyUsage": x509.EXTENDED_KEY_USAGE,
        "freshestCRL": x509.FRESHEST_CRL,
        "authorityInfoAccess": x509.AUTHORITY_INFORMATION_ACCESS,
        "ocspNoCheck": x509.OCSP_NO_CHECK,
        "tlsFeature": x509.TLS_FEATURE,
        "qcStatements": "1.3.6.1.5.5.7.1.3",
        "applicationPolicies": x509.MS_APPLICATION_POLICIES,
        "smimeCapabilities": x509.SMIME_CAPABILITIES,
        "certificateTemplate": x509.MS_TEMPLATE,
        "certificateTemplateName": x509.MS_TEMPLATE_NAME,
        "securityIdentifier": x509.MS_NTDS_CA_SECURITY,
        "pivInterim": x509.PIV_INTERIM,
        "issuerAltName": x509.ISSUER_ALT_NAME,
        "cRLNumber": x509.CRL_NUMBER,
        "cRLReason": x509.REASON_CODE,
        "invalidityDate": x509.INVALIDITY_DATE,
        "deltaCRLIndicator": x509.DELTA_CRL_INDICATOR,
        "issuingDistributionPoint": x509.ISSUING_DISTRIBUTION_POINT,
        "certificateIssuer": x509.CERTIFICATE_ISSUER,
        "nameConstraints": x509.NAME_CONSTRAINTS,
        "policyMappings": "2.5.29.33",
        "policyConstraints": "2.5.29.36",
        "inhibitAnyPolicy": "2.5.29.54",
        "signedCertificateTimestampList": "1.3.6.1.4.1.11129.2.4.2",
        "precertificatePoison": "1.3.6.1.4.1.11129.2.4.3",
        "netscapeCertType": "2.16.840.1.113730.1.1",
        "netscapeRevocationUrl": "2.16.840.1.113730.1.3",
        "netscapeComment": "2.16.840.1.113730.1.13",
        "entrustVersInfo": "1.2.840.113533.7.65.0",
    }
)
_EXTENSION_ALIASES: Final = {name.lower(): oid for name, oid in EXTENSIONS.items()}
_EXTENSION_NAMES: Final = {oid: name for name, oid in EXTENSIONS.items()}

#: What only the authority writes. In a certificate request such an extension is ignored, with a warning; asked for
#: explicitly it is forbidden, whatever the role.
AUTHORITY_EXTENSIONS: Final = frozenset(
    EXTENSIONS[name]
    for name in (
        "authorityKeyIdentifier",
        "basicConstraints",
        "cRLDistributionPoints",
        "cRLNumber",
        "entrustVersInfo",
        "invalidityDate",
        "issuingDistributionPoint",
        "netscapeRevocationUrl",
        "cRLReason",
        "subjectKeyIdentifier",
    )
)

#: What certificates of registered identities say about their holder, an extension of our own: a UUID in parts, in the
#: arc that Microsoft gives to everybody for that. Programs written in Go refuse a certificate with an arc above 31
#: bits, whatever the extension says, so 2.25 (ITU-T X.667) would shut them out.
IDENTITY_ATTRIBUTES: Final = "1.2.840.113556.1.8000.2554.28637.21757.42742.18528.40124.15846791.13784404"

#: Never to be let through from a request, not even by a custom profile: they would contradict what the engine writes,
#: change how a CA certificate is read, make somebody an identity who is none, or belong to CRLs.
UNREQUESTABLE_EXTENSIONS: Final = AUTHORITY_EXTENSIONS | {IDENTITY_ATTRIBUTES} | {
    EXTENSIONS[name]
    for name in (
        "keyUsage",
        "subjectAltName",
        "freshestCRL",
        "authorityInfoAccess",
        "ocspNoCheck",
        "deltaCRLIndicator",
        "certificateIssuer",
        "nameConstraints",
        "policyMappings",
        "policyConstraints",
        "inhibitAnyPolicy",
        "signedCertificateTimestampList",
        "precertificatePoison",
    )
}

_MICROSOFT_SET: Final = (
    "certificatePolicies",
    "applicationPolicies",
    "smimeCapabilities",
    "certificateTemplate",
    "certificateTemplateName",
    "securityIdentifier",
)
#: Named sets of extensions a request may bring.
REQUEST_EXTENSION_SETS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "R7": (*_MICROSOFT_SET, "extendedKeyUsage"),
        "R6": _MICROSOFT_SET,
        "R2": ("applicationPolicies", "certificatePolicies"),
        "R1": ("certificatePolicies",),
        "RP": ("pivInterim", "securityIdentifier"),
        "R0": (),
    }
)


def key_usage(text: str) -> str:
    """The canonical key usage name, or ValueError."""
    try:
        return _KEY_USAGE_ALIASES[text.lower()]
    except KeyError:
        raise ValueError(f'"{text}" is not a key usage; known are {", ".join(x509.KEY_USAGE_BITS)}') from None


def purpose_oid(text: str) -> str:
    """The dotted OID of an extended key usage given by name or OID, or ValueError."""
    return _oid(text, _PURPOSE_ALIASES, "an extended key usage")


def purpose_name(oid: str) -> str:
    """The name of an extended key usage, or its dotted OID when it has none here."""
    return _PURPOSE_NAMES.get(oid, oid)


def extension_oid(text: str) -> str:
    """The dotted OID of an extension given by name or OID, or ValueError."""
    return _oid(text, _EXTENSION_ALIASES, "an extension")


def extension_name(oid: str) -> str:
    """The name of an extension, or its dotted OID when it has none here."""
    return _EXTENSION_NAMES.get(oid, oid)


def policy_oid(text: str) -> str:
    """A dotted certificate policy OID, or ValueError."""
    return _oid(text, {}, "a certificate policy")


def general_name_type(text: str) -> str:
    """The canonical general name type, or ValueError."""
    try:
        return canonical_type(text)
    except InvalidInput as error:
        raise ValueError(str(error)) from None


def _oid(text: str, aliases: Mapping[str, str], kind: str) -> str:
    if oid := aliases.get(text.lower()):
        return oid
    if not _DOTTED.fullmatch(text) or (text[0] in "01" and int(text.split(".")[1]) > 39):
        raise ValueError(f'"{text}" is neither the name nor the object identifier of {kind}')
    return text
