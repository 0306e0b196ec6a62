"""The interface of HashiCorp Vault's PKI secrets engine, as far as its clients ask for certificates through it."""
