"""Who may see the pages: accounts and their passwords, sessions, tokens of programs, and a limit on wrong tries."""
