"""PostgreSQL: the embedded server, the engine, transactions with the journal, and migrations."""
