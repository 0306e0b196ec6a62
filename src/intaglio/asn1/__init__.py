"""DER for hot paths and the key and signature algorithms. Knows encodings and keys, nothing of certificates."""
