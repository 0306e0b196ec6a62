"""The list of error codes, read off the places that raise them, so that none can be missing."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import intaglio
from intaglio.core import errors as hierarchy
from intaglio.core.errors import IntaglioError

_GAP = "..."  # where a value goes


@dataclass(frozen=True)
class ErrorEntry:
    """One code: the HTTP statuses it comes with, one of the sentences it says, and a remedy."""

    code: str
    statuses: frozenset[int]
    example: str
    remedy: str


@dataclass(frozen=True)
class _Maker:
    """Something that is called to make a refusal: an error class, or a function around one.

    ``code`` has ``{}`` where the argument ``code`` goes; ``parameters`` are the positional ones by name.
    """

    status: int
    code: str = "{}"
    remedy: str = ""
    parameters: tuple[str, ...] = ("detail",)


def errors() -> Iterator[str]:
    """All codes of the management API and the command line, then those of the gateway."""
    from intaglio.cli.markdown import table
    from intaglio.gateway.errors import CATALOGUE

    yield (
        "Every refusal carries a stable `code`, a sentence saying what was wrong and where, and where there is one a "
        "remedy. The management API answers problem objects (RFC 9457); the command line prints the same.\n"
    )
    rows = [
        (f"`{each.code}`", ", ".join(map(str, sorted(each.statuses))), each.example, each.remedy)
        for each in sorted(entries().values(), key=lambda each: each.code)
    ]
    yield table(("code", "HTTP status", "says, for example", "remedy"), rows)
    yield "## CA gateway\n"
    yield "The gateway answers `ErrorResponse` objects with these codes; `details` name the code of the list above.\n"
    gateway = [(f"`{e.code}`", str(e.status), e.meaning) for e in sorted(CATALOGUE.values(), key=lambda e: e.code)]
    yield table(("code", "HTTP status", "meaning"), gateway)


def entries() -> dict[str, ErrorEntry]:
    """Every code in the sources."""
    classes = {
        name: kind
        for name, kind in vars(hierarchy).items()
        if isinstance(kind, type) and issubclass(kind, IntaglioError)
    }
    found: dict[str, ErrorEntry] = {}
    for kind in classes.values():
        _add(found, kind.default_code, kind.status, "", kind.default_remedy)
    makers = {name: _Maker(kind.status, remedy=kind.default_remedy) for name, kind in classes.items()}
    trees = [ast.parse(path.read_text(), str(path)) for path in sorted(Path(intaglio.__file__).parent.rglob("*.py"))]
    shared = {name: maker for tree in trees for name, maker in _functions(tree, makers).items() if name[0] != "_"}
    for tree in trees:
        for each in _classes(tree, makers):
            _add(found, each.code, min(each.statuses), each.example, each.remedy)
        known = {**shared, **makers, **_functions(tree, makers)}
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in known:
                _examine(found, node, known[node.func.id])
    return found


def _classes(tree: ast.Module, makers: Mapping[str, _Maker]) -> Iterator[ErrorEntry]:
    """Error classes of a module that have a code of their own; what they say is the first line of their description."""
    for node in tree.body:
        if not isinstance(node, ast.ClassDef):
            continue
        own = {
            target.id: statement.value
            for statement in node.body
            if isinstance(statement, ast.Assign)
            for target in statement.targets
            if isinstance(target, ast.Name)
        }
        bases = [makers[base.id] for base in node.bases if isinstance(base, ast.Name) and base.id in makers]
        code, status = _literal(own.get("default_code")), own.get("status")
        if code and bases:
            number = status.value if isinstance(status, ast.Constant) else bases[-1].status
            summary = (ast.get_docstring(node) or "").partition("\n")[0]
            yield ErrorEntry(code, frozenset({int(str(number))}), summary, _literal(own.get("default_remedy")))


def _functions(tree: ast.Module, makers: Mapping[str, _Maker]) -> dict[str, _Maker]:
    """Functions of a module that take a ``code`` and make a refusal with it."""
    found = {}
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        parameters = tuple(argument.arg for argument in function.args.args)
        for call in ast.walk(function):
            if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in makers):
                continue
            keywords = _keywords(call)
            template = _template(keywords.get("code"))
            if "code" in parameters and template is not None:
                remedy = _literal(keywords.get("remedy"))
                found[function.name] = _Maker(makers[call.func.id].status, template, remedy, parameters)
    return found


def _template(node: ast.expr | None) -> str | None:
    """``{}`` for ``code``, ``prefix-{}`` for ``f"prefix-{code}"``; None for anything else."""
    if isinstance(node, ast.Name) and node.id == "code":
        return "{}"
    if isinstance(node, ast.JoinedStr) and any(isinstance(part, ast.FormattedValue) for part in node.values):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else "{}" for part in node.values)
    return None


def _examine(found: dict[str, ErrorEntry], call: ast.Call, maker: _Maker) -> None:
    given = {**dict(zip(maker.parameters, call.args, strict=False)), **_keywords(call)}
    code = given.get("code")
    if not (isinstance(code, ast.Constant) and isinstance(code.value, str)):
        return
    remedy = _literal(given.get("remedy")) or maker.remedy
    _add(found, maker.code.replace("{}", code.value), maker.status, _literal(given.get("detail")), remedy)


def _keywords(call: ast.Call) -> dict[str, ast.expr]:
    return {each.arg: each.value for each in call.keywords if each.arg}


def _add(found: dict[str, ErrorEntry], code: str, status: int, example: str, remedy: str) -> None:
    known = found.get(code, ErrorEntry(code, frozenset(), "", ""))
    found[code] = ErrorEntry(code, known.statuses | {status}, known.example or example, known.remedy or remedy)


def _literal(node: ast.expr | None) -> str:
    """The text of a string, with a gap where a value goes."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_literal(part) if isinstance(part, ast.Constant) else _GAP for part in node.values)
    return ""
