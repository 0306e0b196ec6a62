"""What the CMP endpoints of one process work with."""

from __future__ import annotations

from intaglio.enrollment.cmp.signers import Signers
from intaglio.enrollment.context import Enrollment


class Cmp:
    """Enrolment, and the signers of answers."""

    def __init__(self, enrollment: Enrollment) -> None:
        self.enrollment = enrollment
        self.signers = Signers(enrollment.authority)
