"""Keys, certificate requests, certificates and PKCS #12, as OpenSSL makes and reads them."""
