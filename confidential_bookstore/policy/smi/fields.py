"""Strict reading of a YAML document: every value knows its line and its path, and only what is asked for is taken.

Errors say file, line, document and field, and what would have been right.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TypeAlias, cast

import yaml
from yaml.nodes import MappingNode, ScalarNode, SequenceNode

from confidential_bookstore.errors import PolicyError
from confidential_bookstore.policy.pattern import Pattern
from confidential_bookstore.policy.smi.model import Origin

YamlNode: TypeAlias = "yaml.Node"  # quoted: the base class of three in PyYAML

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")  # a DNS label, as Kubernetes names most things
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_LONGEST = 253  # of a name in Kubernetes, and of what is shown of a text
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_KINDS: dict[type, str] = {MappingNode: "a map", SequenceNode: "a list"}
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Field:
    """One value of a document.

    Attributes:
        node: of PyYAML.
        file: name of the file.
        document: as in `Origin.document`.
        path: of the field, for example `spec.sources[0].name`; empty for the whole document.
    """

    node: YamlNode
    file: str
    document: str
    path: str = ""

    @property
    def origin(self) -> Origin:
        """Where it is written."""
        return Origin(self.file, self.node.start_mark.line + 1, self.document)

    def error(self, message: str, *, got: object = None, expected: object = None, hint: str = "") -> PolicyError:
        """An error about this field, to be raised."""
        return PolicyError(str(self.origin), self.path, message, got=got, expected=expected, hint=hint)

    def map(self, required: Collection[str] = (), optional: Collection[str] = ()) -> dict[str, Field]:
        """The fields of a map: all required ones, and no others than the optional ones.

        Raises:
            PolicyError: it is no map, or has a field too few, too many or twice.
        """
        fields: dict[str, Field] = {}
        for key, name, value in self._entries():
            if name not in required and name not in optional:
                known = (*required, *optional)
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"did you mean {near[0]}?" if near else ""
                raise key.error("unknown field", expected=", ".join(sorted(known)), hint=hint)
            fields[name] = value
        for name in required:
            if name not in fields:
                raise self.error(f"{name} is missing")
        return fields

    def pairs(self) -> Iterator[tuple[str, Field]]:
        """Names and values of a map, in the order in which they stand.

        Raises:
            PolicyError: it is no map, or a name is no text or stands there twice.
        """
        for _, name, value in self._entries():
            yield name, value

    def _entries(self) -> Iterator[tuple[Field, str, Field]]:
        """With the names as fields, too: a value may begin one line below."""
        if not isinstance(self.node, MappingNode):
            raise self._is_not("a map")
        seen: set[str] = set()
        for key, value in self.node.value:
            if not isinstance(key, ScalarNode) or key.tag != f"{_TAG}str":
                raise Field(key, self.file, self.document, self.path).error("a field has a name that is no text")
            name = cast("str", key.value)
            shown = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
            path = f"{self.path}.{shown}" if self.path else shown
            written = Field(key, self.file, self.document, path)
            if name in seen:
                raise written.error("stands there twice")
            seen.add(name)
            yield written, name, Field(value, self.file, self.document, path)

    def list(self, *, empty: bool = False) -> list[Field]:
        """The entries of a list.

        Raises:
            PolicyError: it is no list, or has no entries and may not be `empty`.
        """
        if not isinstance(self.node, SequenceNode):
            raise self._is_not("a list")
        if not self.node.value and not empty:
            raise self.error("is empty", expected="at least one entry")
        return [
            Field(value, self.file, self.document, f"{self.path}[{index}]")
            for index, value in enumerate(self.node.value)
        ]

    def text(self) -> str:
        """A text; numbers and so on have to be in quotes."""
        if not isinstance(self.node, ScalarNode) or self.node.tag != f"{_TAG}str":
            raise self._is_not("a text")
        return cast("str", self.node.value)

    def title(self) -> str:
        """A text that names something: not empty, and not longer than a name."""
        text = self.text()
        if not 0 < len(text) <= _LONGEST:
            raise self.error("is no name", got=f"{len(text)} characters", expected=f"1 to {_LONGEST}")
        return text

    def label(self) -> str:
        """A name in Kubernetes' strict form: small letters, digits and dashes, at most 63."""
        return self._named(_LABEL)

    def name(self) -> str:
        """A name that may have dots, too."""
        return self._named(_NAME)

    def one_of(self, allowed: Collection[str]) -> str:
        """One of these texts."""
        text = self.text()
        if text not in allowed:
            raise self.error("is not known", got=text[:_LONGEST], expected=" or ".join(sorted(allowed)))
        return text

    def pattern(self) -> Pattern:
        """A regular expression of RE2."""
        text = self.text()
        try:
            return Pattern(text)
        except ValueError as error:
            raise self.error(f"is no regular expression of RE2: {error}", got=text[:_LONGEST]) from None

    def integer(self, least: int, most: int) -> int:
        """A whole number in decimal digits."""
        if (
            not isinstance(self.node, ScalarNode)
            or self.node.tag != f"{_TAG}int"
            or not _INTEGER.fullmatch(self.node.value)
        ):
            raise self._is_not("a whole number")
        number = int(self.node.value)
        if not least <= number <= most:
            raise self.error("is out of range", got=number, expected=f"{least} to {most}")
        return number

    def boolean(self) -> bool:
        """True or false."""
        if not isinstance(self.node, ScalarNode) or self.node.value not in ("true", "false"):
            raise self._is_not("true or false")
        if self.node.tag != f"{_TAG}bool":
            raise self._is_not("true or false")
        return bool(self.node.value == "true")

    def _named(self, form: re.Pattern[str]) -> str:
        text = self.text()
        if not form.fullmatch(text):
            raise self.error("is no name", got=repr(text[:80]), expected="small letters, digits and dashes")
        return text

    def _is_not(self, expected: str) -> PolicyError:
        got = _KINDS.get(type(self.node)) or repr(str(self.node.value)[:80])
        return self.error("has another form", got=got, expected=expected)
