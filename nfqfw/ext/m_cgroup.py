"""match cgroup: the control group of the sending socket."""

from __future__ import annotations

from nfqfw.ext.api import INPUT, OUTPUT, POSTROUTING, KernelRefusal, Only, Opt, match
from nfqfw.ext.lowering import Unevaluated


@match("cgroup", Opt("path", "string", invert=True, high=511, metavar="path", help="group in the cgroup2 tree, or below it"),
       Opt("cgroup", "u32", invert=True, metavar="classid", help="class id of net_cls"),
       only=Only(hooks=(INPUT, OUTPUT, POSTROUTING)))
class Cgroup:
    def save(self, use):
        out = f"{' !' if 'path' in use.inverted else ''} --path \"{use.values['path']}\"" if "path" in use.values else ""
        return out + (f"{' !' if 'cgroup' in use.inverted else ''} --cgroup {use.values['cgroup']}" if "cgroup" in use.values else "")

    def show(self, use, numeric, resolver):
        return "cgroup" + "".join(f" {'! ' if key in use.inverted else ''}{use.values[key]}" for key in ("path", "cgroup") if key in use.values)

    def check(self, use, rule):
        if ("path" in use.values) == ("cgroup" in use.values):
            raise KernelRefusal("EINVAL", "xt_cgroup: need either path or classid" if not use.values else "xt_cgroup: both path and classid specified")

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: cgroup: a queue's listener does not ask for the control group of a packet's socket")
