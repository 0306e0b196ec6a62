"""The certificate request of an order: it names exactly what was ordered, and its key is nobody's account key.

Sources: RFC 8555 sections 7.4 and 11.1.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import Any, Final

from intaglio.asn1.algorithms import KeyAlgorithm
from intaglio.core.errors import InvalidInput
from intaglio.enrollment.acme.call import Call
from intaglio.enrollment.acme.errors import BadCsr, Malformed
from intaglio.enrollment.acme.identifiers import Identifier
from intaglio.enrollment.acme.jwk import jwk_of
from intaglio.enrollment.acme.options import AcmeOptions
from intaglio.enrollment.acme.statements import KEY_HOLDER
from intaglio.enrollment.acme.strict_json import decode_base64url
from intaglio.profiles.subject_builders import SubjectBuilder
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import EMPTY_NAME, Name
from intaglio.x509.requests import CertificateRequest, parse_request

_LONGEST_COMMON_NAME: Final = 64  # RFC 5280 appendix A.1, ub-common-name
#: What certificates of TLS servers are made for; everything else is refused.
_KEYS: Final = frozenset(
    {
        *(KeyAlgorithm.RSA_2048, KeyAlgorithm.RSA_3072, KeyAlgorithm.RSA_4096),
        *(KeyAlgorithm.ECDSA_P256, KeyAlgorithm.ECDSA_P384, KeyAlgorithm.ECDSA_P521),
    }
)


def read_csr(wish: Mapping[str, Any]) -> CertificateRequest:
    """The request in the payload of a finalization. Raises Malformed, BadCsr."""
    value = wish.get("csr")
    if not isinstance(value, str):
        raise Malformed('A finalization has a string "csr".')
    try:
        request = parse_request(decode_base64url(value, "The csr"))
    except Malformed:
        raise
    except InvalidInput as error:
        raise BadCsr(error.detail, remedy=error.remedy) from None
    if request.key_algorithm not in _KEYS:
        raise BadCsr(
            f"A key of the type {request.key_algorithm} is not certified here.",
            remedy="Use RSA with 2048, 3072 or 4096 bits, or P-256, P-384 or P-521.",
        )
    return request


def check_names(request: CertificateRequest, ordered: Sequence[Identifier]) -> None:
    """Raise BadCsr unless the request asks for the ordered names, all of them and no other."""
    asked = names_in(request)
    common_name = common_name_of(request)
    named = set(ordered)
    if common_name is not None and not (common_name.isascii() and _is_among(common_name, named)):
        raise BadCsr(f'The common name "{common_name[:80]}" was not ordered.')
    if common_name is not None and not asked:
        asked = {each for each in named if each.value == common_name.lower()}
    if asked == named:
        return
    missing, more = sorted(named - asked), sorted(asked - named)
    parts = [f"it lacks {_list(missing)}"] if missing else []
    parts += [f"{_list(more)} {'was' if len(more) == 1 else 'were'} not ordered"] if more else []
    raise BadCsr(f"The names of the request are not those of the order: {'; '.join(parts)}.")


def names_in(request: CertificateRequest) -> set[Identifier]:
    """The alternative names of a request. Raises BadCsr for names that no order has."""
    found: set[Identifier] = set()
    for entry in () if request.san is None else request.san.entries:
        if entry.type == "dNSName":
            found.add(Identifier("dns", entry.text.lower()))
        elif entry.type == "iPAddress":
            try:
                found.add(Identifier("ip", str(ipaddress.ip_address(entry.text))))
            except ValueError:
                raise BadCsr(f'"{entry.text[:80]}" is not an IP address.') from None
        else:
            raise BadCsr(f"A name of the type {entry.type} cannot be ordered.", remedy="Leave it out.")
    return found


def common_name_of(request: CertificateRequest) -> str | None:
    """The only common name of the subject. Raises BadCsr when there are several."""
    values = request.subject.common_names
    if len(values) > 1:
        raise BadCsr("The subject has several common names.", remedy="Send one, or none.")
    return values[0] if values else None


def subject_for(
    request: CertificateRequest, ordered: Sequence[Identifier], options: AcmeOptions, builder: SubjectBuilder
) -> str:
    """The subject of the certificate (RFC 4514), from a common name alone, for nothing else was proven.

    A request without one gets its first name as such, if that is short enough and the endpoint wants a subject. What
    is made of the common name is the builder's of the profile. Raises InvalidInput.
    """
    common_name = common_name_of(request)
    if common_name is None and options.subject == "first-name":
        common_name = next((each.value for each in ordered if len(each.value) <= _LONGEST_COMMON_NAME), None)
    proven = EMPTY_NAME if common_name is None else Name.build([("CN", common_name)])
    names = GeneralNames.build([(each.kind, each.value) for each in ordered])
    return builder.subject((), proven, [names]).rfc4514


async def require_other_key(call: Call, request: CertificateRequest) -> None:
    """Raise BadCsr when the key of the request is that of an account."""
    jwk = jwk_of(request.public_key)
    if jwk is None:
        return
    if await call.acme.statements.one(KEY_HOLDER, call.endpoint.id, jwk.thumbprint) is not None:
        raise BadCsr("The key of the request is the key of an account.", remedy="Make another key for the certificate.")


def _is_among(common_name: str, named: set[Identifier]) -> bool:
    return any(each.value == common_name.lower() for each in named)


def _list(names: Sequence[Identifier]) -> str:
    shown = ", ".join(each.value for each in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
