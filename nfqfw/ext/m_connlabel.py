"""match connlabel: one of 128 labels of a connection; --set puts it on."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import TRACKED, Test

LABELS = 128
FILE = "/etc/xtables/connlabel.conf"


@match("connlabel", Opt("label", "own", required=True, invert=True, metavar="name", help="label by number or, if the host has names, by name"),
       Opt("set", help="put it on the connection"))
class Connlabel:
    def read_label(self, draft, opt, text, env):
        number = named().get(text)
        if number is None:
            number = names.unsigned(text, 0, 0xFFFF)
        if number is None:
            raise RuleError(f"label '{text}' not found or invalid value")
        draft.values["label"] = number

    def name_of(self, use) -> str:
        number = use.values["label"]
        return next((name for name, value in named().items() if value == number), str(number))

    def save(self, use):
        return f"{' !' if 'label' in use.inverted else ''} --label \"{self.name_of(use)}\"" + (" --set" if "set" in use.values else "")

    def show(self, use, numeric, resolver):
        text = str(use.values["label"]) if numeric else self.name_of(use)
        return f"connlabel {'! ' if 'label' in use.inverted else ''}{text}" + (" set" if "set" in use.values else "")

    def check(self, use, rule):
        if use.values["label"] >= LABELS:
            raise KernelRefusal("ERANGE")

    def lower(self, use, rule):
        info = struct.pack("<HBB", use.values["label"], "set" in use.values, "label" in use.inverted)
        return [Test("connlabel", info, features=TRACKED)]


def named() -> dict[str, int]:
    """Names of labels: lines `number name`."""
    out = {}
    try:
        with open(FILE, encoding="utf-8", errors="replace") as file:
            for line in file:
                words = line.split("#", 1)[0].split()
                if len(words) == 2 and words[0].isdigit():
                    out[words[1]] = int(words[0])
    except OSError:
        pass
    return out
