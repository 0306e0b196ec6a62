"""Status authorities with signers of their own, and the responder that answers for them."""

from tests.support.status_authorities import establish, validation

__all__ = ["establish", "validation"]
