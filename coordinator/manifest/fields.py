"""Typed reading of a document, with the path of what is read in every error.

Two kinds of objects: `Fields`, whose keys are the field names of a schema and, as in Go, case-insensitive; and maps,
whose keys are names that the manifest's author chose (`Node.entries`), compared exactly. `null` counts as absent, as in
Go. A key that the schema does not know is an error, and so is a key that stands twice, unless the reader is tolerant:
then it makes a note of it, and the last value counts.
"""

from __future__ import annotations

import base64
import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from confidential_bookstore.errors import ManifestError
from coordinator.manifest.document import JsonValue, Members

UINT64_MAX = 2**64 - 1
MOST_NOTES = 100  # looking for the key that was meant takes time

_SIMPLE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def join_path(path: str, key: str) -> str:
    """`Marbles.frontend`, and `Files["/etc/key"]` for keys that are no simple words."""
    if not _SIMPLE_KEY.fullmatch(key):
        return f'{path}["{ascii(key[:80])[1:-1]}"]'
    return f"{path}.{key}" if path else key


def one_of(names: Iterable[str], *, most: int = 12) -> str:
    """`one of a, b, c`, in order and not without end."""
    ordered = sorted(names)
    shown = ", ".join(ascii(name[:80])[1:-1] for name in ordered[:most])
    return f"one of {shown}{', ...' if len(ordered) > most else ''}" if ordered else "none, there are none"


@dataclass(slots=True)
class Notes:
    """What a tolerant reader has overlooked, at most `MOST_NOTES`."""

    found: list[str] = field(default_factory=list)

    def add(self, error: ManifestError) -> None:
        """Note instead of raising."""
        if self.full:
            return
        self.found.append(f"{error} ({error.hint})" if error.hint else str(error))

    @property
    def full(self) -> bool:
        """No more is noted."""
        return len(self.found) >= MOST_NOTES


@dataclass(frozen=True, slots=True)
class Node:
    """One value of the document and where it stands. With `notes` it is read tolerantly."""

    value: JsonValue
    path: str
    notes: Notes | None = None

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
        return tuple(Node(item, f"{self.path}[{index}]", self.notes) for index, item in enumerate(self.value))

    def octets(self) -> bytes:
        """Bytes as Go writes them: padded base64, in which line ends do not count, or a list of numbers."""
        if isinstance(self.value, list):
            return bytes(item.integer(maximum=255) for item in self.items())
        if not isinstance(self.value, str):
            raise self._wrong_type("base64 or a list of numbers")
        try:
            return base64.b64decode(self.value.replace("\n", "").replace("\r", "").encode("ascii"), validate=True)
        except ValueError:
            raise self.error("not base64", got=ascii(self.value[:80])) from None

    def entries(self) -> dict[str, Node]:
        """A map of names to values."""
        entries: dict[str, Node] = {}
        for key, value in self._pairs():
            if key in entries:
                self._overlook(self.error(f'"{ascii(key)[1:-1]}" stands here twice'))
            entries[key] = Node(value, join_path(self.path, key), self.notes)
        return entries

    def fields(
        self, known: Iterable[str], *, without_effect: Iterable[str] = (), refused: Iterable[str] = ()
    ) -> Fields:
        """An object with these field names.

        Args:
            known: fields to read.
            without_effect: fields that MarbleRun reads and then overwrites; like unknown ones unless they are empty.
            refused: fields of MarbleRun that are not supported: they may be there as long as they are empty.
        """
        names = {name.lower(): name for name in (*known, *without_effect, *refused)}
        idle, unsupported = frozenset(without_effect), frozenset(refused)
        found: dict[str, Node] = {}
        written: dict[str, str] = {}
        for key, value in self._pairs():
            name = names.get(key.lower())
            if name is None:
                if self.notes is None or not self.notes.full:
                    self._overlook(self._unknown_key(key, names.values()))
                continue
            if name in written:
                self._overlook(self.error(f'"{key}" stands here twice', got=f'"{written[name]}" and "{key}"'))
            written[name] = key
            node = Node(value, join_path(self.path, name), self.notes)
            if name in unsupported and not node.is_empty():
                raise node.error("not supported", expected="nothing or an empty value")
            if name in idle and not node.is_empty():
                self._overlook(node.error("has no effect", hint="leave it out"))
            elif value is not None:
                found[name] = node
        return Fields(self, found)

    def _overlook(self, error: ManifestError) -> None:
        if self.notes is None:
            raise error
        self.notes.add(error)

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

    def octets(self, name: str) -> bytes:
        """Bytes; empty if absent."""
        node = self.found.get(name)
        return node.octets() if node else b""

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
