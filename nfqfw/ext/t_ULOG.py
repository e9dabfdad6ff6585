"""target ULOG: removed from the kernel; read and printed, and refused as a kernel without it does."""

from __future__ import annotations

from nfqfw.ext.api import KernelRefusal, Opt, target


@target("ULOG", Opt("ulog-nlgroup", "u8", low=1, high=32, key="group", metavar="nlgroup", help="netlink group"),
        Opt("ulog-prefix", "string", high=31, key="prefix", metavar="prefix", help="text that goes with it"),
        Opt("ulog-cprange", "u64", key="range", metavar="size", help="bytes of the packet"),
        Opt("ulog-qthreshold", "u64", low=1, high=50, key="threshold", metavar="n", help="packets that wait for one message"), families=(2,))
class Ulog:
    def check(self, use, rule):
        raise KernelRefusal("ENOENT", "this kernel has no ULOG target")
