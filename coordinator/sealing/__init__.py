"""The sealed state: its format, where it is kept, and who can read it."""
