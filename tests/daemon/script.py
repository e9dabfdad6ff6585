"""A long, mixed shell script of iptables commands, the same for a given seed; about a third of them fail."""

import random
import shlex

TABLES = {
    "filter": ("INPUT", "FORWARD", "OUTPUT"), "mangle": ("PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"),
    "raw": ("PREROUTING", "OUTPUT"), "security": ("INPUT", "FORWARD", "OUTPUT"),
}
USERS = ("web", "lan", "dmz-in", "a", "Z_1")
MATCHES = (
    "-p tcp --dport {port}", "-p tcp --sport 1024: --syn", "-p tcp ! --dport 1:{port}", "-p udp --dport {port}:65535", "-p icmp --icmp-type 8",
    "-p tcp -m multiport --dports 22,80,{port}", "-m conntrack --ctstate NEW,ESTABLISHED", "-m state --state INVALID",
    "-m mark --mark 0x{port:x}/0xff", "-m limit --limit {small}/min --limit-burst 7", "-m comment --comment 'rule {port}'",
    "-f", "-p 47", "! -p udp", "",
)
TARGETS = ("-j ACCEPT", "-j DROP", "-j RETURN", "-j {user}", "-g {user}", "-j LOG --log-prefix 'x{small} ' --log-level info", "")


class Script:
    """Draws commands; knows nothing of what they do."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)

    def table(self) -> str:
        return self.random.choices(list(TABLES), (6, 2, 1, 1))[0]

    def chain(self, table: str) -> str:
        return self.random.choice(TABLES[table] * 2 + USERS) if self.random.random() < 0.97 else "nosuch"

    def rule(self) -> str:
        words = []
        if self.random.random() < 0.5:
            words.append(f"{self.random.choice(('', '! '))}-s 10.{self.number()}.{self.number()}.0/{self.random.choice((8, 16, 24, 32))}")
        if self.random.random() < 0.3:
            words.append(f"-d 192.168.{self.number()}.1{self.random.choice(('', ',192.168.9.9'))}")
        if self.random.random() < 0.2:
            words.append(self.random.choice(("-i eth0", "-o eth1", "! -i lo", "-i ppp+")))
        words += [self.random.choice(MATCHES), self.random.choice(TARGETS)]
        return " ".join(words).format(port=self.random.randint(1, 65000), small=self.random.randint(1, 9), user=self.random.choice(USERS))

    def number(self) -> int:
        return self.random.randint(0, 255)

    def command(self) -> str:
        table = self.table()
        chain, place = self.chain(table), self.random.randint(1, 6)
        kind = self.random.choices(
            ("A", "I", "In", "D", "Dn", "R", "C", "N", "X", "Xall", "E", "P", "Z", "Zn", "F"),
            (36, 10, 8, 3, 5, 5, 2, 3, 1, 1, 2, 4, 3, 2, 1))[0]
        texts = {
            "A": f"-A {chain} {self.rule()}", "I": f"-I {chain} {self.rule()}", "In": f"-I {chain} {place} {self.rule()}",
            "D": f"-D {chain} {self.rule()}", "Dn": f"-D {chain} {place}", "R": f"-R {chain} {place} {self.rule().replace(',192.168.9.9', '')}",
            "C": f"-C {chain} {self.rule()}", "N": f"-N {self.random.choice(USERS)}", "X": f"-X {chain}", "Xall": "-X",
            "E": f"-E {chain} {self.random.choice(USERS)}", "P": f"-P {chain} {self.random.choice(('ACCEPT', 'DROP', 'RETURN'))}",
            "Z": f"-Z {chain}", "Zn": f"-Z {chain} {place}", "F": f"-F {chain}",
        }
        return f"iptables -t {table} {texts[kind]}".replace("  ", " ").strip()


def script(seed: int, commands: int) -> list[str]:
    """Shell lines; the first make the chains that later ones use."""
    drawn = Script(seed)
    lines = [f"iptables -t {table} -N {shlex.quote(user)}" for table in TABLES for user in USERS[:4]]
    return lines + [drawn.command() for _ in range(commands - len(lines))]
