"""The profile engine: a request, a profile and an issuer in, a linted certificate ready to be signed out.

Pure and synchronous: no clock, no randomness, no database, no key. ``compile_profile`` is done once per CA and profile,
``CompiledProfile.prepare`` once per certificate.
"""

from intaglio.profiles.engine.compile import CompiledProfile, compile_profile
from intaglio.profiles.engine.names import check_variables
from intaglio.profiles.engine.values import IssuanceInput, Issuer, PreparedCertificate, RequestedValidity

__all__ = [
    "CompiledProfile",
    "IssuanceInput",
    "Issuer",
    "PreparedCertificate",
    "RequestedValidity",
    "check_variables",
    "compile_profile",
]
