"""Control structures, variables and templates in templates: what Go writes, and what it refuses."""

from __future__ import annotations

import pytest
from template_material import refusal, render


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{if true}}a{{end}}", b"a"),
        ("{{if false}}a{{else}}b{{end}}", b"b"),
        ("{{if 0}}a{{else if 1}}b{{else}}c{{end}}", b"b"),
        ("{{if 0}}a{{else if 0}}b{{else}}c{{end}}", b"c"),
        ('{{if ""}}a{{else if ""}}b{{end}}', b""),
        ("{{if .Secrets}}y{{end}}", b"y"),
        ("{{if .Secrets.nope}}y{{else}}n{{end}}", b"n"),
        ("{{if .Secrets.key}}y{{end}}", b"y"),
        ("{{if .Secrets.key.Cert}}y{{end}}", b"y"),
        ("{{if .Secrets.empty.Private}}y{{else}}n{{end}}", b"n"),
        ("{{if .MarbleRun}}y{{end}}", b"y"),
        ("{{if 0.0}}y{{else}}n{{end}}", b"n"),
        ("{{if .Secrets.nope.Private.x}}y{{else}}n{{end}}", b"n"),
        ('{{if (index .Secrets "nope")}}y{{end}}', b"y"),
        ("{{if $x := 1}}{{$x}}{{end}}", b"1"),
        ("{{if $x := 0}}{{else}}{{$x}}{{end}}", b"0"),
        ("{{if $x := 0}}{{else if $y := 2}}{{$x}}{{$y}}{{end}}", b"02"),
    ],
)
def test_conditions(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{if true}}{{else}}{{else}}{{end}}", "unexpected {{else}}"),
        ("{{if}}{{end}}", "missing value for if"),
        ("{{if true}}", '"if" has no end'),
        ("{{end}}", "unexpected {{end}}"),
        ("{{else}}", "unexpected {{else}}"),
        ("{{if true}}{{end}}{{end}}", "unexpected {{end}}"),
        ("{{if nil}}y{{end}}", "nil is not a command"),
        ("{{if $x := 1}}{{end}}{{$x}}", "undefined variable '$x'"),
        ("{{else if 1}}{{end}}", "unexpected {{else}}"),
        ("{{if 1 else}}{{end}}", 'unexpected "else": it stands only at the beginning of an action'),
    ],
)
def test_refused_conditions(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{with 3}}{{.}}{{end}}", b"3"),
        ("{{with $x := 3}}{{$x}}{{.}}{{end}}", b"33"),
        ("{{with .Secrets.key}}{{hex .}}{{end}}", b"000102030405060708090a0b0c0d0e0f"),
        ("{{with .Secrets}}{{.key.Size}}{{end}}", b"128"),
        ("{{with $}}{{hex .Secrets.key}}{{end}}", b"000102030405060708090a0b0c0d0e0f"),
        ("{{with 1}}{{with 2}}{{.}}{{end}}{{.}}{{end}}", b"21"),
        ("{{with 1}}{{$.Secrets.key.Size}}{{end}}", b"128"),
    ],
)
def test_with(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "{{with 0}}{{.}}{{else}}{{print . | len}}{{end}}",
            "print: a secret is not printed as it is: it needs a function",
        ),
    ],
)
def test_refused_with(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{{range $i, $b := .Secrets.key.Private}}{{$i}}={{$b}},{{end}}",
            b"0=0,1=1,2=2,3=3,4=4,5=5,6=6,7=7,8=8,9=9,10=10,11=11,12=12,13=13,14=14,15=15,",
        ),
        ("{{range .Secrets.key.Private}}{{.}} {{end}}", b"0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 "),
        ("{{range .Secrets.empty.Private}}{{.}}{{else}}none{{end}}", b"none"),
        (
            "{{range $k, $v := .Secrets}}{{$k}}:{{$v.Type}} {{end}}",
            b"a-b:symmetric-key empty:plain key:symmetric-key note:plain tls:cert-rsa ",
        ),
        ("{{range .Secrets}}{{.Size}} {{end}}", b"8 0 128 0 2048 "),
        ("{{range .Secrets.nope}}x{{else}}y{{end}}", b"y"),
        (
            "{{range .Secrets.key.Private}}{{if eq . 3}}{{continue}}{{end}}{{if eq . 5}}{{break}}{{end}}{{.}}{{end}}",
            b"0124",
        ),
        ("{{range .Secrets}}{{range .Private}}{{break}}{{end}}{{.Type}}{{break}}{{end}}", b"symmetric-key"),
        ("{{range .Secrets}}{{if true}}{{with 1}}{{break}}{{end}}{{end}}{{end}}x", b"x"),
        ("{{$x := 1}}{{range $x = .Secrets.key.Private}}{{$x}}{{end}}{{$x}}", b"012345678910111213141515"),
        (
            "{{$i := 0}}{{$x := 1}}{{range $i, $x = .Secrets.key.Private}}{{$x}}{{end}}{{$i}}{{$x}}",
            b"01234567891011121314151515",
        ),
        ("{{range $x := .Secrets.empty.Private}}{{else}}{{len $x}}{{end}}", b"0"),
        ("{{range $i, $x := .Secrets.empty.Private}}{{else}}{{len $x}}{{len $i}}{{end}}", b"00"),
        ("{{range $x, $x := .Secrets.key.Private}}{{$x}}{{end}}", b"0123456789101112131415"),
        ("{{range $i, $e := .Secrets.key.Private}}{{$i = 3}}{{$i}}{{end}}", b"3333333333333333"),
        ("{{range (slice .Secrets.key.Private 1 3)}}{{.}}{{end}}", b"12"),
        ("{{range .Secrets}}{{ break }}{{end}}", b""),
        ("{{range .Secrets}}{{break -}} x{{end}}", b""),
        ("{{range $k, $v := .Secrets}}{{$k}}{{end}}", b"a-bemptykeynotetls"),
    ],
)
def test_range(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{range "abc"}}x{{end}}', "range can't iterate over a value of type string"),
        ("{{range true}}x{{end}}", "range can't iterate over a value of type bool"),
        ("{{range 1.5}}{{end}}", "range can't iterate over a value of type float64"),
        ("{{range .MarbleRun}}{{end}}", "range can't iterate over a value of type struct"),
        ("{{break}}", "{{break}} outside {{range}}"),
        ("{{continue}}", "{{continue}} outside {{range}}"),
        ("{{range .Secrets}}{{else}}{{break}}{{end}}", "{{break}} outside {{range}}"),
        ("{{range $i, $x, $y := .Secrets}}{{end}}", "too many declarations in range"),
        ("{{range $i, 3}}{{end}}", "range can only initialize variables"),
        ("{{range .Secrets.key.Private}}{{$y := .}}{{$y}}{{end}}{{$y}}", "undefined variable '$y'"),
        ("{{range nil}}{{end}}", "nil is not a command"),
        ("{{break 1}}", "unexpected '1' in break"),
        (
            '{{range .Secrets}}{{define "a"}}{{end}}{{end}}',
            'unexpected "define": it does not stand inside of anything else',
        ),
        ('{{range .Secrets}}{{block "a" .}}{{break}}{{end}}{{end}}', "{{break}} outside {{range}}"),
    ],
)
def test_refused_range(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{$x := 1}}{{$x}}", b"1"),
        ("{{$x := 1}}{{$x = 2}}{{$x}}", b"2"),
        ("{{$x := 1}}{{if true}}{{$x = 2}}{{end}}{{$x}}", b"2"),
        ("{{$x := 1}}{{if true}}{{$x := 2}}{{end}}{{$x}}", b"1"),
        ("{{$x:=1}}{{$x}}", b"1"),
        ('{{$x := 1}}{{$x | printf "%d"}}', b"1"),
        ("{{$x := .Secrets}}{{$x.key.Size}}", b"128"),
        ("{{$ := 3}}{{$}}", b"3"),
        ("{{$x := (1)}}{{$x}}", b"1"),
        ('{{$x := 1 | printf "%03d"}}{{$x}}', b"001"),
        ("{{print ($x := 1)}}{{$x}}", b"11"),
        ("{{$x := 1}}{{and false ($x := 2)}}{{$x}}", b"false1"),
        ("{{and true ($x := 2)}}{{$x}}", b"22"),
        ("{{$é := 1}}{{$é}}", b"1"),
        ("{{$1 := 2}}{{$1}}", b"2"),
        ("{{$x := .Secrets.nope}}{{$x}}{{$x.y.z}}", b"<no value><no value>"),
        ("{{$x := 1}}{{$x =2}}{{$x}}", b"2"),
    ],
)
def test_variables(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{$x}}", "undefined variable '$x'"),
        ("{{$x = 1}}", "undefined variable '$x'"),
        ("{{$x := $x}}", "undefined variable '$x'"),
        ("{{$x, $y := 1}}", "too many declarations in command"),
        ("{{or true ($x := 2)}}{{$x}}", "undefined variable '$x'"),
        ("{{$x.y := 1}}", "undefined variable '$x'"),
        ("{{$x := }}", "missing value for command"),
        ("{{$x := 1}}{{$x.y}}", "can't evaluate field 'y' in type int"),
        ('{{$x := "a"}}{{$x.y}}', "can't evaluate field 'y' in type string"),
        ("{{$x 1}}", "undefined variable '$x'"),
        ("{{$x := 1}}{{$x 1}}", "can't give argument to non-function '$x'"),
        ("{{$x =1}}", "undefined variable '$x'"),
        ("{{$x=1}}", "unexpected character '='"),
        ("{{$x := 1 := 2}}", "unexpected ':=' in operand"),
        ("{{:= 1}}", "unexpected ':=' in command"),
        ("{{= 1}}", "unexpected '=' in command"),
        ("{{:}}", "unexpected character ':'"),
        ("{{$x : 1}}", "unexpected character ':'"),
        ("{{, 1}}", "unexpected ',' in command"),
    ],
)
def test_refused_variables(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{define "a"}}A{{.}}{{end}}{{template "a" 1}}', b"A1"),
        ('{{template "a"}}{{define "a"}}[{{.}}]{{end}}', b"[<no value>]"),
        ('{{define "a"}}{{end}}{{template "a"}}', b""),
        ('{{define "a"}}1{{end}}{{define "a"}} {{end}}{{template "a"}}', b"1"),
        ('{{define "a"}} {{end}}{{define "a"}}2{{end}}{{template "a"}}', b"2"),
        ('{{block "x" 3}}{{.}}{{end}}', b"3"),
        ('{{block "x" 3}}{{.}}{{end}}{{template "x" 4}}', b"34"),
        ("{{define `a`}}x{{end}}{{template `a`}}", b"x"),
        ('{{$x := 1}}{{define "a"}}{{$}}{{end}}{{template "a" $x}}', b"1"),
        ('{{define "a"}}{{if .}}{{.}}{{template "a"}}{{end}}{{end}}{{template "a" 1}}', b"1"),
        ('{{template "a" $y := 1}}{{$y}}{{define "a"}}{{.}}{{end}}', b"11"),
        ('{{define "a"}}{{block "b" .}}x{{end}}{{end}}{{template "a"}}{{template "b"}}', b"xx"),
        ('{{template "a" .Secrets.nope}}{{define "a"}}{{.}}{{end}}', b"<no value>"),
        (
            '{{if 1}}{{template "a" .}}{{end}}{{define "a"}}{{hex .Secrets.key}}{{end}}',
            b"000102030405060708090a0b0c0d0e0f",
        ),
        ('x{{define "a"}}y{{end}}z', b"xz"),
        ('{{ define "a" -}} x {{- end }} {{ template "a" }}', b" x"),
        ('{{template "\\x61"}}{{define "a"}}x{{end}}', b"x"),
    ],
)
def test_templates(text, expected):
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{{template "b"}}', "template 'b' not defined"),
        ('{{define "a"}}1{{end}}{{define "a"}}2{{end}}{{template "a"}}', "multiple definition of template 'a'"),
        ('{{block "x"}}{{end}}', "missing value for block"),
        (
            '{{define "a"}}{{define "b"}}{{end}}{{end}}',
            'unexpected "define": it does not stand inside of anything else',
        ),
        ('{{if true}}{{define "b"}}{{end}}{{end}}', 'unexpected "define": it does not stand inside of anything else'),
        ("{{define a}}{{end}}", "name of a template expected in define"),
        ("{{define}}{{end}}", "name of a template expected in define"),
        ('{{define "a" 3}}{{end}}', "unexpected '3' in define"),
        ("{{template a}}", "name of a template expected in template"),
        ("{{template}}", "name of a template expected in template"),
        ('{{template "a" 1 2}}', "can't give argument to non-function '1'"),
        ('{{$x := 1}}{{define "a"}}{{$x}}{{end}}', "undefined variable '$x'"),
        ('{{define "a"}}x{{else}}y{{end}}', "unexpected {{else}}"),
        ('{{block "a" 1}}x{{else}}y{{end}}', "unexpected {{else}}"),
        ('{{define "a"}}{{break}}{{end}}', "{{break}} outside {{range}}"),
        ('{{template "a" nil}}{{define "a"}}{{.}}{{end}}', "nil is not a command"),
    ],
)
def test_refused_templates(text, message):
    assert message in str(refusal(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{ range 3 }}{{ . }},{{ end }}", b"0,1,2,"),
        ("{{ range $i := 3 }}{{ $i }},{{ end }}", b"0,1,2,"),
        ("{{ $i := 7 }}{{ range $i = 3 }}{{ end }}{{ $i }}", b"2"),
        ("{{ range 0 }}x{{ else }}none{{ end }}", b"none"),
        ("{{ range -2 }}x{{ else }}none{{ end }}", b"none"),
        ("{{ range $i := 0 }}x{{ else }}{{ $i }}{{ end }}", b"0"),
        ('{{ range (index .Secrets "a-b").Size }}{{ printf "%T" . }} {{ break }}{{ end }}', b"uint "),
        ("{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ else if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}", b"02"),
        ("{{ with 0 }}a{{ else with 2 }}{{ . }}{{ else }}c{{ end }}", b"2"),
        ("{{ with 0 }}a{{ else with $x := 0 }}b{{ else }}{{ $x }}{{ end }}", b"0"),
        ("{{ with 1 }}{{ . }}{{ else with 2 }}{{ . }}{{ end }}", b"1"),
    ],
)
def test_what_newer_versions_of_go_have(text, expected):
    """`range` over numbers came with Go 1.24, `else with` with Go 1.23."""
    assert render(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{{ range $i, $x := 3 }}{{ end }}", "can't use a number to iterate over more than one variable"),
        ("{{ with 0 }}{{ else if 1 }}{{ end }}", "unexpected 'if' in else"),
        ("{{ if 0 }}{{ else with 1 }}{{ end }}", "unexpected 'with' in else"),
        ("{{ range 0 }}{{ else range 1 }}{{ end }}", "unexpected 'range' in else"),
    ],
)
def test_what_newer_versions_of_go_refuse(text, message):
    assert message in str(refusal(text))
