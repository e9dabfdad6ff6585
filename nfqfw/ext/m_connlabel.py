"""match connlabel: one of 128 labels of a connection; --set puts it on."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext import connlabels, names
from nfqfw.ext.api import KernelRefusal, Opt, match
from nfqfw.ext.lowering import TRACKED, Test


@match("connlabel", Opt("label", "own", required=True, invert=True, metavar="name", help="label by number or, if the host has names, by name"),
       Opt("set", help="put it on the connection"))
class Connlabel:
    def read_label(self, draft, opt, text, env):
        if not text:
            raise RuleError("Argument must have a minimum length of 1 characters\n")
        number = names.unsigned(text, 0, 0xFFFF)
        if number is None:
            number = connlabels.named().get(text)
        if number is None:
            raise RuleError(f"label '{text}' not found or invalid value")
        draft.values["label"] = number

    def save(self, use):
        number = use.values["label"]
        return (f"{' !' if 'label' in use.inverted else ''} --label \"{connlabels.name_of(number) or number}\""
                + (" --set" if "set" in use.values else ""))

    def show(self, use, numeric, resolver):
        number = use.values["label"]
        name = "" if numeric else connlabels.name_of(number)
        return f"connlabel {'! ' if 'label' in use.inverted else ''}" + (f"'{name}'" if name else str(number)) + (" set" if "set" in use.values else "")

    def check(self, use, rule):
        if use.values["label"] >= connlabels.LABELS:
            raise KernelRefusal("ERANGE")

    def lower(self, use, rule):
        info = struct.pack("<HBB", use.values["label"], "set" in use.values, "label" in use.inverted)
        return [Test("connlabel", info, features=TRACKED)]

