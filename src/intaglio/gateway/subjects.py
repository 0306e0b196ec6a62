"""Names in an enrolment: subject and subject alternative names out of the request, its variables and the CSR."""

from __future__ import annotations

from collections.abc import Sequence

from intaglio.core.errors import InvalidInput
from intaglio.gateway.schemas import EnrollmentRequest, SubjectAltName, decode_base64
from intaglio.profiles.engine import check_variables
from intaglio.profiles.model import CertificateProfile
from intaglio.x509.general_names import GeneralNames
from intaglio.x509.names import Name
from intaglio.x509.requests import CertificateRequest


def subject_of(profile: CertificateProfile, request: EnrollmentRequest, csr: CertificateRequest | None) -> Name:
    """The subject: the full name asked for, else what the profile's builder makes of variables, CSR and names.

    Raises InvalidInput (``subject-variable-required``, ``invalid-name``, ``subject-template-unresolved``,
    ``subject-names-ambiguous``).
    """
    details = request.optionalCertificateRequestDetails
    variables = [(variable.type, variable.value) for variable in request.subjectVariables]
    check_variables(profile, variables)
    if details.subjectDn is not None:
        return read_name(details.subjectDn, target="/optionalCertificateRequestDetails/subjectDn")
    builder = profile.subject_builder
    names: list[GeneralNames | None] = []
    if builder.name == "san":
        # The names of the request win over those of the CSR here, also when both go into the certificate.
        names.append(alternative_names_of(request.subjectAltNames, None, None))
        names.append(csr.san if csr is not None and details.useSANFromCSR is not False else None)
    try:
        return builder.subject(variables, None if csr is None else csr.subject, names)
    except InvalidInput as error:
        raise _at(error, "/subjectAltNames" if error.target == "subjectAltNames" else "/subjectVariables") from None


def read_name(text: str, *, target: str) -> Name:
    """A distinguished name in RFC 4514, RFC 2253 or slash form. Raises InvalidInput naming ``target``."""
    try:
        return Name.parse(text)
    except InvalidInput as error:
        raise _at(error, target) from None


def alternative_names_of(
    requested: Sequence[SubjectAltName], csr: CertificateRequest | None, use_csr: bool | None
) -> GeneralNames | None:
    """The names of the request, which win over those of the CSR.

    ``use_csr`` is the caller's switch: True adds the names of the CSR to those of the request, False leaves them out,
    None takes them only when the request brings none itself. Names of the CSR stay byte for byte. Raises InvalidInput
    (``invalid-general-name``).
    """
    from_csr = csr.san if csr is not None and use_csr is not False else None
    if not requested:
        return from_csr
    names = [_encoded(entry, index) for index, entry in enumerate(requested)]
    if use_csr and from_csr is not None:
        present = {entry.der for entry in from_csr.entries}
        names = [(e.type, e.der) for e in from_csr.entries] + [pair for pair in names if pair[1] not in present]
    return GeneralNames.build(dict.fromkeys(names))


def _encoded(entry: SubjectAltName, index: int) -> tuple[str, bytes]:
    """(type, DER) of one requested name, each checked on its own so that a refusal points at it."""
    target = f"/subjectAltNames/{index}"
    try:
        value = entry.value if entry.der is None else decode_base64(entry.der)
    except ValueError:
        raise _not_a_name("its der is not base64.", target) from None
    if value is None or (entry.der is not None and entry.value is not None):
        raise _not_a_name("it needs either a value or a der.", target)
    try:
        built = GeneralNames.build([(entry.type, value)]).entries[0]
    except InvalidInput as error:
        raise _at(error, target) from None
    return built.type, built.der


def _not_a_name(why: str, target: str) -> InvalidInput:
    return InvalidInput(
        f"A subject alternative name cannot be used: {why}",
        code="invalid-general-name",
        remedy='Write {"type":"dNSName","value":"www.example.com"}, or the base64 DER of the GeneralName as der.',
        target=target,
        extra={"step": "san"},
    )


def _at(error: InvalidInput, target: str) -> InvalidInput:
    step = "subject" if "AltName" not in target or error.code.startswith("subject-") else "san"
    return InvalidInput(error.detail, code=error.code, remedy=error.remedy, target=target, extra={"step": step})
