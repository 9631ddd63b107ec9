"""The sealed state: its format, who can read it, where it is kept, and how several coordinators share it."""
