"""Organizations, CA instances, issuance, revocation, CRLs and the certificate event feed."""
