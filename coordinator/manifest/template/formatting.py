"""Go's printf: a format with verbs, flags, width, precision and argument indexes.

What does not fit is not an error but stands in the result, as in Go: `%!d(string=hi)`, `%!d(MISSING)`,
`%!(EXTRA int=1)`, `%!(NOVERB)`, `%!d(BADINDEX)`, `%!(BADWIDTH)`, `%!(BADPREC)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from coordinator.manifest.template.values import Nil, Unsigned, Unsuitable, Value, type_name
from coordinator.manifest.template.verbs import Spec, formatted

MAX_SIZE = 4 * 1024 * 1024  # bytes of a result
MAX_VERBS = 10_000

_LARGEST = 1_000_000  # of a width or precision
_FLAGS = {"+": "plus", "-": "minus", "#": "sharp", " ": "space", "0": "zero"}


def printf(arguments: Sequence[Value]) -> bytes:
    """The first argument is the format.

    Raises:
        Unsuitable: it is no string, one of the others may not be printed, or the result is too large.
    """
    template, *others = arguments
    if not isinstance(template, bytes):
        raise Unsuitable(f"wrong type for value; expected string; got {type_name(template)}")
    return _Printer(template.decode(errors="surrogateescape"), others).run()


class _Printer:
    """One pass over a format. Text is str here, with undecodable bytes as surrogate escapes."""

    def __init__(self, template: str, arguments: Sequence[Value]) -> None:
        self._template = template
        self._arguments = arguments
        self._offset = 0
        self._argument = 0
        self._is_reordered = False
        self._index_is_good = True
        self._after_index = False
        self._last_bracket = template.rfind("]")
        self._result = bytearray()

    def run(self) -> bytes:
        verbs = 0
        while (percent := self._template.find("%", self._offset)) >= 0:
            self._write(self._template[self._offset : percent].encode(errors="surrogateescape"))
            self._offset = percent + 1
            verbs += 1
            if verbs > MAX_VERBS:
                raise Unsuitable(f"format has more than {MAX_VERBS} verbs")
            self._verb()
        self._write(self._template[self._offset :].encode(errors="surrogateescape"))
        if not self._is_reordered and self._argument < len(self._arguments):
            extra = b", ".join(_described(value) for value in self._arguments[self._argument :])
            self._write(b"%%!(EXTRA %s)" % extra)
        return bytes(self._result)

    def _write(self, data: bytes) -> None:
        self._result += data
        if len(self._result) > MAX_SIZE:
            raise Unsuitable(f"result has more than {MAX_SIZE} bytes")

    def _next(self) -> str:
        """The next character, "" at the end."""
        return self._template[self._offset : self._offset + 1]

    def _verb(self) -> None:
        self._index_is_good, self._after_index = True, False
        spec = self._flags()
        self._index()
        spec = self._width(spec)
        spec = self._precision(spec)
        if not self._after_index:
            self._index()
        verb = self._next()
        self._offset += 1
        if "\udc80" <= verb <= "\udcff":
            verb = "\ufffd"
        shown = verb.encode()
        if not verb:
            self._write(b"%!(NOVERB)")
        elif verb == "%":
            self._write(b"%")
        elif not self._index_is_good:
            self._write(b"%%!%s(BADINDEX)" % shown)
        elif self._argument >= len(self._arguments):
            self._write(b"%%!%s(MISSING)" % shown)
        else:
            if verb == "v":
                spec = replace(spec, sharp=False, plus=False, syntax=spec.sharp)
            self._write(formatted(verb, self._arguments[self._argument], spec))
            self._argument += 1

    def _flags(self) -> Spec:
        flags: dict[str, bool] = {}
        while name := _FLAGS.get(self._next()):
            flags[name] = True
            self._offset += 1
        return Spec(**flags | ({"zero": False} if "minus" in flags else {}))

    def _width(self, spec: Spec) -> Spec:
        if self._next() == "*":
            self._offset += 1
            width = self._star()
            if width is None:
                self._write(b"%!(BADWIDTH)")
                return spec
            if width < 0:
                return replace(spec, width=-width, minus=True, zero=False)
            return replace(spec, width=width)
        number = self._number()
        if number is None:
            return spec
        if self._after_index:
            self._index_is_good = False  # %[3]2d
        return replace(spec, width=number)

    def _precision(self, spec: Spec) -> Spec:
        if self._next() != ".":
            return spec
        self._offset += 1
        if self._after_index:
            self._index_is_good = False  # %[3].2d
        self._index()
        if self._next() == "*":
            self._offset += 1
            precision = self._star()
            if precision is None or precision < 0:
                self._write(b"%!(BADPREC)")
                return spec
            return replace(spec, precision=precision)
        return replace(spec, precision=self._number() or 0)

    def _star(self) -> int | None:
        """The next argument as a width or precision; None if it is no number, or too large a one."""
        self._after_index = False
        if self._argument >= len(self._arguments):
            return None
        value = self._arguments[self._argument]
        self._argument += 1
        if isinstance(value, Unsigned):
            value = value.number
        if not isinstance(value, int) or isinstance(value, bool) or abs(value) > _LARGEST:
            return None
        return value

    def _number(self) -> int | None:
        """Decimal digits at this place; after one that is too large, nothing of the format is left, as in Go."""
        start = self._offset
        number = 0
        while (character := self._next()) and character in "0123456789":
            if number > _LARGEST:
                self._offset = len(self._template)
                return None
            number = number * 10 + int(character)
            self._offset += 1
        return number if self._offset > start else None

    def _index(self) -> None:
        """`[2]`: which argument is next."""
        self._after_index = False
        if self._next() != "[":
            return
        self._is_reordered = True
        if self._last_bracket < self._offset or len(self._template) - self._offset < 3:
            self._index_is_good = False
            self._offset += 1
            return
        end = self._template.index("]", self._offset)
        digits = self._template[self._offset + 1 : end]
        self._offset = end + 1
        is_number = digits.isascii() and digits.isdigit() and len(digits) <= len(str(_LARGEST))
        if not is_number:
            self._index_is_good = False
            return
        self._after_index = True
        if 1 <= int(digits) <= len(self._arguments):
            self._argument = int(digits) - 1
        else:
            self._index_is_good = False


def _described(value: Value) -> bytes:
    """`type=value`, for what a format did not use."""
    if isinstance(value, Nil):
        return b"<nil>"
    return type_name(value).encode() + b"=" + formatted("v", value, Spec())
