"""Rates: token buckets in Valkey, shared by all workers of the installation."""
