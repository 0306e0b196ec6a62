"""Proof that whoever orders a certificate controls its names: challenges over HTTP, DNS and TLS, and CAA records."""

from intaglio.enrollment.acme.validation.options import ValidationOptions
from intaglio.enrollment.acme.validation.validator import Validator
from intaglio.enrollment.acme.validation.values import Target, ValidationFailed

__all__ = ["Target", "ValidationFailed", "ValidationOptions", "Validator"]
