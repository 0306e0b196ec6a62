"""X.509 without input or output: names, requests, extensions, assembly and reading of certificates and CRLs, lint."""
