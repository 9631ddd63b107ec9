"""TLS, listeners and HTTP: how bytes come in, within limits. Knows nothing of manifests and marbles."""
