"""Secrets of a manifest: their values, and how they are made."""
