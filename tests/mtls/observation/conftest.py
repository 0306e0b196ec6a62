"""A house as for access decisions: a trust domain, a service with a certificate, and decisions that run."""

from tests.mtls.access.conftest import house, payments_stage

__all__ = ["house", "payments_stage"]
