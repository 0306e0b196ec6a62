"""A configured token as a place for private keys."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from intaglio.asn1.algorithms import KeyAlgorithm, PrivateKey, sign
from intaglio.core.errors import NotSupported, Unavailable
from intaglio.keystore.dispatch import Dispatcher
from intaglio.keystore.pkcs11 import errors, importing, objects
from intaglio.keystore.pkcs11.keys import private_key
from intaglio.keystore.pkcs11.objects import Protection, TokenObject
from intaglio.keystore.pkcs11.token import LoginGuard, Seat, Token, TokenSettings, serial_of
from intaglio.keystore.providers import GeneratedKey, StoredKey

_PROOF = b"intaglio: is this private key the one of that public key?"
_SETTLING = 2.0  # seconds that a call may take beyond what the token itself allows


class Pkcs11Provider:
    """Keys in one token, under the CKA_ID that is the key's id unless it was adopted with another one.

    Methods block and belong into the threads of :attr:`dispatcher`. All raise Unavailable while the token is away.
    """

    slow = True
    exportable = False

    def __init__(self, settings: TokenSettings, guard: LoginGuard = lambda attempt: attempt()) -> None:
        self.settings = settings
        self.name = f"pkcs11:{settings.name}"
        self.token = Token(settings, guard)
        timeout = settings.timeout + _SETTLING
        self.dispatcher = Dispatcher(
            settings.sessions, timeout, lambda: errors.busy(settings.name, timeout), f"token-{settings.name}"
        )

    def close(self) -> None:
        """End the threads and the free sessions."""
        self.dispatcher.start(self.token.close)
        self.dispatcher.close()

    def generate(
        self, key_id: UUID, algorithm: KeyAlgorithm, label: str, *, decrypts: bool = False
    ) -> GeneratedKey:
        """Generate a key whose CKA_ID is the key's id. Raises NotSupported for what the token lacks."""
        reference = key_id.bytes
        public = self.token.run(
            lambda seat: objects.generate(seat, algorithm, reference, label, decrypts=decrypts), write=True
        )
        return GeneratedKey(private_key(self.token, reference, public), None, self.protection(reference).as_json())

    def load(self, stored: StoredKey) -> PrivateKey:
        """The object that signs; whether the token is there shows when it does."""
        return private_key(self.token, stored.reference, stored.spki)

    def destroy(self, stored: StoredKey) -> None:
        """Destroy both objects; none being there is fine."""
        self.token.run(lambda seat: objects.destroy(seat, stored.reference), write=True)

    def import_key(self, stored: StoredKey, key: PrivateKey) -> GeneratedKey:
        """Put a key into the token and see that it signs there as the public key says."""
        self.token.run(lambda seat: importing.import_key(seat, key, stored.reference, stored.label), write=True)
        try:
            held = private_key(self.token, stored.reference, stored.spki)
            self.prove(held)
            return GeneratedKey(held, None, self.protection(stored.reference).as_json())
        except Unavailable:
            self.destroy(stored)
            raise

    def export_key(self, stored: StoredKey) -> PrivateKey:
        """The key itself, from a token that lets it out. Raises NotSupported (``key-not-exportable``)."""
        how = self.protection(stored.reference)
        if how.extractable is not True or how.sensitive is not False:
            raise NotSupported(
                f'The token "{self.settings.name}" does not let the private key {stored.key_id} out: that is what it '
                "is for.",
                code="key-not-exportable",
                remedy="Give the CA a new key instead, which keeps what it issued: intaglio ca rekey CA --provider "
                "software.",
            )
        return self.token.run(lambda seat: objects.private_value(seat, stored.reference))

    def prove(self, key: PrivateKey) -> None:
        """Have the token sign something; the signature is verified. Raises Unavailable (``token-answer-wrong``)."""
        sign(key, _PROOF)

    def protection(self, reference: bytes) -> Protection:
        """How the token guards a key, as it says itself."""
        return self.token.run(lambda seat: objects.protection(seat, reference))

    def public_key(self, reference: bytes) -> bytes:
        """SubjectPublicKeyInfo (DER) of a key pair in the token."""
        return self.token.run(lambda seat: objects.public_key(seat, reference))

    def examine(self, references: Sequence[bytes]) -> None:
        """See that the token can be used and holds these keys."""

        def look(seat: Seat) -> None:
            for reference in references:
                seat.keys.pop(reference, None)  # what this session remembers tells nothing
                seat.key(reference)
            if not references:
                seat.session.generate_random(64)

        self.token.run(look)

    def identities(self) -> set[tuple[str, str]]:
        """Manufacturer and serial number of every token that is meant, whatever name it was recorded under.

        Raises PKCS11Error.
        """
        return {(each.manufacturer_id, serial_of(each)) for each in self.token.present()}

    def everything(self) -> list[TokenObject]:
        """All objects of the token that the login shows."""
        return self.token.run(objects.everything)

    def destroy_object(self, reference: bytes) -> int:
        """Destroy the key pair with this CKA_ID that no row of ours knows; returns how many objects that were."""
        return self.token.run(lambda seat: objects.destroy(seat, reference), write=True)
