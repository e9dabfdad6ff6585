"""Random rules and commands of the extensions that exist, as text.  Seeded; the same seed gives the same text."""

from __future__ import annotations

import random

from tests.ext import vectors

BUILTIN = {"filter": ("INPUT", "FORWARD", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
           "raw": ("PREROUTING", "OUTPUT"), "nat": ("PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"),
           "security": ("INPUT", "FORWARD", "OUTPUT")}
OWN4 = ("", "-s 10.0.0.0/8", "! -s 192.168.1.1/32", "-d 1.2.3.4/32 -i eth+", "-s 1.0.3.0/255.0.255.0", "! -o eth1", "-f", "! -f",
        "-s 10.1.0.0/16 ! -d 10.2.0.0/15", "-i lo", "-p esp", "! -p ah", "! -p udp", "-p tcp", "-d 127.0.0.1/32")
OWN6 = ("", "-s 2001:db8::/32", "! -d ::1/128", "-i eth+", "-p esp", "! -p sctp", "-s fe80::/10 -d ff02::1/128")
PORTED = ("-p tcp -m tcp --dport {port}", "-p udp -m udp ! --sport {port}", "-p tcp -m tcp --sport {port}:65535 ! --tcp-flags FIN,SYN,RST,ACK SYN",
          "-p tcp -m multiport --dports 1,{port}", "-p udp -m multiport ! --ports 53,67:68")
MATCHES = ("-m comment --comment \"rule {port}\"", "-m conntrack --ctstate NEW,ESTABLISHED", "-m conntrack ! --ctstate INVALID --ctdir REPLY",
           "-m limit --limit 5/min --limit-burst 7", "-m mark --mark 0x1/0xff", "-m state --state RELATED", "-m limit --limit 3/hour")
TARGETS = ("-j ACCEPT", "-j DROP", "-j RETURN", "", "-j LOG --log-prefix \"p{port}: \"", "-j MARK --set-xmark 0x{port}/0xffffffff",
           "-j REJECT --reject-with icmp-port-unreachable", "-j LOG --log-level 7")


def rule(rng: random.Random, family: int, table: str, chains: list[str]) -> str:
    """A rule that the kernel accepts in any built-in chain of filter; text in the form of save."""
    port = rng.randrange(1, 65535)
    own = rng.choice(OWN4 if family == 4 else OWN6)
    parts = [own]
    if "-p " not in own and "-f" not in own and rng.random() < 0.5:
        parts.append(rng.choice(PORTED))
    parts += rng.sample(MATCHES, rng.choice((0, 0, 1, 1, 2)))
    targets = [t for t in TARGETS if ("REJECT" not in t or (table == "filter" and family == 4))]
    if table == "nat":
        targets = [t for t in targets if "DROP" not in t]
    parts.append(rng.choice([f"-j {rng.choice(chains)}", f"-g {rng.choice(chains)}"]) if chains and rng.random() < 0.2 else rng.choice(targets))
    return " ".join(part for part in parts if part).format(port=port)


def fits(chain: str, text: str) -> bool:
    """No interface that the tool refuses for this chain."""
    words = text.split()
    return not ("-o" in words and chain in ("INPUT", "PREROUTING") or "-i" in words and chain in ("OUTPUT", "POSTROUTING"))


def ruleset(seed: int, family: int = 4, rules: int = 200) -> str:
    """A file for iptables-restore: all tables, user chains without loops, counters."""
    rng = random.Random(seed)
    out = []
    for table, builtin in BUILTIN.items():
        users = [f"u{i}" for i in range(rng.randrange(1, 6))]
        out.append(f"*{table}")
        for chain in builtin:
            policy = rng.choice(("ACCEPT", "DROP")) if table != "nat" else "ACCEPT"
            out.append(f":{chain} {policy} [{rng.randrange(1 << rng.randrange(1, 50))}:{rng.randrange(1 << rng.randrange(1, 60))}]")
        out += [f":{chain} - [0:0]" for chain in users]
        for _ in range(rules // 5):
            chain = rng.choice([*builtin, *users])
            later = users[users.index(chain) + 1:] if chain in users else users
            text = rule(rng, family, table, later)
            if fits(chain, text):
                counts = f"[{rng.randrange(1 << rng.randrange(1, 40))}:{rng.randrange(1 << rng.randrange(1, 50))}] "
                out.append(f"{counts}-A {chain} {text}".rstrip())
        out.append("COMMIT")
    return "\n".join(out) + "\n"


def script(seed: int, commands: int = 512, family: int = 4) -> list[str]:
    """Commands on table filter, most of which succeed."""
    rng = random.Random(seed)
    users = [f"u{i}" for i in range(6)]
    out = []
    for _ in range(commands):
        chain = rng.choice(("INPUT", "FORWARD", "OUTPUT", *users))
        kind = rng.choices("AIDRNXZPEFC", (30, 15, 12, 8, 10, 4, 2, 3, 4, 1, 3))[0]
        later = users[users.index(chain) + 1:] if chain in users else users
        text = rule(rng, family, "filter", later if rng.random() < 0.9 else users)
        number = rng.randrange(1, 12)
        out.append({
            "A": f"-A {chain} {text}", "I": f"-I {chain} {number} {text}" if rng.random() < 0.5 else f"-I {chain} {text}",
            "D": f"-D {chain} {number}", "R": f"-R {chain} {number} {text}", "N": f"-N {rng.choice(users)}",
            "X": f"-X {rng.choice(users)}", "Z": f"-Z {chain}", "P": f"-P {rng.choice(('INPUT', 'FORWARD'))} {rng.choice(('ACCEPT', 'DROP'))}",
            "E": f"-E {rng.choice(users)} {rng.choice(users)}", "F": f"-F {rng.choice(users)}", "C": f"-C {chain} {text}",
        }[kind].strip())
    return out


def accepted_vectors(family: int):
    return [vector for vector in vectors.every() if vector.ok and vector.family == family]
