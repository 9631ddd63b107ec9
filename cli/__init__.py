"""`cbs`: one file per command."""
