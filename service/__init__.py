"""Tydzen: one analytical issue a week, in several languages, to every reader in the languages that reader chose."""
