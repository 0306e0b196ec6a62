"""Status authorities: the CAs whose certificates' status is given out, and how they are configured."""
