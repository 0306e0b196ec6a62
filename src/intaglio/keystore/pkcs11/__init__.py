"""Hardware security modules and other tokens by PKCS #11. Nothing of a vendor's library is loaded before it is used."""
