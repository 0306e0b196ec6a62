"""What the CMP endpoints of one process work with."""

from __future__ import annotations

from intaglio.enrollment.cmp.fresh_ids import FreshIds
from intaglio.enrollment.cmp.references import References
from intaglio.enrollment.cmp.signers import Signers
from intaglio.enrollment.context import Enrollment


class Cmp:
    """Enrolment, the signers of answers, shared secrets by reference, and transaction ids that nobody used yet."""

    def __init__(self, enrollment: Enrollment) -> None:
        self.enrollment = enrollment
        self.signers = Signers(enrollment.authority)
        self.references = References(enrollment)
        self.fresh_ids = FreshIds(enrollment.database)
