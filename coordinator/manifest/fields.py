"""Typed reading of a document, with the path of what is read in every error.

Two kinds of objects: `Fields`, whose keys are the field names of a schema and, as in Go, case-insensitive; and maps,
whose keys are names that the manifest's author chose (`Node.entries`), compared exactly. `null` counts as absent, as in
Go. A key that the schema does not know is an error, and so is a key that stands twice.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from confidential_bookstore.errors import ManifestError
from coordinator.manifest.document import JsonValue, Members

UINT64_MAX = 2**64 - 1

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def join_path(path: str, key: str) -> str:
    """`Marbles.frontend`, and `Files["/etc/key"]` for keys that are no simple words."""
    if not _SIMPLE_KEY.fullmatch(key):
        return f'{path}["{ascii(key[:80])[1:-1]}"]'
    return f"{path}.{key}" if path else key


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the document and where it stands."""

    value: JsonValue
    path: str

    def error(self, message: str, *, got: object = None, expected: object = None, hint: str = "") -> ManifestError:
        """An error about this value, ready to be raised."""
        where = f"{self.path}: " if self.path else ""
        return ManifestError(f"{where}{message}", got=got, expected=expected, hint=hint)

    def text(self) -> str:
        """A string."""
        if not isinstance(self.value, str):
            raise self._wrong_type("a string")
        return _checked_text(self.value, self)

    def integer(self, *, maximum: int = UINT64_MAX) -> int:
        """A whole number, not negative, written without fraction and exponent."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            raise self._wrong_type("a whole number")
        if not 0 <= self.value <= maximum:
            raise self.error("number is out of range", got=_short(self.value), expected=f"0 to {maximum}")
        return self.value

    def boolean(self) -> bool:
        """`true` or `false`."""
        if not isinstance(self.value, bool):
            raise self._wrong_type("true or false")
        return self.value

    def items(self) -> tuple[Node, ...]:
        """The elements of a list."""
        if not isinstance(self.value, list):
            raise self._wrong_type("a list")
        return tuple(Node(item, f"{self.path}[{index}]") for index, item in enumerate(self.value))

    def entries(self) -> dict[str, Node]:
        """A map of names to values."""
        entries: dict[str, Node] = {}
        for key, value in self._pairs():
            if key in entries:
                raise self.error(f'"{ascii(key)[1:-1]}" stands here twice')
            entries[key] = Node(value, join_path(self.path, key))
        return entries

    def fields(self, known: Iterable[str], *, not_yet: Iterable[str] = ()) -> Fields:
        """An object with these field names.

        Args:
            known: fields to read.
            not_yet: fields of MarbleRun that are not supported: they may be there as long as they are empty.
        """
        names = {name.lower(): name for name in (*known, *not_yet)}
        unsupported = frozenset(not_yet)
        found: dict[str, Node] = {}
        written: dict[str, str] = {}
        for key, value in self._pairs():
            name = names.get(key.lower())
            if name is None:
                raise self._unknown_key(key, names.values())
            if name in written:
                raise self.error(f'"{key}" stands here twice', got=f'"{written[name]}" and "{key}"')
            written[name] = key
            node = Node(value, join_path(self.path, name))
            if name in unsupported:
                if not node.is_empty():
                    raise node.error("not supported yet", expected="nothing or an empty value")
            elif value is not None:
                found[name] = node
        return Fields(self, found)

    def is_empty(self) -> bool:
        """Go's zero values: null, "", 0, false, [] and {}."""
        return not self.value or (isinstance(self.value, Members) and not self.value.pairs)

    def _pairs(self) -> tuple[tuple[str, JsonValue], ...]:
        if not isinstance(self.value, Members):
            raise self._wrong_type("an object")
        for key, _ in self.value.pairs:
            _checked_text(key, self)
        return self.value.pairs

    def _unknown_key(self, key: str, names: Iterable[str]) -> ManifestError:
        lowered = {name.lower(): name for name in names}
        near = difflib.get_close_matches(key.lower()[:80], lowered, n=1)
        hint = f'did you mean "{lowered[near[0]]}"?' if near else f"known here: {', '.join(sorted(lowered.values()))}"
        return self.error(f'unknown key "{ascii(key[:80])[1:-1]}"', hint=hint)

    def _wrong_type(self, expected: str) -> ManifestError:
        return self.error("wrong type", got=_type_name(self.value), expected=expected)


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one object that are present and not null; absent ones read as Go's zero values."""

    node: Node
    found: Mapping[str, Node]

    def get(self, name: str) -> Node | None:
        """The field's value, or None."""
        return self.found.get(name)

    def text(self, name: str) -> str:
        """A string; empty if absent."""
        node = self.found.get(name)
        return node.text() if node else ""

    def integer(self, name: str, *, maximum: int = UINT64_MAX) -> int:
        """A whole number; 0 if absent."""
        node = self.found.get(name)
        return node.integer(maximum=maximum) if node else 0

    def optional_integer(self, name: str, *, maximum: int = UINT64_MAX) -> int | None:
        """A whole number; None if absent."""
        node = self.found.get(name)
        return node.integer(maximum=maximum) if node else None

    def boolean(self, name: str) -> bool:
        """True or false; false if absent."""
        node = self.found.get(name)
        return node.boolean() if node else False

    def items(self, name: str) -> tuple[Node, ...]:
        """The elements of a list; none if absent."""
        node = self.found.get(name)
        return node.items() if node else ()

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings; empty if absent."""
        return tuple(item.text() for item in self.items(name))

    def entries(self, name: str) -> dict[str, Node]:
        """A map; empty if absent."""
        node = self.found.get(name)
        return node.entries() if node else {}


def _checked_text(text: str, node: Node) -> str:
    # JSON can escape half of a surrogate pair, which is no character.
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise node.error("text has half of a surrogate pair")
    return text


def _type_name(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return "a number with fraction or exponent"
    names = {str: "a string", int: "a number", list: "a list", Members: "an object", type(None): "null"}
    return names[type(value)]


def _short(number: int) -> str:
    digits = str(number)
    return digits if len(digits) <= 40 else f"{digits[:20]}... ({len(digits)} digits)"
