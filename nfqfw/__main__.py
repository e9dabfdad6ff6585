"""The program `nfqfw`, and every name it can be called by.

Called as iptables, iptables-save, conntrack, ... (a shim), or with such a name as its first argument, it is that applet: a
thin client that must start in a few milliseconds, so nothing else is imported before that is known.
"""

import sys

APPLETS = frozenset(
    f"{family}{form}{part}" for family in ("iptables", "ip6tables") for form in ("", "-legacy") for part in ("", "-save", "-restore")
) | {"xtables-legacy-multi", "conntrack", "nfct"}


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv` (sys.argv when None) and return its exit code."""
    argv = sys.argv if argv is None else argv
    name = argv[0].rpartition("/")[2]
    if name in APPLETS:
        from nfqfw.applet_client import main as applet
        return applet(name, argv[1:])
    if len(argv) > 1 and argv[1] in APPLETS:
        from nfqfw.applet_client import main as applet
        return applet(argv[1], argv[2:])
    from nfqfw.cli.main import main as verbs
    return verbs(argv[1:])


if __name__ == "__main__":
    sys.exit(main())
