"""The thief: really tries to get books, and reports what the victims say."""
