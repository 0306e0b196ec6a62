"""What a benchmark returns, and how it is printed and judged."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

_COMPARE: dict[str, Callable[[float, float], bool]] = {">=": operator.ge, "<": operator.lt, "<=": operator.le}


@dataclass(frozen=True)
class Line:
    """One judged number: ``value`` and ``target`` in ``unit``; ``note`` says what it was measured against."""

    name: str
    value: float
    unit: str
    relation: Literal[">=", "<", "<="]
    target: float
    note: str = ""

    @property
    def met(self) -> bool:
        return _COMPARE[self.relation](self.value, self.target)


@dataclass
class Figure:
    """The lines of one benchmark and the raw measurements behind them."""

    name: str
    lines: list[Line] = field(default_factory=list)
    measured: dict[str, Any] = field(default_factory=dict)

    def add(
        self, name: str, value: float, unit: str, relation: Literal[">=", "<", "<="], target: float, note: str = ""
    ) -> None:
        self.lines.append(Line(name, value, unit, relation, target, note))

    @property
    def met(self) -> bool:
        return all(line.met for line in self.lines)

    def as_json(self) -> dict[str, Any]:
        return {
            "figure": self.name,
            "met": self.met,
            "lines": [{**asdict(line), "met": line.met} for line in self.lines],
            "measured": self.measured,
        }

    def print(self) -> None:
        for line in self.lines:
            mark = "✓" if line.met else "✗"
            value, target = (
                f"{line.value:,.4g} {line.unit}".strip(),
                f"{line.relation} {line.target:g} {line.unit}".strip(),
            )
            print(f"{mark} {self.name:12} {line.name:44} {value:>16}   target {target:14} {line.note}")
