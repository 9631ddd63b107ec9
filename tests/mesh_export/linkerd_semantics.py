"""What Linkerd decides, from its reference of policies and how its proxy picks a route. For tests: small and pure.

A port of a pod belongs to at most one Server; without one the namespace's default policy holds. Of all routes of the
Server the most specific match decides (length of the path, method, number of headers); the authorizations of that route
and those of the Server itself count. Paths are compared as they are sent, only the query is cut off.
"""

from __future__ import annotations


def linkerd_allows(documents, call):
    servers = [
        document
        for document in _of(documents, "Server", call.namespace)
        if document["spec"]["podSelector"]["matchLabels"] == {"app": call.app} and document["spec"]["port"] == call.port
    ]
    if not servers:
        return _default(documents, call.namespace) != "deny"
    [server] = servers
    name, protocol = server["metadata"]["name"], server["spec"]["proxyProtocol"]
    assert server["spec"]["accessPolicy"] == "deny"
    if _authorized(documents, call, "Server", name):
        return True
    if protocol == "opaque" or call.path is None:
        return False
    best = None
    for route in _of(documents, "HTTPRoute", call.namespace):
        if any(parent["kind"] == "Server" and parent["name"] == name for parent in route["spec"]["parentRefs"]):
            for rule in route["spec"]["rules"]:
                for match in rule["matches"]:
                    rank = _rank(match, call)
                    if rank is not None and (best is None or rank > best[0]):
                        best = (rank, route["metadata"]["name"])
    return best is not None and _authorized(documents, call, "HTTPRoute", best[1])


def _of(documents, kind, namespace):
    return [d for d in documents if d["kind"] == kind and d["metadata"]["namespace"] == namespace]


def _default(documents, namespace):
    [found] = [d for d in documents if d["kind"] == "Namespace" and d["metadata"]["name"] == namespace]
    return found["metadata"]["annotations"]["config.linkerd.io/default-inbound-policy"]


def _authorized(documents, call, kind, name):
    for policy in _of(documents, "AuthorizationPolicy", call.namespace):
        target = policy["spec"]["targetRef"]
        if (target["kind"], target["name"]) == (kind, name) and all(
            _authenticated(documents, call, reference["name"])
            for reference in policy["spec"]["requiredAuthenticationRefs"]
        ):
            return True
    return False


def _authenticated(documents, call, name):
    [found] = [d for d in _of(documents, "MeshTLSAuthentication", call.namespace) if d["metadata"]["name"] == name]
    return any(
        (identity["name"], identity["namespace"]) == (call.source_name, call.source_namespace)
        for identity in found["spec"]["identityRefs"]
    )


def _rank(match, call):
    path = call.path.partition("?")[0]
    wanted = match["path"]
    if wanted["type"] == "Exact":
        if wanted["value"] != path:
            return None
        length = len(path)
    else:
        assert wanted == {"type": "PathPrefix", "value": "/"}
        length = 1
    if "method" in match and match["method"] != call.method:
        return None
    headers = match.get("headers", [])
    if any(call.headers.get(header["name"]) != header["value"] for header in headers):
        return None
    return (length, "method" in match, len(headers))
