"""Alembic migrations; ``intaglio db migrate`` applies them, ``intaglio db check`` compares them with the tables."""
