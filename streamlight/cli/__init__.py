"""Command line: one file a command, no logic."""
