r"""A request's path as Envoy sees it when it asks the rules: normalised, so that no spelling goes round a rule.

Envoy's settings are normalize_path, merge_slashes and path_with_escaped_slashes_action: REJECT_REQUEST. What it then
does, measured with 1.40 and compared with it by a test:

- Refused: what does not begin with "/", spaces, control characters and "#" anywhere, and in the path "%2f", "%5c" and
  "%00". HTTP/1 also refuses what is not ASCII; HTTP/2 escapes it.
- In a segment that is "." or ".." followed by ";", the ";" and what follows are cut off. Escaped dots do not count.
- "\" becomes "/"; escaped letters, digits, "-", ".", "_" and "~" are unescaped, once; other escapes stay as they are;
  the characters "<>^`{|} and what is not ASCII are escaped.
- Then "." and ".." are resolved, and slashes merged; a path of nothing but several slashes becomes "//".

The absolute form of HTTP/1 (`GET http://host/path`) is taken apart before that: ask about its path. CONNECT has none.

Of the result, rules can speak if it is `SPEAKABLE`: without an escape and without what an application might read in
another way. Everything else has to be refused in both places. In Envoy that takes one RBAC filter before the one with
the rules, with action DENY and the permission `not_rule: {url_path: {path: {safe_regex: {regex: SPEAKABLE}}}}` for any
principal; it also refuses `OPTIONS *` and CONNECT, in permissive mode, too.
"""

from __future__ import annotations

import re

# Of which characters a path consists that rules can speak of, after normalisation; Envoy is told the same.
SPEAKABLE = r"/[A-Za-z0-9/_.~!$&'()*+,;=:@-]*"
_SPEAKABLE = re.compile(SPEAKABLE)
_REFUSED_ANYWHERE = re.compile(r"[\x00-\x20\x7f#]")
_REFUSED_ESCAPES = re.compile(r"%2[fF]|%5[cC]")
_PARAMETERS_OF_DOTS = re.compile(r"(?<=/)(\.\.?);[^/]*")
_UNRESERVED = re.compile(r"%(2[dDeE]|3[0-9]|4[1-9a-fA-F]|5[0-9aAfF]|6[1-9a-fA-F]|7[0-9aAeE])")  # RFC 3986, 2.3


def normalised(path: str) -> str | None:
    """The path without query, with dot segments resolved and slashes merged; None if no rule can speak of it."""
    if not path.startswith("/") or _REFUSED_ANYWHERE.search(path):
        return None
    path = path.partition("?")[0]
    if "//" in path or "/." in path or "%" in path or "\\" in path:
        if _REFUSED_ESCAPES.search(path):
            return None
        path = _PARAMETERS_OF_DOTS.sub(r"\1", path)
        if "%00" in path:
            return None
        path = _merged(_resolved(_UNRESERVED.sub(_unescaped, path.replace("\\", "/"))))
    return path if _SPEAKABLE.fullmatch(path) else None


def _unescaped(escape: re.Match[str]) -> str:
    return chr(int(escape[1], 16))


def _resolved(path: str) -> str:
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/" + "/".join(kept)


def _merged(path: str) -> str:
    if "//" not in path:
        return path
    return "/" + "/".join(filter(None, path.split("/"))) + ("/" if path.endswith("/") else "")
