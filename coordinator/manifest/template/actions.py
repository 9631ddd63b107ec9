"""The tokens of an action to an expression.

    pipeline = [ names ( ":=" | "=" ) ] command { "|" command }
    names    = variable [ "," variable ]                    two of them after `range` only
    command  = function { operand } | operand               after a "|": functions only
    operand  = term { field }                               fields stand right behind it
    term     = "." | field | variable | literal | function | "(" pipeline ")"

Arguments are separated by white space. A function's number of arguments is known here, so it is checked here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping

from coordinator.manifest.template.functions import FUNCTIONS
from coordinator.manifest.template.lexer import Action, Token, TokenKind
from coordinator.manifest.template.literals import character, number, unquote
from coordinator.manifest.template.nodes import Access, Call, Dot, Expression, Literal, Pipeline, Position, Variable

MAX_PARTS = 1000  # operands of one action
MAX_PARENTHESES = 50  # inside of each other; parsing and evaluating them is recursive

_BEGINS_OPERAND = frozenset(
    {
        TokenKind.DOT,
        TokenKind.FIELD,
        TokenKind.VARIABLE,
        TokenKind.WORD,
        TokenKind.STRING,
        TokenKind.CHARACTER,
        TokenKind.NUMBER,
        TokenKind.OPEN,
    }
)
_ENDS_COMMAND = frozenset({TokenKind.END, TokenKind.CLOSE, TokenKind.PIPE})
KEYWORDS = frozenset({"block", "break", "continue", "define", "else", "end", "if", "range", "template", "with"})
_LITERALS: Mapping[TokenKind, Callable[[str, Position], bytes | int | float]] = {
    TokenKind.STRING: unquote,
    TokenKind.CHARACTER: character,
    TokenKind.NUMBER: number,
}
_CONSTANTS: Mapping[str, bool | None] = {"true": True, "false": False, "nil": None}


class Variables:
    """Names of the variables that may be used at a place of a template."""

    def __init__(self) -> None:
        self._names = ["$"]
        self._count = Counter(self._names)

    def declare(self, name: str) -> None:
        """From here on `name` may be used."""
        self._names.append(name)
        self._count[name] += 1

    def __contains__(self, name: str) -> bool:
        return self._count[name] > 0

    def mark(self) -> int:
        """For `forget`."""
        return len(self._names)

    def forget(self, mark: int) -> None:
        """Back to what there was at the mark."""
        self._count.subtract(self._names[mark:])
        del self._names[mark:]


class ActionParser:
    """Recursive descent over the tokens of one action; what it finds is added to `variables` and `calls`."""

    def __init__(self, action: Action, variables: Variables, calls: list[Call]) -> None:
        self._tokens = action
        self._offset = 0
        self._variables = variables
        self._calls = calls
        self._parts = 0
        self._depth = 0

    @property
    def next(self) -> Token:
        """The token that `take` takes."""
        return self._tokens[self._offset]

    def take(self) -> Token:
        """The next token; END is never left behind."""
        token = self.next
        if token.kind is not TokenKind.END:
            self._offset += 1
        return token

    def end(self, context: str) -> None:
        """Raises TemplateError if something is left."""
        if self.next.kind is not TokenKind.END:
            raise self.next.position.error(f"unexpected {self.next.text[:80]!a} in {context}")

    def pipeline(self, context: str) -> Pipeline:
        """Everything up to the end of the action, or up to a closing parenthesis.

        Raises:
            TemplateError: with line and column.
        """
        position = self.next.position
        names, assigns = self._names(context)
        commands: list[Expression] = []
        while self.next.kind not in (TokenKind.END, TokenKind.CLOSE):
            commands.append(self._command(context, piped=bool(commands)))
            if self.next.kind is TokenKind.PIPE:
                self.take()  # Go takes one at the end, too
        if not commands:
            raise self.next.position.error(f"missing value for {context}")
        if not self._depth:
            self.end(context)
        return Pipeline(tuple(commands), names, assigns, position)

    def _names(self, context: str) -> tuple[tuple[str, ...], bool]:
        """Variables that get the pipeline's value, and whether they exist already."""
        if self.next.kind is not TokenKind.VARIABLE:
            return (), False
        names: list[str] = []
        following = self._tokens[self._offset + 1].kind
        while following is TokenKind.COMMA:
            comma = self._tokens[self._offset + 1]
            if context != "range" or names:
                raise comma.position.error(f"too many declarations in {context}")
            names.append(self.take().text)
            self.take()
            if self.next.kind is not TokenKind.VARIABLE:
                raise self.next.position.error("range can only initialize variables")
            following = self._tokens[self._offset + 1].kind
        if following not in (TokenKind.DECLARE, TokenKind.ASSIGN):
            if names:
                raise self.next.position.error("':=' expected after the variables of range")
            return (), False
        names.append(self.take().text)
        self.take()
        for name in names:
            self._variables.declare(name)
        return tuple(names), following is TokenKind.ASSIGN

    def _command(self, context: str, *, piped: bool) -> Expression:
        first = self.next
        if first.kind not in _BEGINS_OPERAND:
            raise first.position.error(f"unexpected {first.text[:80]!a} in {context}")
        operands = [self._operand()]
        while self.next.kind not in _ENDS_COMMAND:
            if self.next.kind not in _BEGINS_OPERAND:
                raise self.next.position.error(f"unexpected {self.next.text[:80]!a} in operand")
            if not self.next.spaced:
                raise self.next.position.error("white space expected before an argument")
            operands.append(self._operand())
        command, *arguments = operands
        if isinstance(command, Call):
            command = Call(command.function, tuple(arguments), command.position)
        elif piped or arguments:
            raise first.position.error(f"can't give argument to non-function {first.text[:80]!a}")
        elif isinstance(command, Literal) and command.value is None:
            raise first.position.error("nil is not a command")
        return self._checked(command, piped=piped, arguments=arguments)

    def _checked(self, command: Expression, *, piped: bool, arguments: list[Expression]) -> Expression:
        for expression in (command, *arguments):
            if isinstance(expression, Call):
                is_command = expression is command
                _check_arguments(expression, len(expression.arguments) + (piped and is_command))
                self._calls.append(expression)
        return command

    def _operand(self) -> Expression:
        token = self.take()
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise token.position.error(f"action has more than {MAX_PARTS} parts")
        term = self._term(token)
        names = [token.text[1:]] if token.kind is TokenKind.FIELD else []
        while self.next.kind is TokenKind.FIELD and not self.next.spaced:
            names.append(self.take().text[1:])
        if not names:
            return term
        if isinstance(term, Literal) or token.kind is TokenKind.DOT:
            raise token.position.error(f"unexpected '.' after term {token.text[:80]!a}")
        if isinstance(term, Call):
            self._checked(term, piped=False, arguments=[])
        return Access(term, tuple(names), token.position)

    def _term(self, token: Token) -> Expression:
        position = token.position
        match token.kind:
            case TokenKind.DOT | TokenKind.FIELD:
                return Dot(position)
            case TokenKind.VARIABLE:
                if token.text not in self._variables:
                    raise position.error(f"undefined variable {token.text[:80]!a}")
                return Variable(token.text, position)
            case TokenKind.STRING | TokenKind.CHARACTER | TokenKind.NUMBER:
                return Literal(_LITERALS[token.kind](token.text, position), position)
            case TokenKind.WORD:
                return _word(token)
            case _:
                return self._parentheses(position)

    def _parentheses(self, position: Position) -> Expression:
        self._depth += 1
        if self._depth > MAX_PARENTHESES:
            raise position.error(f"parentheses nest deeper than {MAX_PARENTHESES}")
        value = self.pipeline("parenthesized pipeline")
        if self.take().kind is not TokenKind.CLOSE:
            raise position.error("parenthesis is not closed")
        self._depth -= 1
        return value


def _word(token: Token) -> Expression:
    name = token.text
    if name in _CONSTANTS:
        return Literal(_CONSTANTS[name], token.position)
    if name in KEYWORDS:
        raise token.position.error(f'unexpected "{name}": it stands only at the beginning of an action')
    if name not in FUNCTIONS:
        raise token.position.error(
            f"function {name[:80]!a} not defined", hint=f"there are {', '.join(sorted(FUNCTIONS))}"
        )
    return Call(name, (), token.position)


def _check_arguments(call: Call, count: int) -> None:
    function = FUNCTIONS[call.function]
    if function.minimum <= count and (function.maximum is None or count <= function.maximum):
        return
    wanted = f"{'at least ' if function.maximum is None else ''}{function.minimum}"
    raise call.position.error(f"wrong number of args for {call.function}: want {wanted} got {count}")
