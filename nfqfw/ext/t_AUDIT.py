"""target AUDIT: a record for the kernel's audit log."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import Unevaluated

TYPES = ("accept", "drop", "reject")


@target("AUDIT", Opt("type", "own", required=True, metavar="{accept|drop|reject}", help="what the record says was done"))
class Audit:
    def read_type(self, draft, opt, text, env):
        if text.lower() not in TYPES:
            raise RuleError(f'Bad action type value "{text}"')
        draft.values["type"] = text.lower()

    def show(self, use, numeric, resolver):
        return f"AUDIT {use.values['type']}"

    def lower(self, use, rule):
        return Unevaluated("not possible: only the kernel writes packet records into the audit log")
