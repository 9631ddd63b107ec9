"""What no template can do: exhaust the coordinator, raise another error, or make secrets that it does not use."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from template_material import DATA, KEY, MARBLERUN, SECRETS, refusal, render, secret

from confidential_bookstore.errors import StateError, TemplateError
from coordinator.manifest.template import TemplateKind, parse_template, template_data
from coordinator.secret_value import SecretType, SecretValue

LARGE = template_data({"key": secret(SecretType.SYMMETRIC_KEY, b"k" * 1_500_000)}, {})
MILLION = '{{ $x := printf "%1000000d" 1 }}'


class LazySecrets(Mapping[str, SecretValue]):
    """Makes a secret when it is looked up, and remembers which."""

    def __init__(self, secrets: Mapping[str, SecretValue]) -> None:
        self.made: list[str] = []
        self._secrets = secrets

    def __getitem__(self, name: str) -> SecretValue:
        value = self._secrets[name]
        self.made.append(name)
        return value

    def __iter__(self) -> Iterator[str]:
        return iter(self._secrets)

    def __len__(self) -> int:
        return len(self._secrets)


class UnavailableSecrets(LazySecrets):
    """Has a secret without a value."""

    def __getitem__(self, name: str) -> SecretValue:
        raise StateError(f'secret "{name}" has no value yet')


class TestLazySecrets:
    @pytest.mark.parametrize(
        ("text", "made"),
        [
            ("text {{ 1 }}", []),
            ("{{ hex .Secrets.key }}", ["key"]),
            ("{{ if false }}{{ hex .Secrets.tls }}{{ end }}{{ .Secrets.key.Size }}", ["key"]),
            ("{{ with .Secrets }}{{ .key.Type }}{{ end }}", ["key"]),
            ('{{ and "" .Secrets.tls.Type }}{{ or 1 .Secrets.tls.Type }}', []),
            ("{{ len .Secrets }}{{ if .Secrets }}{{ end }}{{ .Secrets.nothing }}", []),
            ('{{ index .Secrets "key" | hex }}', ["key"]),
            (
                "{{ range $name, $secret := .Secrets }}{{ if eq $name `empty` }}{{ break }}{{ end }}{{ end }}",
                ["a-b", "empty"],
            ),
            ("{{ range .Secrets }}{{ .Type }}{{ end }}", ["a-b", "empty", "key", "note", "tls"]),
        ],
    )
    def test_only_what_is_looked_up_is_made(self, text, made):
        secrets, previous = LazySecrets(SECRETS), LazySecrets(SECRETS)
        render(text, data=template_data(secrets, MARBLERUN, previous))
        assert secrets.made == made
        assert previous.made == []

    def test_previous_secrets_are_other_ones(self):
        secrets, previous = LazySecrets(SECRETS), LazySecrets({"key": secret(SecretType.PLAIN, b"old")})
        data = template_data(secrets, MARBLERUN, previous)
        assert render("{{ hex .Previous.Secrets.key }}{{ .Previous.Secrets.tls }}", data=data) == b"6f6c64<no value>"
        assert (secrets.made, previous.made) == ([], ["key"])

    def test_without_previous_secrets_they_are_the_current_ones(self):
        assert render("{{ hex .Previous.Secrets.key }}") == KEY.hex().encode()

    def test_the_error_of_a_lookup_passes_through(self):
        data = template_data(UnavailableSecrets(SECRETS), MARBLERUN)
        with pytest.raises(StateError, match='secret "note" has no value yet'):
            render("{{ raw .Secrets.note }}", data=data)


class TestSteps:
    @pytest.mark.parametrize(
        "text",
        [
            "{{ range 1000000 }}{{ end }}",
            "{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}",
            "{{ range 1000000 }}{{ continue }}{{ end }}",
            "{{ range 1000 }}" + "x{{/**/}}" * 1000 + "{{ end }}",
            "{{ range 1000 }}{{ print " + "(len ``) " * 300 + "}}{{ end }}",
            '{{ define "x" }}' + '{{ template "y" . }}' * 600 + '{{ end }}{{ define "y" }}'
            '{{ range 600 }}{{ . }}{{ end }}{{ end }}{{ template "x" }}',
            MILLION + "{{ range 100 }}{{ $y := html $x }}{{ end }}",
            MILLION + "{{ range 100 }}{{ if eq $x $x }}{{ end }}{{ end }}",
            MILLION + '{{ range 100 }}{{ $y := printf "%q" $x }}{{ end }}',
            '{{ $x := "%d" }}{{ range 12 }}{{ $x = print $x $x }}{{ end }}{{ range 99 }}{{ $y := printf $x }}{{ end }}',
            '{{ range 1000 }}{{ $y := printf "%.999999f" 1e300 }}{{ end }}',
        ],
    )
    def test_they_are_bounded(self, text):
        began = time.process_time()
        assert "more than 200000 steps" in str(refusal(text))
        assert time.process_time() - began < 10

    def test_secrets_are_counted_before_they_are_sorted(self):
        many = template_data({f"s{number}": SECRETS["key"] for number in range(1000)}, {})
        text = "{{ range 1000 }}{{ range $.Secrets }}{{ break }}{{ end }}{{ end }}"
        assert "more than 200000 steps" in str(refusal(text, data=many))

    def test_what_a_template_needs_is_far_below(self):
        assert (
            render("{{ range 10000 }}{{ if eq . 9999 }}{{ hex $.Secrets.key }}{{ end }}{{ end }}") == KEY.hex().encode()
        )


class TestSize:
    def test_of_what_is_written(self):
        assert len(render("{{ hex .Secrets.key }}", data=LARGE)) == 3_000_000
        assert "more than 4194304 bytes" in str(refusal("{{ hex .Secrets.key }}" * 2, data=LARGE))
        assert "more than 4194304 bytes" in str(refusal("{{ range 5 }}" + "x" * 1_000_000 + "{{ end }}"))

    @pytest.mark.parametrize(
        "text",
        [
            '{{ printf "%1000000d%1000000d%1000000d%1000000d%1000000d" 1 1 1 1 1 }}',
            '{{ $x := printf "%4000000.1000000d%1000000d" 1 1 }}{{ printf "%x%x%x%x%x" $x $x $x $x $x }}'
            + MILLION
            + '{{ printf "%x%x%x" $x $x $x }}',
        ],
    )
    def test_of_what_is_made_on_the_way(self, text):
        assert "more than 4194304 bytes" in str(refusal(text))

    @pytest.mark.parametrize(
        "text",
        [
            "{{ `" + "\\" * 64 + "`" + " | js" * 30 + " }}",
            "{{ $x := `abcdefgh` }}{{ range 30 }}{{ $x = print $x $x }}{{ end }}",
        ],
    )
    def test_of_what_grows(self, text):
        assert "template takes more than 200000 steps" in str(refusal(text))

    def test_of_a_width(self):
        assert len(render('{{ printf "%1000000d" 1 }}')) == 1_000_000
        assert render('{{ printf "%10000010d" 1 }}') == b"%!(NOVERB)%!(EXTRA int=1)"

    def test_of_a_format(self):
        text = '{{ $x := "%%" }}{{ range 14 }}{{ $x = print $x $x }}{{ end }}{{ printf $x }}'
        assert "more than 10000 verbs" in str(refusal(text))

    def test_of_a_template(self):
        assert len(render("x" * 4_194_304)) == 4_194_304
        assert "longer than 4194304 characters" in str(refusal("x" * 4_194_305))
        assert "more than 200000 tokens" in str(refusal("{{ 1 }}" * 100_001))
        assert "more than 400 characters" in str(refusal("{{ 1" + "0" * 400 + ".0 }}"))


class TestDepth:
    def test_of_parentheses(self):
        assert render("{{ " + "(" * 50 + "1" + ")" * 50 + " }}") == b"1"
        assert render("{{ " + "(print " * 50 + "1" + ")" * 50 + " }}") == b"1"
        assert "deeper than 50" in str(refusal("{{ " + "(" * 51 + "1" + ")" * 51 + " }}"))
        assert "deeper than 50" in str(refusal("{{ " + "(" * 100_000 + " }}"))

    def test_of_control_structures(self):
        assert render("{{ if 1 }}" * 100 + "x" + "{{ end }}" * 100) == b"x"
        assert "deeper than 100" in str(refusal("{{ if 1 }}" * 101 + "{{ end }}" * 101))

    def test_of_templates(self):
        body = '{{ if lt (len .) %d }}{{ template "x" (print . "x") }}{{ end }}'
        calls = '{{ define "x" }}' + body + '{{ end }}{{ template "x" "" }}y'
        assert render(calls % 99) == b"y"
        assert "exceeded maximum template depth (100)" in str(refusal(calls % 100))

    def test_of_everything_together(self):
        nested = "{{ with 1 }}" * 99 + '{{ template "x" ' + "(" * 50 + "1" + ")" * 50 + "}}" + "{{ end }}" * 99
        text = '{{ define "x" }}' + nested + '{{ end }}{{ template "x" }}'
        assert "exceeded maximum template depth (100)" in str(refusal(text))

    def test_chains_are_not_nesting(self):
        assert render("{{ if 0 }}" + "{{ else if 0 }}" * 5000 + "{{ else }}x{{ end }}") == b"x"
        assert render("{{ 1" + " | print" * 900 + " }}") == b"1"
        assert "more than 1000 parts" in str(refusal("{{ 1" + " | print" * 1000 + " }}"))
        assert render("{{ .Secrets.nothing" + ".x" * 10_000 + " }}") == b"<no value>"


@pytest.mark.parametrize(
    "text",
    [
        "x\n{{ 1 -}}\n" * 50_000,
        "{{ 1 }}" + '"' * 500_000 + "{{ " + '"\\"' * 100_000,
        "{{" + "1." * 1_000_000,
        "{{" + "0x1e" * 1_000_000,
        "{{" + " " * 2_000_000,
        "{{" + " -" * 1_000_000,
        "{{ '" + "\\'" * 500_000,
        "{{ `" + "`" * 1_000_000,
        "{{/*" * 1_000_000,
        "".join(f"{{{{ $x{number} := 1 }}}}" for number in range(40_000)) + "{{ range 1000 }}{{ $x0 }}{{ end }}",
        "{{ if 0 }}" + "{{ else if 0 }}" * 40_000 + "{{ end }}",
        '{{ define "x" }}{{ end }}' * 20_000,
        '{{ define "x" }}' + " {{/**/}}" * 100_000 + "{{ 1 }}{{ end }}" + '{{ define "x" }}{{ end }}' * 20_000,
        '{{ printf "%[" }}' * 20_000,
    ],
)
def test_time_is_linear_in_the_length(text):
    began = time.process_time()
    render_or_error(text, TemplateKind.FILE)
    assert time.process_time() - began < 10


def test_an_error_never_has_a_byte_of_a_secret():
    assert str(refusal('{{ index "abc" (index .Secrets.tls.Private 0) }}')).endswith("index: index out of range")
    assert "112" not in refusal('{{ slice "abc" (index .Secrets.tls.Private 0) }}').diagnostics()
    assert "private" not in refusal('{{ eq 1 (printf "%s" .Secrets.tls.Private) }}').diagnostics()


WORDS = [
    *"{}().|-+\"`'$:=/*\\, \n\t%",
    *(
        "{{",
        "}}",
        "{{- ",
        " -}}",
        "/*",
        "*/",
        "{{/*",
        "*/}}",
        '"x"',
        "`y`",
        "'z'",
        "\\x41",
        "7",
        "0x1",
        "1.5",
        "é",
        "\udcff",
    ),
    *(".Secrets", ".key", ".tls", ".Cert", ".Private", ".Size", ".MarbleRun", ".RootCA", ".Previous", ".nothing"),
    *(" hex", " pem", " js", " raw", " string", " base64", " printf", " print", " len", " index", " slice", " nothing"),
    *(
        " and",
        " or",
        " not",
        " eq",
        " lt",
        " call",
        " html",
        " urlquery",
        " true",
        " false",
        " nil",
        '"%d"',
        '"%[2]*.3x"',
    ),
    *(
        "$x",
        "$",
        " := ",
        " = ",
        "if ",
        "else ",
        "end",
        "range ",
        "with ",
        "template ",
        "define ",
        "block ",
        "break",
        "continue",
    ),
]
STRUCTURES = [
    *("{{ if 1 }}", "{{ else }}", "{{ end }}", "{{ range .Secrets }}", "{{ range 3 }}", "{{ with .Secrets.key }}"),
    *(
        "{{ $x := 1 }}",
        "{{ $x = 2 }}",
        "{{ $x }}",
        "{{ . }}",
        "{{ break }}",
        "{{ continue }}",
        "{{ else if 0 }}",
        " text ",
    ),
    *('{{ define "x" }}', '{{ template "x" . }}', '{{ block "y" $ }}', "{{ range $i, $e := .Private }}", "{{ hex . }}"),
]
words = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)
structures = st.lists(st.sampled_from(STRUCTURES), max_size=25).map("".join)
actions = st.lists(st.sampled_from(WORDS), max_size=25).map(lambda parts: f"{{{{ {''.join(parts)} }}}}")


@given(words | st.text() | structures | actions, st.sampled_from(TemplateKind))
@example("{{ js }}", TemplateKind.FILE)
@example('{{ define "x" }}{{ template "x" }}{{ end }}{{ template "x" }}', TemplateKind.ENV)
def test_nothing_but_bytes_or_a_template_error(text, kind):
    outcome = render_or_error(text, kind)
    if isinstance(outcome, TemplateError):
        lines = text.split("\n")
        assert 1 <= outcome.line <= len(lines)
        assert 1 <= outcome.column <= len(lines[outcome.line - 1]) + 1
    else:
        assert isinstance(outcome, bytes)


@given(
    st.text(alphabet="%vdsqxXtbocUeEfFgGT0123456789[]*.+-# é", max_size=20),
    st.lists(st.sampled_from(["$a", "$b", "$c", "$d", "$e"])),
)
def test_any_format_gives_bytes_or_a_template_error(template, arguments):
    """`printf` with any format and any values."""
    text = (
        "{{ $a := 65 }}{{ $b := `text` }}{{ $c := -2.5 }}{{ $d := .Secrets.key.Private }}{{ $e := .Secrets.nothing }}"
        f"{{{{ printf `{template}` {' '.join(arguments)} }}}}"
    )
    outcome = render_or_error(text, TemplateKind.FILE)
    assert isinstance(outcome, bytes) or "not printed as it is" in str(outcome)


@given(structures)
def test_rendering_again_gives_the_same(text):
    try:
        template = parse_template(text)
        first = template.render(DATA, TemplateKind.FILE)
    except TemplateError:
        return
    assert template.render(DATA, TemplateKind.FILE) == first


def render_or_error(text: str, kind: TemplateKind) -> bytes | TemplateError:
    try:
        return render(text, kind)
    except TemplateError as error:
        return error
