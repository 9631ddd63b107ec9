"""Fixtures for all rooms."""

from mariadb_server import mariadb

__all__ = ["mariadb"]
