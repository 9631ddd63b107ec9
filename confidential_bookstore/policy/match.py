"""One match of a route: which requests does it fit? The same value at a sidecar and inside a marble."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from confidential_bookstore.policy.pattern import Pattern


@dataclass(frozen=True, slots=True)
class Match:
    """Path, method and every header have to fit.

    Attributes:
        name: of the match in its group; empty if it has none.
        path: has to match the whole path, without the query; None fits any.
        methods: of HTTP, upper case; empty fits any.
        headers: lower-case name, and what the whole value has to match. A header that is sent several times has its
            values joined by ",", as in Envoy; one that is not sent fits nothing.
    """

    name: str = ""
    path: Pattern | None = None
    methods: frozenset[str] = frozenset()
    headers: tuple[tuple[str, Pattern], ...] = ()

    def fits(self, method: str, path: str, headers: Mapping[str, str]) -> bool:
        """Whether a request fits. `headers` has lower-case names."""
        return self.fits_without_headers(method, path) and self.headers_fit(headers)

    def fits_without_headers(self, method: str, path: str) -> bool:
        """Whether a request would fit if its headers did."""
        return (not self.methods or method in self.methods) and (self.path is None or self.path.matches(path))

    def headers_fit(self, headers: Mapping[str, str]) -> bool:
        """Whether a request's headers fit, whatever its method and path."""
        return all(name in headers and pattern.matches(headers[name]) for name, pattern in self.headers)
