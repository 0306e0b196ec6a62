"""Intaglio: certificate authorities, enrolment, status and lifecycle in one product."""

__version__ = "0.1.0"
