"""Which member of a request body a refusal of the floors below speaks of, as a JSON pointer (RFC 6901)."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Final

from intaglio.core.errors import IntaglioError
from intaglio.gateway.schemas import EnrollmentRequest

DETAILS: Final = "/optionalCertificateRequestDetails"
OF_RENEWALS: Final[Mapping[str, str]] = {"validityPeriod": "/action/validityPeriod", "csr": "/action/csr"}


@contextlib.contextmanager
def pointing(members: Mapping[str, str]) -> Iterator[None]:
    """Replace the target of a refusal by its pointer in ``members``; others stay."""
    try:
        yield
    except IntaglioError as error:
        if error.target is not None:
            error.target = members.get(error.target, error.target)
        raise


def of_enrollment(request: EnrollmentRequest) -> Mapping[str, str]:
    """Targets of the profile engine -> pointers into an enrolment; what only the CSR says is said to be there."""
    details = request.optionalCertificateRequestDetails
    alone = request.csr is not None
    subject = "/subjectVariables" if request.subjectVariables else f"{DETAILS}/subjectDn"
    return {
        "csr": f"{DETAILS}/encodedPublicKey" if details.encodedPublicKey else "/csr",
        "extensions": "/csr" if alone and not details.extensions else f"{DETAILS}/extensions",
        "keyUsage": "/csr" if alone and details.keyUsage is None else f"{DETAILS}/keyUsage",
        "privateKeyUsagePercentage": f"{DETAILS}/privateKeyUsagePercentage",
        "profileId": "/profileId",
        "requiredFormat": "/requiredFormat/format",
        "subject": "/csr" if alone and not details.subjectDn and not request.subjectVariables else subject,
        "subjectAltNames": "/subjectAltNames",
        "subjectVariables": "/subjectVariables",
        "validityPeriod": f"{DETAILS}/validityPeriod",
    }
