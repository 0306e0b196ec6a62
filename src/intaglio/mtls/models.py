"""The tables of this package, one module per room."""

__all__: list[str] = []
