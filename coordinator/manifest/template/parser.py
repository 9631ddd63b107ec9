"""Tokens of a template to its tree.

    pipeline = command { "|" command }      the value goes to the next command as its last argument
    command  = function { operand } | operand
    operand  = ( "." | field | string | number | "(" pipeline ")" ) { field }

Arguments are separated by white space. Go's control words and further builtins are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from coordinator.manifest.template.functions import FUNCTIONS
from coordinator.manifest.template.lexer import Lexer, Token, TokenKind
from coordinator.manifest.template.literals import unquote
from coordinator.manifest.template.nodes import Access, Call, Expression, Literal, Node, Output, Position, Text

MAX_PARTS = 50  # operands and functions of one action; bounds recursion and what a chain of functions can cost

_WHOLE_NUMBER = re.compile(r"[+-]?(0|[1-9]\d{0,18})", re.ASCII)
_GO_WORDS_NOT_YET = re.compile(
    "if|else|end|range|with|define|template|block|break|continue|nil|true|false"
    "|and|call|html|index|slice|not|len|or|print|printf|println|urlquery|eq|ge|gt|le|lt|ne"
)
_BEGINS_OPERAND = frozenset({TokenKind.DOT, TokenKind.FIELD, TokenKind.STRING, TokenKind.NUMBER, TokenKind.OPEN})


def parse_nodes(text: str) -> tuple[Node, ...]:
    """Parse a whole template.

    Raises:
        TemplateError: with line and column.
    """
    tokens = iter(Lexer(text))
    return tuple(
        Text(token.text) if token.kind is TokenKind.TEXT else Output(_Action(tokens).expression()) for token in tokens
    )


class _Action:
    """Recursive descent over the tokens between one `{{` and its `}}`."""

    def __init__(self, tokens: Iterator[Token]) -> None:
        self._tokens = tokens
        self._next = next(tokens)
        self._parts = 0

    def expression(self) -> Expression:
        expression = self._pipeline()
        if self._next.kind is not TokenKind.END:
            raise self._next.position.error(f"unexpected {self._next.text!a}")
        return expression

    def _take(self) -> Token:
        token = self._next
        if token.kind is not TokenKind.END:
            self._next = next(self._tokens)
        return token

    def _pipeline(self) -> Expression:
        value = self._command(piped=None)
        while self._next.kind is TokenKind.PIPE:
            self._take()
            value = self._command(piped=value)
        return value

    def _command(self, *, piped: Expression | None) -> Expression:
        token = self._next
        if token.kind is TokenKind.WORD:
            return self._call(piped)
        if token.kind not in _BEGINS_OPERAND:
            raise token.position.error(f"value or function expected before {token.text!a}")
        operand = self._operand()
        if piped is not None:
            raise token.position.error("only a function can stand after a pipe")
        if self._next.kind in _BEGINS_OPERAND or self._next.kind is TokenKind.WORD:
            raise self._next.position.error("argument for something that is not a function")
        return operand

    def _call(self, piped: Expression | None) -> Expression:
        token = self._take()
        self._count(token.position)
        _check_function(token)
        arguments: list[Expression] = []
        while self._next.kind in _BEGINS_OPERAND:
            if not self._next.spaced:
                raise self._next.position.error("white space expected before an argument")
            arguments.append(self._operand())
        if self._next.kind is TokenKind.WORD:
            raise self._next.position.error("function as an argument", hint="put it in parentheses")
        if piped is not None:
            arguments.append(piped)
        if len(arguments) != 1:
            raise token.position.error(f"{token.text} has {len(arguments)} arguments, it takes one")
        return Call(token.text, tuple(arguments), token.position)

    def _operand(self) -> Expression:
        token = self._take()
        self._count(token.position)
        term = self._term(token)
        names: list[str] = []
        while self._next.kind is TokenKind.FIELD and not self._next.spaced:
            names.append(self._take().text[1:])
        if not names:
            return term
        match term:
            case Access():
                return Access(term.base, (*term.names, *names), term.position)
            case Call():
                return Access(term, tuple(names), token.position)
            case Literal():
                raise token.position.error("a literal has no fields")

    def _term(self, token: Token) -> Expression:
        match token.kind:
            case TokenKind.DOT:
                return Access(None, (), token.position)
            case TokenKind.FIELD:
                return Access(None, (token.text[1:],), token.position)
            case TokenKind.STRING:
                return Literal(unquote(token.text, token.position), token.position)
            case TokenKind.NUMBER:
                return Literal(_whole_number(token), token.position)
            case _:
                value = self._pipeline()
                if self._take().kind is not TokenKind.CLOSE:
                    raise token.position.error("parenthesis is not closed")
                return value

    def _count(self, position: Position) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise position.error(f"action has more than {MAX_PARTS} parts")


def _check_function(token: Token) -> None:
    name = token.text
    if _GO_WORDS_NOT_YET.fullmatch(name):
        raise token.position.error(f'"{name}" is not supported yet')
    if name not in FUNCTIONS:
        raise token.position.error(
            f"function {name[:80]!a} does not exist", hint=f"there are {', '.join(sorted(FUNCTIONS))}"
        )


def _whole_number(token: Token) -> int:
    if not _WHOLE_NUMBER.fullmatch(token.text):
        raise token.position.error(f"number {token.text[:80]!a} is not supported yet, only whole decimal numbers")
    return int(token.text)
