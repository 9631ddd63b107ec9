"""Who may call what. Pure functions on values; nothing here reads a socket, a file or the clock."""
