"""Characters of a template to text and actions, and actions to tokens.

Source: the documentation of Go's text/template. Trim markers and comments are gone from what comes out.
"""

from __future__ import annotations

import bisect
import enum
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from confidential_bookstore.errors import TemplateError
from coordinator.manifest.template.nodes import Position, Text

MAX_TOKENS = 200_000  # of a template

_SPACES = " \t\r\n"
_TOKEN = re.compile(
    r"""(?P<number>[+-]?(?:
            0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
            |(?=\.?[0-9])[0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?
        )\w*)
    |(?P<field>\.[^\W]\w*)
    |(?P<dot>\.)
    |(?P<variable>\$\w*)
    |(?P<word>[^\W\d]\w*)
    |(?P<string>"(?:[^"\\\n]|\\[^\n])*+"|`[^`]*+`)
    |(?P<character>'(?:[^'\\\n]|\\[^\n])*+')
    |(?P<declare>:=)
    |(?P<assign>=)
    |(?P<comma>,)
    |(?P<pipe>\|)
    |(?P<open>\()
    |(?P<close>\))""",
    re.VERBOSE,
)
_END_OF_ACTION = re.compile(r"[ \t\r\n]+-\}\}|\}\}")
_END_OF_COMMENT = re.compile(r"[ \t\r\n]-\}\}|\}\}")
_SPACE = re.compile(r"[ \t\r\n]+")
_AFTER_A_WORD = frozenset(["", *_SPACES, *".,|:()}"])
_NAMES = frozenset({"field", "word", "variable"})
_UNTERMINATED = {'"': "string has no end", "`": "string has no end", "'": "character constant has no end"}

_DASH = "a name with '-' in it is reached with index, for example: index .Secrets \"my-key\""


class TokenKind(enum.Enum):
    """What a token is."""

    END = "}}"
    FIELD = "field"
    DOT = "dot"
    VARIABLE = "variable"
    NUMBER = "number"
    CHARACTER = "character"
    WORD = "word"
    STRING = "string"
    DECLARE = "declare"
    ASSIGN = "assign"
    COMMA = "comma"
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


Action: TypeAlias = list[Token]  # the tokens between the braces; the last one is END


class Lexer:
    """Iterates over the texts and actions of one template, in one pass.

    Raises:
        TemplateError: at the first character that no token begins with, or an action or comment that never ends.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = 0
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]

    def position(self, offset: int) -> Position:
        """Line and column of an offset."""
        line = bisect.bisect_right(self._line_starts, offset)
        return Position(line, offset - self._line_starts[line - 1] + 1)

    def __iter__(self) -> Iterator[Text | Action]:
        start, trim_start = 0, False
        while (begin := self._text.find("{{", start)) >= 0:
            inside = begin + 2
            trim_end = self._text.startswith("-", inside) and self._text[inside + 1 : inside + 2] in tuple(_SPACES)
            if trim_end:
                inside += 2
            yield from self._outside(start, begin, trim_start=trim_start, trim_end=trim_end)
            if self._text.startswith("/*", inside):
                start = self._comment_end(begin, inside)
            else:
                start, action = self._action(begin, inside)
                yield action
            trim_start = self._text[start - 3] == "-"
        yield from self._outside(start, len(self._text), trim_start=trim_start, trim_end=False)

    def _outside(self, start: int, end: int, *, trim_start: bool, trim_end: bool) -> Iterator[Text]:
        text = self._text[start:end]
        if trim_start:
            text = text.lstrip(_SPACES)
        if trim_end:
            text = text.rstrip(_SPACES)
        if text:
            yield Text(text.encode(errors="surrogateescape"), self.position(start))

    def _comment_end(self, begin: int, start: int) -> int:
        close = self._text.find("*/", start + 2)
        if close < 0:
            raise self.position(begin).error("comment has no end")
        end = _END_OF_COMMENT.match(self._text, close + 2)
        if end is None:
            raise self.position(close).error("comment does not end right before the closing braces")
        return end.end()

    def _action(self, begin: int, start: int) -> tuple[int, Action]:
        """The offset behind the closing braces, and the tokens before it."""
        action: Action = []
        offset, spaced = start, False
        while offset < len(self._text):
            if end := _END_OF_ACTION.match(self._text, offset):
                action.append(self._token(TokenKind.END, end.end() - 2, end.end()))
                return end.end(), action
            if space := _SPACE.match(self._text, offset):
                offset, spaced = space.end(), True
                continue
            match = _TOKEN.match(self._text, offset)
            if match is None or match.lastgroup is None:
                raise self._unexpected(offset)
            if match.lastgroup in _NAMES and self._text[match.end() : match.end() + 1] not in _AFTER_A_WORD:
                raise self._unexpected(match.end())
            action.append(self._token(TokenKind(match.lastgroup), offset, match.end(), spaced=spaced))
            offset, spaced = match.end(), False
        raise self.position(begin).error("action has no end", hint="every {{ needs its }}")

    def _token(self, kind: TokenKind, start: int, end: int, *, spaced: bool = False) -> Token:
        self._tokens += 1
        if self._tokens > MAX_TOKENS:
            raise self.position(start).error(f"template has more than {MAX_TOKENS} tokens")
        return Token(kind, self._text[start:end], self.position(start), spaced)

    def _unexpected(self, offset: int) -> TemplateError:
        character = self._text[offset : offset + 1]
        position = self.position(offset)
        if (message := _UNTERMINATED.get(character)) and not _TOKEN.match(self._text, offset):
            return position.error(message)
        return position.error(f"unexpected character {character!a}", hint=_DASH if character == "-" else "")
