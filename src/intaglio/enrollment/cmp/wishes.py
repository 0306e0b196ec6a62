"""What a request asks for: from ir, cr, kur and p10cr to one and the same value. Source: RFC 9483 section 4.1."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from intaglio.asn1 import der
from intaglio.asn1.cmp import Body, Failure
from intaglio.asn1.crmf import OLD_CERTIFICATE_ID, CertRequestMessage, read_cert_id, read_cert_req_messages
from intaglio.authority.certificates import StoredCertificate
from intaglio.enrollment.cmp.errors import CmpRefusal
from intaglio.enrollment.cmp.exchange import Exchange
from intaglio.enrollment.cmp.ownership import owned_certificate
from intaglio.enrollment.cmp.proofs import EMPTY_NAME, Proof, check_proof
from intaglio.enrollment.cmp.strength import check_key
from intaglio.enrollment.pipeline import require_own_identifier
from intaglio.profiles.engine import RequestedValidity
from intaglio.x509.certificates import read_certificate
from intaglio.x509.extensions import SUBJECT_ALT_NAME, Extension, read_extensions
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import parse_request

#: The certReqId of a PKCS #10 request, which has none (RFC 9483 section 4.1.4).
NO_REQUEST_ID = -1


@dataclass(frozen=True)
class Names:
    """Subject and alternative names."""

    subject: Name
    san: GeneralNames | None


@dataclass(frozen=True)
class Wish:
    """A request. ``spki`` None: a key is to be made here. ``fixed`` are the names that it gets whatever it ``asked``
    for; None leaves that to the request. ``previous`` is the certificate that it updates."""

    request_id: int
    asked: Names
    spki: bytes | None = field(default=None, repr=False)
    extensions: tuple[Extension, ...] = ()
    validity: RequestedValidity | None = None
    proof: Proof = Proof.SHOWN
    fixed: Names | None = None
    previous: StoredCertificate | None = None


def only_request(exchange: Exchange) -> CertRequestMessage | None:
    """The request in a message; None for one of PKCS #10, which is the message.

    Raises InvalidInput (``invalid-der``), CmpRefusal (badRequest) for several.
    """
    return None if exchange.message.body is Body.P10CR else _only(exchange)


async def read_wish(exchange: Exchange, request: CertRequestMessage | None) -> Wish:
    """What a request asks for, its key and its proof of possession checked.

    Raises CmpRefusal, InvalidInput, Refused (``name-not-allowed``).
    """
    if request is None:
        return _named(exchange, _read_pkcs10(exchange))
    _check_template(exchange, request)
    wish = _read_request(exchange, request)
    if exchange.message.body is Body.KUR:
        return await _updating(exchange, request, wish)
    return _named(exchange, wish)


def _only(exchange: Exchange) -> CertRequestMessage:
    requests = read_cert_req_messages(exchange.message.content)
    if len(requests) != 1:
        raise CmpRefusal(
            Failure.BAD_REQUEST, "One message asks for one certificate.", remedy="Send a message for each of them."
        )
    return requests[0]


def _read_pkcs10(exchange: Exchange) -> Wish:
    request = parse_request(exchange.message.content)
    check_key(exchange.options, request.spki)
    return Wish(NO_REQUEST_ID, Names(request.subject, request.san), request.spki, _others(request.extensions))


def _read_request(exchange: Exchange, request: CertRequestMessage) -> Wish:
    template = request.template
    extensions = () if template.extensions is None else read_extensions(_inside(template.extensions))
    san = next((GeneralNames.from_der(each.value) for each in extensions if each.oid == SUBJECT_ALT_NAME), None)
    asked = Names(Name.from_der(template.subject or EMPTY_NAME), san)
    not_after = None if template.validity is None else template.validity[1]
    validity = None if not_after is None else RequestedValidity(not_after=not_after)
    if _wants_key(template.public_key):
        if not exchange.options.central_keys:
            raise CmpRefusal(
                Failure.BAD_CERT_TEMPLATE, "The request brings no key.", remedy="Put the public key into the template."
            )
        return Wish(request.request_id, asked, None, _others(extensions), validity)
    assert template.public_key is not None
    key, _ = check_key(exchange.options, template.public_key)
    proof = check_proof(exchange, request, key)
    return Wish(request.request_id, asked, template.public_key, _others(extensions), validity, proof)


def _inside(content: bytes) -> bytes:
    """What stands inside Extensions; some clients tag the SEQUENCE itself and not, as they should, replace its tag."""
    elements = der.children(content, 64)
    if len(elements) == 1 and elements[0].content[:1] == bytes((der.SEQUENCE,)):
        return elements[0].content
    return content


def _wants_key(spki: bytes | None) -> bool:
    """Whether a template leaves the key to us: none, or an algorithm with an empty key (RFC 9483 section 4.1.6)."""
    if spki is None:
        return True
    reader = der.Reader(spki).enter()
    reader.read(der.SEQUENCE)
    return len(reader.read(der.BIT_STRING).content) <= 1


def _check_template(exchange: Exchange, request: CertRequestMessage) -> None:
    template = request.template
    if template.unassigned or template.serial is not None:
        raise CmpRefusal(
            Failure.BAD_CERT_TEMPLATE,
            "The template sets fields that only the CA may choose (serialNumber, signingAlg, unique identifiers).",
        )
    if template.issuer is None or template.issuer == EMPTY_NAME:
        return
    # OpenSSL's client names the issuer of the certificate that protects the message unless it is told another.
    certificate = exchange.sender.certificate
    wanted = {exchange.ca.certificate.subject.key, *(() if certificate is None else (certificate.issuer.key,))}
    if Name.from_der(template.issuer).key not in wanted:
        raise CmpRefusal(Failure.BAD_CERT_TEMPLATE, "The template names another issuer than the CA of this endpoint.")


async def _updating(exchange: Exchange, request: CertRequestMessage, wish: Wish) -> Wish:
    """A key update: the names are those of the certificate that is updated."""
    control = request.control(OLD_CERTIFICATE_ID)
    if control is not None:
        old = read_cert_id(control)
        previous = await owned_certificate(exchange, old.issuer, old.serial)
    elif exchange.sender.stored is not None and not exchange.acts_for_others:
        previous = exchange.sender.stored
    else:
        raise CmpRefusal(
            Failure.BAD_CERT_ID, "The update does not say of which certificate.", remedy="Send the control oldCertID."
        )
    if previous.status != "valid":
        raise CmpRefusal(Failure.CERT_REVOKED, f"The certificate to be updated is {previous.status}.")
    if previous.profile != exchange.endpoint.profile:
        raise CmpRefusal(
            Failure.BAD_CERT_TEMPLATE,
            f'A certificate of the profile "{previous.profile}" is not updated at this endpoint.',
            remedy="Ask at the endpoint of its profile, or for a further certificate (cr).",
        )
    info = read_certificate(previous.der)
    return replace(wish, fixed=Names(info.subject, info.san), previous=previous)


def _named(exchange: Exchange, wish: Wish) -> Wish:
    """Who may be named how: the credential says it, or the certificate, or nobody."""
    sender = exchange.sender
    if exchange.acts_for_others:
        return wish
    if sender.secret is not None:
        bound = sender.secret.bound
        if wish.asked.subject.is_empty and bound.subject is not None:
            wish = replace(wish, fixed=Names(Name.parse(bound.subject), wish.asked.san))
        bound.require((wish.fixed or wish.asked).subject, wish.asked.san, wish.extensions)
        return wish
    if not sender.may_enrol:
        raise CmpRefusal(
            Failure.NOT_AUTHORIZED,
            "The certificate that protects the message is of another profile than this endpoint offers.",
            remedy="Use one of the profile of the endpoint; or have the CA listed among those that it trusts.",
        )
    if sender.certificate is not None and exchange.options.names == "certificate":
        require_own_identifier(sender.certificate, wish.extensions)
        return replace(wish, fixed=Names(sender.certificate.subject, sender.certificate.san))
    return wish


def _others(extensions: tuple[Extension, ...]) -> tuple[Extension, ...]:
    return tuple(each for each in extensions if each.oid != SUBJECT_ALT_NAME)
