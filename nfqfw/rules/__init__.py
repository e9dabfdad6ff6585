"""The rule language: text -> Ruleset -> text, checks and edits.  Names of the entry points; imported when first used."""

from __future__ import annotations

from importlib import import_module

ENTRIES = {"load": "restore", "save": "saving", "specs": "saving", "listing": "listings", "check": "validate", "lower_rule": "lower"}


def __getattr__(name: str):
    module = ENTRIES.get(name)
    if module is None:
        raise AttributeError(name)
    return getattr(import_module("nfqfw.rules." + module), name)
