"""Certificate status for relying parties: OCSP answers, CRLs and CA certificates."""
