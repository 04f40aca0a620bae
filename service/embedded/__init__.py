"""Parts that run inside the installation where none are set: a local Valkey, a local inbox, and their supervisor."""
