"""The table of clients, providers and cases (`table.json`): each library of Python's in a file of its own, each case once."""
