"""Reading the bodies of requests as Go's `encoding/json` does, because MarbleRun's clients rely on its habits.

* Names are compared without case; of several the last one counts, and unknown ones are ignored.
* Bytes are base64 text or a list of numbers. `null` and what is missing leave a field at its zero value.
* Numbers stay text until somebody asks for one: a uint64 is exact, and `1.0` is none.
* Text that is no Unicode gets U+FFFD in place of what cannot be read.
* A decoder reads the first value of a body and ignores what follows.

In contrast to Go, bodies that are nested more deeply than Python reads them are refused. Values of a body never appear
in an error: they may be secret.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

from confidential_bookstore.errors import InvalidRequest

UINT8_MAX = 0xFF
UINT64_MAX = 0xFFFF_FFFF_FFFF_FFFF

_SPACE = " \t\r\n"
_SURROGATE = re.compile("[\ud800-\udfff]")
_UINT = re.compile(r"[0-9]{1,20}", re.ASCII)


class Number(str):
    """The digits of a JSON number, as they were sent."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class JsonObject:
    """A JSON object: names and values in their order, repeated ones included."""

    pairs: Sequence[tuple[str, JsonValue]] = field(repr=False)

    def bytes(self, name: str) -> bytes:
        """A byte field; empty if it is missing.

        Raises:
            InvalidRequest: it is neither base64 nor a list of numbers from 0 to 255.
        """
        read = b""
        for value in self._all(name):
            read = _bytes(value, name) if value is not None else b""
        return read

    def text(self, name: str) -> str:
        """A text field; empty if it is missing.

        Raises:
            InvalidRequest: it is not text.
        """
        read = ""
        for value in self._all(name):
            if isinstance(value, Number) or not isinstance(value, str | None):
                raise _wrong_type(name, value, "text")
            read = _unicode(value) if value is not None else read
        return read

    def uint64(self, name: str) -> int:
        """A whole number; 0 if it is missing.

        Raises:
            InvalidRequest: it is not a number from 0 to 2**64 - 1.
        """
        read = 0
        for value in self._all(name):
            read = _uint(value, UINT64_MAX, name) if value is not None else read
        return read

    def object(self, name: str) -> JsonObject:
        """A field that is an object itself, the members of repeated ones together; empty if it is missing.

        Raises:
            InvalidRequest: it is not an object.
        """
        pairs: list[tuple[str, JsonValue]] = []
        for value in self._all(name):
            if value is None:
                pairs.clear()
            else:
                pairs += _object(value, name).pairs
        return JsonObject(pairs)

    def objects(self) -> dict[str, JsonObject]:
        """The object as a map from names, as they are written, to objects.

        Raises:
            InvalidRequest: a value is not an object.
        """
        return {
            _unicode(name): _object(value, "of the map") if value is not None else JsonObject(())
            for name, value in self.pairs
        }

    def _all(self, name: str) -> Iterator[JsonValue]:
        folded = _fold(name)
        return (value for key, value in self.pairs if _fold(key) == folded)


JsonValue: TypeAlias = "str | Number | bool | list[JsonValue] | JsonObject | None"


def read_object(body: bytes, *, alone: bool = False) -> JsonObject:
    """The JSON object at the start of a request body; null counts as an empty one.

    Args:
        body: not trusted.
        alone: nothing but blanks may follow, as where Go unmarshals instead of decoding.

    Raises:
        InvalidRequest: there is no JSON, or it is not an object. Nothing at all is "EOF", Go's word for it.
    """
    text = body.decode("utf-8", "replace").lstrip(_SPACE)
    if not text:
        raise InvalidRequest("EOF")
    try:
        value, end = _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise InvalidRequest("request body is not JSON", got=f"{reason}, character {error.pos}") from None
    except RecursionError:
        raise InvalidRequest("request body is not JSON", got="too many nested values") from None
    if alone and text[end:].strip(_SPACE):
        raise InvalidRequest("request body is not JSON", got=f"something after the value, character {end}")
    return _object(value, "") if value is not None else JsonObject(())


def _object(value: JsonValue, name: str) -> JsonObject:
    if isinstance(value, JsonObject):
        return value
    raise _wrong_type(name, value, "an object")


def _bytes(value: JsonValue, name: str) -> bytes:
    if isinstance(value, list):
        # As in Go, null leaves the zero that is there.
        return bytes(_uint(number, UINT8_MAX, name) if number is not None else 0 for number in value)
    if isinstance(value, Number) or not isinstance(value, str):
        raise _wrong_type(name, value, "base64 text or a list of numbers")
    try:
        return base64.b64decode(re.sub("[\r\n]", "", value), validate=True)
    except (ValueError, binascii.Error) as error:
        # binascii says what is wrong and nothing of the value; other errors are of text beyond ASCII.
        reason = str(error) if isinstance(error, binascii.Error) else "characters beyond ASCII"
        raise InvalidRequest(f"field {name} is not base64", got=reason) from None


def _uint(value: JsonValue, most: int, name: str) -> int:
    if not isinstance(value, Number):
        raise _wrong_type(name, value, "a whole number")
    if not _UINT.fullmatch(value) or int(value) > most:
        raise InvalidRequest(f"field {name} is out of range", expected=f"a whole number from 0 to {most}")
    return int(value)


def _unicode(text: str) -> str:
    return _SURROGATE.sub("\ufffd", text)


def _fold(name: str) -> str:
    """Names without case, as Go folds them: two letters beyond ASCII are forms of ASCII ones, U+017F and U+212A."""
    return name.lower().replace("\u017f", "s")


def _wrong_type(name: str, value: JsonValue, expected: str) -> InvalidRequest:
    what = f"field {name}" if name else "request body"
    return InvalidRequest(f"{what} is of the wrong type", got=_type_name(value), expected=expected)


def _type_name(value: JsonValue) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, Number):
        return "a number"
    names = {str: "text", list: "a list", JsonObject: "an object", type(None): "null"}
    return names[type(value)]


def _no_such_constant(name: str) -> NoReturn:
    """Python's decoder knows NaN and Infinity."""
    raise json.JSONDecodeError(f"no value begins with {name[:1]}", "", 0)


_DECODER = json.JSONDecoder(
    object_pairs_hook=JsonObject, parse_int=Number, parse_float=Number, parse_constant=_no_such_constant
)
