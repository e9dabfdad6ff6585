"""target CHECKSUM: completes the transport checksum that was left to a device."""

from __future__ import annotations

from nfqfw.ext.api import Only, Opt, target
from nfqfw.ext.lowering import Action


@target("CHECKSUM", Opt("checksum-fill", required=True, help="compute the checksum"), only=Only(("mangle",)))
class Checksum:
    def show(self, use, numeric, resolver):
        return "CHECKSUM fill"

    def lower(self, use, rule):
        return Action("checksum", b"", ("rewrites",))
