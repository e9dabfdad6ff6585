"""target LOG: writes a line about the packet and goes on."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, target
from nfqfw.ext.lowering import Action
from nfqfw.ext.names import cut, quote
from nfqfw.limits import LOG_PREFIX_BYTES
from nfqfw.protocols import SYSLOG_PRINTED

FLAGS = (("log-tcp-sequence", 1), ("log-tcp-options", 2), ("log-ip-options", 4), ("log-uid", 8), ("log-macdecode", 32))
DEFAULT_LEVEL = 4                   # warning


@target("LOG",
        Opt("log-level", "syslog", key="level", metavar="level", help="syslog level by number or name; warning"),
        Opt("log-prefix", "own", key="prefix", metavar="text", help="begin the line with this, up to 29 bytes"),
        *(Opt(name, key=name, help="log " + name[4:].replace("-", " ")) for name, _ in FLAGS))
class Log:
    def read_prefix(self, draft, opt, text, env):
        if "\n" in text:
            raise RuleError("Newlines not allowed in --log-prefix", offset=text.index("\n"))
        if not text:
            raise RuleError("Argument must have a minimum length of 1 characters\n")
        draft.values["prefix"] = cut(text, LOG_PREFIX_BYTES)

    def final(self, draft, env):
        draft.values.setdefault("level", DEFAULT_LEVEL)

    def save(self, use):
        values = use.values
        out = f" --log-prefix {quote(values['prefix'])}" if "prefix" in values else ""
        if values["level"] != DEFAULT_LEVEL:
            out += f" --log-level {values['level']}"
        return out + "".join(" --" + name for name, _ in FLAGS if name in values)

    def show(self, use, numeric, resolver):
        values = use.values
        if numeric:
            out = f"LOG flags {self.flags(values)} level {values['level']}"
        else:
            out = f"LOG level {SYSLOG_PRINTED[values['level']]}"
            out += "".join(" " + name[4:] for name, _ in FLAGS if name in values)
        return out + (f' prefix "{values["prefix"]}"' if "prefix" in values else "")

    def flags(self, values) -> int:
        return sum(bit for name, bit in FLAGS if name in values)

    def lower(self, use, rule):
        prefix = use.values.get("prefix", "").encode(errors="surrogateescape")
        return Action("log", struct.pack("<BB30s", use.values["level"], self.flags(use.values), prefix))
