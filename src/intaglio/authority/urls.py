"""URLs that go into certificates, and the file names behind them."""

from __future__ import annotations

from urllib.parse import quote


def crl_file(generation: int, partition: int = 0, *, delta: bool = False) -> str:
    """File name of a CRL below ``/crl/{organization}/{ca}/``.

    The first key's whole CRL keeps the plain name that certificates have always carried; re-keying, partitions and
    deltas add to it, so that no name ever changes its meaning.
    """
    parts = [f"g{generation}"] if generation > 1 else []
    parts += [f"p{partition}"] if partition else []
    return "-".join([*parts, "delta" if delta else "crl"]) + ".crl"


def parse_crl_file(name: str) -> tuple[int, int, bool] | None:
    """The (generation, partition, delta) a CRL file name stands for; None when it is not one."""
    stem, dot, extension = name.partition(".")
    parts = stem.split("-")
    kind = parts.pop()
    if dot != "." or extension != "crl" or kind not in ("crl", "delta"):
        return None
    numbers = {"g": 1, "p": 0}
    for letter, part in zip("gp" if len(parts) == 2 else (parts[0][:1] if parts else ""), parts, strict=True):
        if part[:1] != letter or letter not in numbers or not part[1:].isascii() or not part[1:].isdigit():
            return None
        numbers[letter] = int(part[1:])
    parsed = (numbers["g"], numbers["p"], kind == "delta")
    return parsed if crl_file(parsed[0], parsed[1], delta=parsed[2]) == name else None


class CaUrls:
    """The public URLs of one CA below ``base`` (``http://host[:port]``)."""

    def __init__(self, base: str, organization: str, ca_name: str) -> None:
        self._base = base
        self._path = f"{quote(organization)}/{quote(ca_name)}"

    def crl(self, generation: int, partition: int = 0, *, delta: bool = False) -> str:
        return f"{self._base}/crl/{self._path}/{crl_file(generation, partition, delta=delta)}"

    @property
    def ocsp(self) -> str:
        return f"{self._base}/ocsp/{self._path}"

    def ca_certificate(self, generation: int) -> str:
        """The CA certificate for AIA caIssuers (RFC 5280 section 4.2.2.1: DER)."""
        return f"{self._base}/aia/{self._path}/{'ca' if generation <= 1 else f'ca-g{generation}'}.cer"
