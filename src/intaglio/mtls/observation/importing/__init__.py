"""Access logs of ingresses made by others, as access events."""

from intaglio.mtls.observation.importing.entries import BadLine, Entry
from intaglio.mtls.observation.importing.formats import FORMATS, parse_line
from intaglio.mtls.observation.importing.service import Chunk, Imported, Position, import_chunk, import_position

__all__ = [
    "FORMATS", "BadLine", "Chunk", "Entry", "Imported", "Position", "import_chunk", "import_position", "parse_line",
]  # fmt: skip
