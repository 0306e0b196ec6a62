"""The built-in mTLS gateway: a reverse proxy that lets nobody through without knowing who it is."""
