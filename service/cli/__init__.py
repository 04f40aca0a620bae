"""The `tydzen` command: one file per noun; each command parses, calls one use-case and prints."""

from service.cli.app import main

__all__ = ["main"]
