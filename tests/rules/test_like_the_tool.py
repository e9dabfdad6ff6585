"""Sequences of commands, by the installed tool in a namespace and by us in memory: the same exit code and the same words after each.

Named differences of 1.8.9 are not asked for here: numeric protocols of -n, counters of policies over commits, glued options.
"""

from __future__ import annotations

import pytest

from nfqfw.rules import applet
from nfqfw.rules.store import MemoryStore
from tests.rules import real

pytestmark = real.needs_tool

HUGE = "99999999999999999999999"
RULES = """# a remark
*filter
:INPUT ACCEPT [1:2]
:FORWARD DROP [3:4]
:OUTPUT ACCEPT [0:0]
:u - [0:0]
[5:6] -A INPUT -p tcp -m tcp --dport 22 -j ACCEPT
[7:8] -A u -s 10.0.0.0/8 -j DROP
COMMIT
*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A POSTROUTING -o eth0 -j MASQUERADE
COMMIT
"""
COMMANDS_INSIDE = "*filter\n-A INPUT -s 1.1.1.1,2.2.2.2 -j DROP\n-N w\n-S\n-I INPUT 2 -j w\n-L w\n-F w\n-D INPUT 3\nCOMMIT\n"
DEEP = "*filter\n" + "".join(f":c{i} - [0:0]\n" for i in range(1001)) + "-A INPUT -j c0\n" \
    + "".join(f"-A c{i} -j c{i + 1}\n" for i in range(1000)) + "COMMIT\n"
LOOP = "*filter\n:a - [0:0]\n:b - [0:0]\n-A a -j b\n-A b -j a\n-A INPUT -j a\nCOMMIT\n"
SAVE = "iptables-save"

