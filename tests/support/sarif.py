"""What SARIF 2.1.0 (OASIS) demands of the parts that we write: a JSON schema of our own, closed like the standard's."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator

_WORDS = {"type": "string", "minLength": 1}
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_COUNT = {"type": "integer", "minimum": 1}
_INDEX = {"type": "integer", "minimum": 0}


def _closed(required: list[str], **members: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": members}


def _several(of: dict[str, Any], least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": least}


_MESSAGE = _closed(["text"], text=_WORDS)
_RULE = _closed(
    ["id"], id=_WORDS, shortDescription=_MESSAGE, fullDescription=_MESSAGE, help=_MESSAGE,
    defaultConfiguration=_closed([], level=_LEVEL),
)  # fmt: skip
_REGION = _closed(["startLine"], startLine=_COUNT, startColumn=_COUNT)
_PHYSICAL = _closed(
    ["artifactLocation"], artifactLocation=_closed(["uri"], uri={"type": "string", "format": "uri-reference"}),
    region=_REGION,
)  # fmt: skip
_LOCATION = _closed(
    [], physicalLocation=_PHYSICAL, logicalLocations=_several(_closed(["name"], name=_WORDS, kind=_WORDS), 1)
)
_SUPPRESSION = _closed(
    ["kind"], kind={"enum": ["inSource", "external"]}, status={"enum": ["accepted", "underReview", "rejected"]},
    justification=_WORDS,
)  # fmt: skip
_RESULT = _closed(
    ["message"], ruleId=_WORDS, ruleIndex=_INDEX, level=_LEVEL, message=_MESSAGE, locations=_several(_LOCATION),
    partialFingerprints={"type": "object", "additionalProperties": _WORDS},
    suppressions=_several(_SUPPRESSION),
)  # fmt: skip
_MOMENT = {"type": "string", "pattern": r"^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?Z$"}
_INVOCATION = _closed(
    ["executionSuccessful"], executionSuccessful={"type": "boolean"}, endTimeUtc=_MOMENT,
    toolExecutionNotifications=_several(_closed(["message"], level=_LEVEL, message=_MESSAGE)),
)  # fmt: skip
_DRIVER = _closed(["name"], name=_WORDS, version=_WORDS, semanticVersion=_WORDS, rules=_several(_RULE))
_RUN = _closed(
    ["tool"], tool=_closed(["driver"], driver=_DRIVER), results=_several(_RESULT), invocations=_several(_INVOCATION),
    columnKind={"enum": ["utf16CodeUnits", "unicodeCodePoints"]},
)  # fmt: skip
_LOG = _closed(
    ["version", "runs"], version={"const": "2.1.0"}, runs=_several(_RUN, 1), **{"$schema": {"format": "uri", **_WORDS}}
)
_URI = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-F]{2})*")


def assert_sarif(log: Any) -> None:
    """Fail unless it is a SARIF log as the standard and its readers want it."""
    errors = [f"{each.json_path}: {each.message}" for each in Draft202012Validator(_LOG).iter_errors(log)]
    assert errors == []
    for run in log["runs"]:
        rules = run["tool"]["driver"]["rules"]
        assert len({rule["id"] for rule in rules}) == len(rules)
        for result in run["results"]:
            assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
            for location in result["locations"]:
                uri = location.get("physicalLocation", {}).get("artifactLocation", {}).get("uri", "a")
                assert _URI.fullmatch(uri), uri
                # RFC 3986 section 4.2: the first segment of a relative reference has no colon.
                assert uri.startswith("/") or ":" not in uri.partition("/")[0], uri
                assert unquote(uri)
