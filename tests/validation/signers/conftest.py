"""Status authorities, their signers, and the responder that uses them."""

from tests.support.status_authorities import establish, validation

__all__ = ["establish", "validation"]
