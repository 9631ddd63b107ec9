"""A strict subset of Go's text/template, as MarbleRun's manifests use it.

    {{ pem .Secrets.tls.Cert }}
    {{ .Secrets.key | hex }}
    {{ js (pem .MarbleRun.RootCA.Cert) }}
    {{- /* comment */ -}}

The stages are apart: characters to tokens (`lexer`), tokens to a tree (`parser`, `nodes`), tree and values to bytes
(`evaluator`, `functions`, `values`). Nothing is ignored: what is not in the subset is a TemplateError with line and
column, also where Go would print `<no value>`.
"""

from coordinator.manifest.template.compiled import Template, parse_template
from coordinator.manifest.template.values import Namespace, TemplateKind, template_data

__all__ = ["Namespace", "Template", "TemplateKind", "parse_template", "template_data"]
