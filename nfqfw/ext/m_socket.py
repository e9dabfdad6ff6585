"""match socket: whether a local socket is waiting for the packet."""

from __future__ import annotations

from nfqfw.ext.api import INPUT, PREROUTING, Only, Opt, match
from nfqfw.ext.lowering import Unevaluated

WORDS = ("transparent", "nowildcard", "restore-skmark")


@match("socket", Opt("nowildcard", help="count also sockets that listen on any address"), Opt("transparent", help="only transparent sockets"),
       Opt("restore-skmark", help="give the packet the socket's mark"), only=Only(hooks=(PREROUTING, INPUT)))
class Socket:
    def save(self, use):
        return "".join(f" --{word}" for word in WORDS if word.replace("-", "_") in use.values)

    def show(self, use, numeric, resolver):
        return "socket" + self.save(use)

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: socket: needs the sockets of this host")
