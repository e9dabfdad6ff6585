"""target TRACE: record the packet's walk from here on."""

from __future__ import annotations

from nfqfw.ext.api import Only, target
from nfqfw.ext.lowering import Action


@target("TRACE", only=Only(tables=("raw",)))
class Trace:
    def lower(self, use, rule):
        return Action("trace")
