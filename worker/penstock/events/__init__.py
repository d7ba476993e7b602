"""Bytes to events: the models that mirror ``schemas/``, and the rules that keys, tenants and versions obey."""
