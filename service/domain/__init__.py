"""Rules and values: standard library only, no I/O, and `now` is always passed in."""
