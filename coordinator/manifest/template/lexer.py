"""Characters of a template to tokens: Go's delimiters, trim markers, comments and words.

Source: the documentation of Go's text/template. Words of Go that the subset leaves out (variables, character constants)
are refused here by name.
"""

from __future__ import annotations

import bisect
import enum
import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass

from confidential_bookstore.errors import TemplateError
from coordinator.manifest.template.nodes import Position

_SPACES = " \t\r\n"
_TOKEN = re.compile(
    r"""(?P<field>\.\w+)
    |(?P<dot>\.)
    |(?P<number>[+-]?\d[\w.]*)
    |(?P<word>[^\W\d]\w*)
    |(?P<string>"(?:[^"\\\n]|\\.)*+"|`[^`]*+`)
    |(?P<pipe>\|)
    |(?P<open>\()
    |(?P<close>\))""",
    re.VERBOSE,
)
_END_OF_ACTION = re.compile(r"[ \t\r\n]+-\}\}|\}\}")
_END_OF_COMMENT = re.compile(r"[ \t\r\n]-\}\}|\}\}")
_SPACE = re.compile(r"[ \t\r\n]+")
_AFTER_A_WORD = frozenset(["", *_SPACES, *".,|:()}"])

_NOT_YET = {"$": "variables are", ":": "variables are", "=": "variables are", "'": "character constants are"}
_DASH = "a name with '-' in it cannot be reached in a template"


class TokenKind(enum.Enum):
    """What a token is."""

    TEXT = "text"
    BEGIN = "{{"
    END = "}}"
    FIELD = "field"
    DOT = "dot"
    NUMBER = "number"
    WORD = "word"
    STRING = "string"
    PIPE = "pipe"
    OPEN = "open"
    CLOSE = "close"


@dataclass(frozen=True, slots=True)
class Token:
    """One token; `spaced` says whether white space stands before it, which matters between arguments."""

    kind: TokenKind
    text: str
    position: Position
    spaced: bool = False


class Lexer:
    """Iterates over the tokens of one template.

    Raises:
        TemplateError: at the first character that no token begins with, or an action or comment that never ends.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(self, offset: int) -> Position:
        """Line and column of an offset."""
        line = bisect.bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)

    def __iter__(self) -> Iterator[Token]:
        start, trim_start = 0, False
        while (begin := self._text.find("{{", start)) >= 0:
            action = begin + 2
            trim_end = self._text.startswith("-", action) and self._text[action + 1 : action + 2] in tuple(_SPACES)
            if trim_end:
                action += 2
            yield from self._outside(start, begin, trim_start=trim_start, trim_end=trim_end)
            if self._text.startswith("/*", action):
                start = self._comment_end(begin, action)
            else:
                yield Token(TokenKind.BEGIN, "{{", self.position(begin))
                start = yield from self._inside(begin, action)
                yield Token(TokenKind.END, "}}", self.position(start - 2))
            trim_start = self._text[start - 3] == "-"
        yield from self._outside(start, len(self._text), trim_start=trim_start, trim_end=False)

    def _outside(self, start: int, end: int, *, trim_start: bool, trim_end: bool) -> Iterator[Token]:
        text = self._text[start:end]
        if trim_start:
            text = text.lstrip(_SPACES)
        if trim_end:
            text = text.rstrip(_SPACES)
        if text:
            yield Token(TokenKind.TEXT, text, self.position(start))

    def _comment_end(self, begin: int, start: int) -> int:
        close = self._text.find("*/", start + 2)
        if close < 0:
            raise self.position(begin).error("comment has no end")
        end = _END_OF_COMMENT.match(self._text, close + 2)
        if end is None:
            raise self.position(close).error("comment does not end right before the closing braces")
        return end.end()

    def _inside(self, begin: int, start: int) -> Generator[Token, None, int]:
        """The tokens of one action; returns the offset behind its closing braces."""
        offset, spaced = start, False
        while offset < len(self._text):
            if end := _END_OF_ACTION.match(self._text, offset):
                return end.end()
            if space := _SPACE.match(self._text, offset):
                offset, spaced = space.end(), True
                continue
            match = _TOKEN.match(self._text, offset)
            if match is None or match.lastgroup is None:
                if self._text[offset] in ('"', "`"):
                    raise self.position(offset).error("string has no end")
                raise self._unexpected(offset)
            if match.lastgroup in ("field", "word") and self._text[match.end() : match.end() + 1] not in _AFTER_A_WORD:
                raise self._unexpected(match.end())
            yield Token(TokenKind(match.lastgroup), match[0], self.position(offset), spaced)
            offset, spaced = match.end(), False
        raise self.position(begin).error("action has no end", hint="every {{ needs its }}")

    def _unexpected(self, offset: int) -> TemplateError:
        character = self._text[offset : offset + 1]
        position = self.position(offset)
        if character in _NOT_YET:
            return position.error(f"{_NOT_YET[character]} not supported yet")
        return position.error(f"unexpected character {character!a}", hint=_DASH if character == "-" else "")
