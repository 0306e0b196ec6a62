"""Private keys. They are generated here, sign here, and never leave except by explicit export under a password."""
