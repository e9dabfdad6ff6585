"""Events beside `conntrack -E` of the real tool: which are told, in which order, with which words; and what CT --ctevents leaves out."""

import re
import subprocess
import time
from contextlib import contextmanager
from itertools import groupby

import pytest

from nfqfw.conntrack.command import follow, run
from nfqfw.selftest import kernel as twin
from nfqfw.selftest.flow import parse_flow
from nfqfw.selftest.ours import OurTwin

pytestmark = [pytest.mark.netns, pytest.mark.skipif(bool(twin.missing("conntrack")), reason=f"kernel twin: {twin.missing('conntrack')}")]
STORY = """
rules
*raw
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
-A PREROUTING -m udp -p udp --dport 69 -j CT --helper tftp {options}
-A PREROUTING -j CT {options}
COMMIT
*mangle
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:FORWARD ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p udp --dport 53 -j CONNMARK --set-mark 7
-A PREROUTING -p udp --sport 53 -j CONNMARK --set-mark 8
COMMIT
end
+0 client C0:5000>S0:53 udp 9
+0 server S0:53>C0:5000 udp 9
+0 server S0:53>C0:5000 udp 9
+0 client C0:1111>S0:80 tcp S 100:101(0)
+0 server S0:80>C0:1111 tcp S. 500:501(0) ack 101
+0 client C0:1111>S0:80 tcp . 101:101(0) ack 501
+0 client C0:1111>S0:80 tcp F. 101:102(0) ack 501
+0 client C0:5000>S0:69 udp 1
+0 run conntrack -I expect -p udp -s $C0 -d $S0 --sport 5000 --dport 69 -t 9 --tuple-src $S0 --tuple-dst $C0 --mask-src $M32 --mask-dst $M32 --tuple-port-src 0 --tuple-port-dst 7000 --mask-port-src 0 --mask-port-dst 7
+0 run conntrack -I expect -p udp -s $C0 -d $S0 --sport 5000 --dport 69 -t 9 --tuple-src $S0 --tuple-dst $C0 --mask-src $M32 --mask-dst $M32 --tuple-port-src 0 --tuple-port-dst 7001 --mask-port-src 0 --mask-port-dst 7
+0 server S0:6000>C0:7001 udp 1
+0 run conntrack -U -p udp -s $C0 -d $S0 --sport 5000 --dport 53 -m 4
+0 run conntrack -I -p udp -s 192.0.2.1 -d 192.0.2.2 --sport 1 --dport 2 -t 50
+0 run conntrack -D -p tcp
+0 run conntrack -D -p udp --dport 53
+0 run conntrack -F
"""
WORDS = ("new", "related", "destroy", "reply", "assured", "protoinfo", "helper", "mark", "secmark", "new,destroy", "reply,mark")
OPTIONS = ("", *("--ctevents " + words for words in WORDS), "--expevents new", "--ctevents new --expevents new")
SECONDS_READY = 5


def normal(text: str) -> list[str]:
    """One line per event, ids and time taken out; neighbours of one command in any order."""
    text = re.sub(r" progname=\S+", "", re.sub(r"\b(port)?id=\d+", r"\1id=N", text))      # the name if the process still lives: chance
    text = re.sub(r"(\] )(\w+ +\d+ )?(\d+)(?= )", lambda m: m[1] + (m[2] or "") + str(-(-int(m[3]) // 10) * 10), text)
    lines = [line for line in text.splitlines() if not line.startswith("conntrack v")]
    return [line for gone, some in groupby(lines, lambda line: line.startswith("[DESTROY]")) for line in (sorted(some) if gone else some)]


@contextmanager
def listening(kernel, *arguments):
    """What `conntrack -E` of the router namespace says while the block runs; it is ready when it has shown an event."""
    with kernel.inside():
        tool = subprocess.Popen(["/usr/bin/stdbuf", "-oL", twin.real_tool("conntrack"), "-E", *arguments], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = []
    try:
        deadline = time.monotonic() + SECONDS_READY
        with kernel.inside():
            inode = lambda: [line for line in open("/proc/thread-self/net/netlink") if line.split()[1] == "12" and line.split()[3] != "00000000"]    # noqa: E731, SIM115
            while not any(int(line.split()[3], 16) & 0x3f for line in inode()) and time.monotonic() < deadline:
                time.sleep(0.01)
        yield out
        time.sleep(0.1)
    finally:
        tool.terminate()
        out.extend(normal(tool.communicate(timeout=10)[0]))


@pytest.fixture(scope="module")
def twins():
    with twin.KernelTwin() as kernel, OurTwin() as ours:
        yield kernel, ours


@pytest.mark.parametrize("table", ["conntrack", "expect"])
@pytest.mark.parametrize("options", OPTIONS)
def test_same_events_as_the_kernel(twins, options, table):
    kernel, ours = twins
    case = parse_flow("family 4\n" + STORY.format(options=options))[0]
    arguments = ["expect"] if table == "expect" else []
    with listening(kernel, *arguments) as theirs:
        kernel.run(case)
    ours.table.events(1 << 20)
    ours.table.listen()
    ours.run(case)
    request = run(["-E", *arguments], ours.table).follow
    mine = normal("".join(follow(request, event, 0) for event in ours.table.events(1 << 20)))
    assert "\n".join(mine) == "\n".join(theirs)
