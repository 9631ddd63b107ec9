"""Go's text/template, as MarbleRun's manifests use it.

    {{ pem .Secrets.tls.Cert }}
    {{ range $name, $secret := .Secrets }}{{ if eq $secret.Type "symmetric-key" }}{{ hex $secret }}{{ end }}{{ end }}
    {{ js (pem .MarbleRun.RootCA.Cert) }}

The stages are apart: characters to actions and tokens (`lexer`, `literals`), tokens to expressions (`actions`), actions
to nested nodes (`parser`, `nodes`), expressions to values (`evaluator`, `scope`, `values`), nodes to bytes (`runner`).
Functions are in `functions`, which says where each of them is made.

What differs from Go, on purpose:

* Secrets, certificates, groups of secrets and keys are never written without a function that says how: what Go would
  print as a struct or as a list of numbers is an error. Keys have printf's %s, %q, %x and %X.
* `.Cert` has no fields of its own.
* Some mistakes that Go finds when it gets there are found at once: a wrong number of arguments, arguments for what is
  no function, integers of more than 64 bits, nil as a command.
* No imaginary numbers, no printf %p.
* Length, nesting, steps and result are bounded (`parser`, `actions`, `bounds`, `formatting`).
"""

from coordinator.manifest.template.bounds import Bounds
from coordinator.manifest.template.compiled import Template, parse_template
from coordinator.manifest.template.values import Namespace, TemplateKind, template_data

__all__ = ["Bounds", "Namespace", "Template", "TemplateKind", "parse_template", "template_data"]
