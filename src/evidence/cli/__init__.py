"""Runs the command line: from what was typed to an exit status, and the help."""
