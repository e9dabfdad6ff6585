"""target CONNMARK: the mark of the connection."""

from __future__ import annotations

import struct

from nfqfw.errors import RuleError
from nfqfw.ext.api import KernelRefusal, Opt, target
from nfqfw.ext.lowering import READS_CONNMARK, Action
from nfqfw.ext.marks import FULL, MEANING, words

SET, SAVE, RESTORE = range(3)           # XT_CONNMARK_* of the kernel
CHANGES = ("set-xmark", "set-mark", "and-mark", "or-mark", "xor-mark", "save-mark", "restore-mark")
MASKS = ("nfmask", "ctmask")


def change(name: str, type: str, metavar: str, help: str) -> Opt:
    return Opt(name, type, key="change", excludes=CHANGES, metavar=metavar, help=help)


@target("CONNMARK",
        change("set-xmark", "mark", "value[/mask]", "clear the bits of mask, then XOR value"),
        change("set-mark", "mark", "value[/mask]", "clear the bits of mask, then OR value"),
        change("and-mark", "u32", "bits", "AND"), change("or-mark", "u32", "bits", "OR"), change("xor-mark", "u32", "bits", "XOR"),
        change("save-mark", "none", "", "packet's mark to the connection"),
        change("restore-mark", "none", "", "connection's mark to the packet"),
        Opt("nfmask", "u32", excludes=("mask",), metavar="bits", help="of the packet's mark"),
        Opt("ctmask", "u32", excludes=("mask",), metavar="bits", help="of the connection's mark"),
        Opt("mask", "u32", excludes=MASKS, metavar="bits", help="of both marks, with save and restore"),
        Opt("left-shift-mark", "u32", high=32, key="left", metavar="bits", help="shift what is set or carried over"),
        Opt("right-shift-mark", "u32", high=32, key="right", metavar="bits", help="shift what is set or carried over"))
class Connmark:
    def read_change(self, draft, opt, text, env):
        if opt.name in MEANING:
            read = opt.reader(text, opt, "CONNMARK", env)
            draft.values["change"] = SET, *MEANING[opt.name](*(read if isinstance(read, tuple) else (read, 0)))
        else:
            draft.values["change"] = SAVE if opt.name == "save-mark" else RESTORE, 0, FULL

    def read_left(self, draft, opt, text, env):
        draft.values["shift"] = 0, opt.reader(text, opt, "CONNMARK", env)

    def read_right(self, draft, opt, text, env):
        draft.values["shift"] = 1, opt.reader(text, opt, "CONNMARK", env)

    def final(self, draft, env):
        values = draft.values
        if "change" not in values:
            raise RuleError("CONNMARK target: No operation specified")
        mode, value, ctmask = values["change"]
        both = values.pop("mask", None)
        nfmask = values.pop("nfmask", FULL if both is None else both)
        ctmask = values.pop("ctmask", ctmask if both is None else both)
        values["change"] = mode, value, ctmask, nfmask if mode != SET else 0
        if values.get("shift", (0, 0))[1] == 0:
            values.pop("shift", None)

    def shift_text(self, use, prefix: str) -> str:
        if "shift" not in use.values:
            return ""
        right, bits = use.values["shift"]
        return f" {prefix}{'right' if right else 'left'}-shift-mark {bits}"

    def save(self, use):
        mode, value, ctmask, nfmask = use.values["change"]
        if mode == SET:
            text = f" --set-xmark {value:#x}/{ctmask:#x}"
        else:
            text = f" --{'save' if mode == SAVE else 'restore'}-mark --nfmask {nfmask:#x} --ctmask {ctmask:#x}"
        return text + self.shift_text(use, "--")

    def show(self, use, numeric, resolver):
        mode, value, ctmask, nfmask = use.values["change"]
        if mode == SET:
            text = "CONNMARK " + words(value, ctmask)
        else:
            text = "CONNMARK save" if mode == SAVE else "CONNMARK restore"
            if nfmask != ctmask:
                masks = (f"nfmask {nfmask:#x} ctmask ~{ctmask:#x}" if mode == SAVE else f"ctmask {ctmask:#x} nfmask ~{nfmask:#x}")
                text += " " + masks
            elif ctmask != FULL:
                text += f" mask {ctmask:#x}"
        return text + self.shift_text(use, "")

    def check(self, use, rule):
        if use.values.get("shift", (0, 0))[1] > 31:
            raise KernelRefusal("EINVAL")

    def lower(self, use, rule):
        mode, value, ctmask, nfmask = use.values["change"]
        right, bits = use.values.get("shift", (0, 0))
        features = ("conntrack", "defrag") + (("reroutes",) if mode == RESTORE else ())
        return Action("connmark", struct.pack("<IIIBBBx", value, ctmask, nfmask, mode, right, bits), features, reads=READS_CONNMARK)
