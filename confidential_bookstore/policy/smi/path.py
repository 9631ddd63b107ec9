"""A request's path as Envoy sees it when it asks the rules: normalised, so that no spelling goes round a rule.

Envoy's settings are normalize_path, merge_slashes and path_with_escaped_slashes_action: REJECT_REQUEST.
"""

from __future__ import annotations

import re

# Of which characters a path consists that rules can speak of, after normalisation; Envoy is told the same.
SPEAKABLE = r"/[A-Za-z0-9/_.~!$&'()*+,;=:@-]*"
_PLAIN = re.compile(SPEAKABLE)


def normalised(path: str) -> str | None:
    """The path without query, with dot segments resolved and slashes merged; None if no rule can speak of it."""
    path = path.partition("?")[0].partition("#")[0]
    if not _PLAIN.fullmatch(path):
        return None
    segments: list[str] = []
    parts = path.split("/")[1:]
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "..":
            if segments:
                segments.pop()
            if last:
                segments.append("")
        elif part == ".":
            if last:
                segments.append("")
        else:
            segments.append(part)
    return re.sub("/+", "/", "/" + "/".join(segments))
