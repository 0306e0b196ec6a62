"""The mails of enrolment, in plain text."""

from __future__ import annotations

from datetime import datetime

from intaglio.core.clock import rfc3339
from intaglio.mtls.enrolment.code_rows import Code
from intaglio.mtls.enrolment.mail import Mail


def security_code(code: Code, text: str, to: str, page: str) -> Mail:
    """The code for the person who enrols. The link leads to the page only: addresses with codes get logged."""
    return Mail(
        [to],
        f"Your security code for {code.domain}",
        f"""With this security code you get your personal certificate for {code.domain}:

    {text}

1. On the device that will use the certificate, open
   {page}
2. Enter the code and the e-mail address {to}.

The code is good until {_when(code.expires_at)} and for {_times(code.max_uses)}. Do not pass it on: whoever has it
gets a certificate in your name. If you did not expect this mail, tell your administrator.
""",
    )


def expiry_reminder(identity: str, domain: str, to: str, not_after: datetime, page: str) -> Mail:
    """The certificate of a person ends soon."""
    return Mail(
        [to],
        f"Your certificate for {domain} ends soon",
        f"""Your certificate for {domain} ({identity}) ends at {_when(not_after)}.

To renew it, open
   {page}
in the browser that has it and choose to renew; no security code is needed while it is valid. Afterwards ask your
administrator for a new security code.
""",
    )


def revoked_by_owner(identity: str, domain: str, to: str, revoked: int) -> Mail:
    """Certificates were revoked by their owner, or by somebody in his name."""
    count = "Your certificate was" if revoked == 1 else f"{revoked} of your certificates were"
    return Mail(
        [to],
        f"Certificate for {domain} revoked",
        f"""{count} revoked at your request ({identity}, {domain}). Nobody is let in with it any more.

If it was not you, tell your administrator now.
""",
    )


def _when(moment: datetime) -> str:
    return rfc3339(moment).replace("T", " ").replace("Z", " UTC")


def _times(count: int) -> str:
    return "one certificate" if count == 1 else f"{count} certificates"