SEQUENCES = {
    "waiting": ["iptables -w -S", "iptables -w 5 -S", "iptables -w5 -S", "iptables --wait=3 -S", "iptables -w x -S", "iptables -W 100 -w -S",
                "iptables -W 100 -S", "iptables -w -W 1000 -A INPUT -j ACCEPT", "iptables -S"],
    "families": ["iptables -4 -A INPUT -s 1.1.1.1", "iptables -6 -A INPUT -s 1.1.1.2", "iptables --ipv4 -S INPUT", "iptables -S"],
    "modprobe": ["iptables -A INPUT", "iptables --modprobe=/bin/true -S", "iptables --modprobe /bin/true -S", "iptables -M /bin/true -S", "iptables-save -M /bin/true"],
    "edits": ["iptables -N u", "iptables -N u", "iptables -A INPUT -j u", "iptables -X u", "iptables -E u v", "iptables -E nosuch x", "iptables -S",
              "iptables -I INPUT 99 -j DROP", "iptables -I INPUT 1 -s 9.9.9.9", "iptables -C INPUT -s 9.9.9.9", "iptables -C INPUT -s 9.9.9.8",
              "iptables -R INPUT 99 -j DROP", "iptables -R INPUT 1 -j DROP", "iptables -D INPUT 9", "iptables -D INPUT -s 8.8.8.8", "iptables -P v DROP",
              "iptables -P INPUT FOO", "iptables -S", "iptables -S INPUT 1", "iptables -S nosuch", "iptables -F nosuch", "iptables -F", "iptables -X", "iptables -S"],
    "zeroing": ["iptables -A INPUT -c 7 8 -s 1.2.3.4", "iptables -A INPUT -c 1 2 -s 1.2.3.5", "iptables -S -v INPUT", "iptables -Z INPUT 1", "iptables -Z INPUT 9",
                "iptables -S -v INPUT", "iptables -L -Z", "iptables -L INPUT -Z", "iptables -S -Z", "iptables -S -v INPUT", "iptables -Z", "iptables -L -Z nosuch"],
    "counts": [f"iptables -A INPUT -c {HUGE} 8", "iptables -A INPUT -c 0x10 010", "iptables -A INPUT -c 18446744073709551615 18446744073709551616",
               "iptables -S -v INPUT"],
    "names": ["iptables -A INPUT -s localhost -j DROP", "iptables -A INPUT -d 127.0.0.1,127.0.0.2 ! -p tcp -j DROP", "iptables -A INPUT ! -i lo",
              "iptables -A INPUT -p tcp --dp 22", "iptables -A INPUT -p tcp --dport ssh", "iptables -A INPUT -p tcp --dport 1:2 --sport=3", "iptables -S",
              "iptables -A INPUT -s nosuchhost.invalid"],
    "save": [("iptables-restore", RULES), "iptables-save -t filter", "iptables-save -t nosuch", "iptables-save -V", "iptables-save -x", "iptables-save foo",
             "iptables-save -4", "iptables-save -f /nosuch/out"],
    "restore": [("iptables-restore -c", RULES), "iptables-save -c", ("iptables-restore", RULES), ("iptables-restore -t", "*filter\nfoo\nCOMMIT\n"),
                ("iptables-restore -t", "*nat\n-A OUTPUT\nCOMMIT\n"), SAVE, ("iptables-restore -T nat -n", RULES), SAVE, ("iptables-restore -n", RULES), SAVE,
                ("iptables-restore -w 3", RULES), ("iptables-restore --wait=3", RULES), ("iptables-restore -W 9", ""), ("iptables-restore -w -W 9", RULES),
                ("iptables-restore -V", ""), ("iptables-restore -x", ""), ("iptables-restore -4", ""), ("iptables-restore --ipv6", ""), SAVE],
    "verbose restore": [("iptables-restore -v", RULES), ("iptables-restore -v", RULES), ("iptables-restore -v -n", RULES), ("iptables-restore -n", COMMANDS_INSIDE), SAVE],
    "huge counts": [("iptables-restore -c", f"*filter\n:INPUT ACCEPT [0:0]\n[{HUGE}:18446744073709551616] -A INPUT -j DROP\n[{HUGE}:1] -A INPUT --jump DROP\n"
                                            f"[{'0' * 5000}1:1] -A INPUT\nCOMMIT\n"), "iptables -S -v INPUT"],
    "odd counts": [("iptables-restore", RULES), ("iptables-restore -c", "*filter\n[\u00b2:1] -A INPUT -j DROP\nCOMMIT\n"), ("iptables-restore -c", "*filter\n[1:] -A INPUT -j DROP\nCOMMIT\n"), SAVE],
    "bad files": [("iptables-restore", RULES)] + [step for text in (
        "\x7fELF\x02\x01\x01" + "\udcff\udc80" * 50, "*filter\nfoo" + "a" * 1_000_000 + "\nCOMMIT\n", "*filter\r\n:INPUT ACCEPT [0:0]\r\nCOMMIT\r\n", "COMMIT\n",
        "*filter\nCOMMIT", LOOP) for step in (("iptables-restore", text), SAVE)],
    "deep": [("iptables-restore", DEEP), "iptables -S c1000", "iptables -X c999", "iptables -F", "iptables -X", SAVE],
}


def by_the_tool(steps, tmp_path):
    script = ""
    for number, (command, text) in enumerate(steps):
        (tmp_path / f"{number}.in").write_bytes(text.encode(errors="surrogateescape"))
        script += f"{command.replace('iptables', 'iptables-legacy', 1)} < {tmp_path}/{number}.in > {tmp_path}/{number}.out 2> {tmp_path}/{number}.err; echo $?\n"
    codes = real.shell(script, tmp_path / "lock").stdout.split()
    return [(int(code), *((tmp_path / f"{number}.{kind}").read_bytes().decode(errors="surrogateescape") for kind in ("out", "err")))
            for number, code in enumerate(codes)]


def comparable(found):
    code, out, err = found
    return code, *(real.without_stamps(text).replace("v1.8.9", "v1.8.13").replace("iptables-legacy", "iptables") for text in (out, err))


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequence(name, tmp_path):
    steps = [step if isinstance(step, tuple) else (step, "") for step in SEQUENCES[name]]
    theirs = by_the_tool(steps, tmp_path)
    store = MemoryStore()
    for (command, text), wanted in zip(steps, theirs, strict=True):
        result = applet.run(command.split(), store, text)
        assert comparable((result.code, result.stdout, result.stderr)) == comparable(wanted), command
