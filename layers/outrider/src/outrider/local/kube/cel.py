"""CEL as admission and CRDs use it: compile once, evaluate on plain JSON.

Adds the Kubernetes string and list functions that cel-python lacks and that published CRDs use. An
expression that needs what is not there is *unknown*, which callers treat apart from false and from
an error of the expression itself. celpy is imported with the first expression: most clusters have
none.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Mapping
from typing import Any

import orjson

MOST_KNOWN = 512  # answers kept an expression

log = logging.getLogger("outrider.local.kube")

_NOT_THERE = re.compile(
    r"unbound function|undeclared|no such overload|found no matching overload", re.IGNORECASE
)


class ExpressionError(Exception):
    """The expression does not compile, or fails on this input."""


class UnknownExpressionError(ExpressionError):
    """The expression needs a function that is not implemented here."""


class Expression:
    """One compiled expression."""

    _lock = threading.Lock()
    _environment: Any = None

    def __init__(self, text: str) -> None:
        self.text = text
        self._known: dict[bytes, bool] = {}
        try:
            with Expression._lock:
                self._program = self._compile(text)
        except Exception as cause:
            raise ExpressionError(f"compilation failed: {text}") from cause

    @classmethod
    def _compile(cls, text: str) -> Any:
        import celpy

        if cls._environment is None:
            cls._environment = celpy.Environment()
        return cls._environment.program(cls._environment.compile(text), functions=_functions())

    def holds(self, variables: Mapping[str, Any]) -> bool:
        """Evaluate to a boolean on *variables*, each plain JSON; equal ones are asked about once.

        Hundreds of objects that differ in their names have equal specs, and an evaluation costs
        milliseconds here.
        """
        asked = orjson.dumps(variables)
        known = self._known.get(asked)
        if known is None:
            known = bool(self.value(variables))
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[asked] = known
        return known

    def value(self, variables: Mapping[str, Any]) -> Any:
        """Evaluate on *variables*, each plain JSON."""
        import celpy

        activation = {name: celpy.json_to_cel(value) for name, value in variables.items()}
        try:
            result = self._program.evaluate(activation)
        except celpy.CELEvalError as cause:
            said = str(cause)
            raise (UnknownExpressionError if _NOT_THERE.search(said) else ExpressionError)(
                said
            ) from cause
        return result


_compiled: dict[str, Expression | None] = {}


def expression(text: str) -> Expression | None:
    """Return *text* compiled, from the cache; None where it does not compile (logged once)."""
    if text not in _compiled:
        try:
            _compiled[text] = Expression(text)
        except ExpressionError as cause:
            log.warning("CEL: %s", cause)
            _compiled[text] = None
    return _compiled[text]


def _functions() -> dict[str, Any]:
    from celpy import celtypes

    text, number, many = celtypes.StringType, celtypes.IntType, celtypes.ListType

    def find(value: Any, pattern: Any) -> Any:
        found = re.search(str(pattern), str(value))
        return text(found[0] if found else "")

    def find_all(value: Any, pattern: Any) -> Any:
        return many([text(found[0]) for found in re.finditer(str(pattern), str(value))])

    def substring(value: Any, start: Any, end: Any = None) -> Any:
        return text(str(value)[int(start) : len(str(value)) if end is None else int(end)])

    def is_sorted(values: Any) -> Any:
        return celtypes.BoolType(all(one <= two for one, two in itertools.pairwise(values)))

    return {
        "find": find,
        "findAll": find_all,
        "substring": substring,
        "isSorted": is_sorted,
        "lowerAscii": lambda value: text(str(value).lower()),
        "upperAscii": lambda value: text(str(value).upper()),
        "trim": lambda value: text(str(value).strip()),
        "split": lambda value, by: many([text(part) for part in str(value).split(str(by))]),
        "join": lambda values, by="": text(str(by).join(str(value) for value in values)),
        "replace": lambda value, old, new: text(str(value).replace(str(old), str(new))),
        "indexOf": lambda value, part: number(str(value).find(str(part))),
        "lastIndexOf": lambda value, part: number(str(value).rfind(str(part))),
        "sum": lambda values: sum(values, number(0)),
        "min": min,
        "max": max,
    }
