"""OpenSSL's names of what is wrong with a certificate chain (``X509_V_ERR_*`` of ``openssl/x509_vfy.h``)."""

from __future__ import annotations

_NAMES = {
    1: "UNSPECIFIED",
    2: "UNABLE_TO_GET_ISSUER_CERT",
    4: "UNABLE_TO_DECRYPT_CERT_SIGNATURE",
    6: "UNABLE_TO_DECODE_ISSUER_PUBLIC_KEY",
    7: "CERT_SIGNATURE_FAILURE",
    9: "CERT_NOT_YET_VALID",
    10: "CERT_HAS_EXPIRED",
    13: "ERROR_IN_CERT_NOT_BEFORE_FIELD",
    14: "ERROR_IN_CERT_NOT_AFTER_FIELD",
    18: "DEPTH_ZERO_SELF_SIGNED_CERT",
    19: "SELF_SIGNED_CERT_IN_CHAIN",
    20: "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
    21: "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
    22: "CERT_CHAIN_TOO_LONG",
    23: "CERT_REVOKED",
    24: "NO_ISSUER_PUBLIC_KEY",
    25: "PATH_LENGTH_EXCEEDED",
    26: "INVALID_PURPOSE",
    27: "CERT_UNTRUSTED",
    28: "CERT_REJECTED",
    29: "SUBJECT_ISSUER_MISMATCH",
    30: "AKID_SKID_MISMATCH",
    31: "AKID_ISSUER_SERIAL_MISMATCH",
    32: "KEYUSAGE_NO_CERTSIGN",
    34: "UNHANDLED_CRITICAL_EXTENSION",
    41: "INVALID_EXTENSION",
    47: "PERMITTED_VIOLATION",
    48: "EXCLUDED_VIOLATION",
    66: "EE_KEY_TOO_SMALL",
    67: "CA_KEY_TOO_SMALL",
    68: "CA_MD_TOO_WEAK",
    76: "UNSUPPORTED_SIGNATURE_ALGORITHM",
    77: "SIGNATURE_ALGORITHM_MISMATCH",
    78: "SIGNATURE_ALGORITHM_INCONSISTENCY",
    79: "INVALID_CA",
    94: "EC_KEY_EXPLICIT_PARAMS",
}

#: No trusted authority vouches for the certificate: whatever else is wrong with it does not matter.
SEVERE = frozenset({2, 4, 6, 7, 18, 19, 20, 21, 24, 27, 28, 79})


def error_name(number: int) -> str:
    """The name without its prefix; ``ERROR_<number>`` for one that has none here."""
    return _NAMES.get(number, f"ERROR_{number}")
