"""Certificates, keys and the names in them."""
