"""nfqfw replay: arguments and rendering.  The replay itself is nfqfw/replay.py."""

import json
import sys
from collections import Counter
from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.cli.files import IPV4, IPV6, family_of, read_rules

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command(short_help="Run a pcap file through a ruleset; needs no root.")
@click.argument("rules", type=FILE)
@click.argument("capture", type=FILE)
@click.option("--rules6", type=FILE, help="IPv6 ruleset, if RULES is the IPv4 one.")
@click.option("--host", "snapshot", type=FILE, help="Snapshot of the host: its addresses, interfaces and routes choose the hooks. "
              "Without it every packet counts as forwarded.")
@click.option("--in", "ifin", default="", metavar="NAME", help="Interface by which packets arrive (default: by the snapshot's routes).")
@click.option("--out", "ifout", default="", metavar="NAME", help="Interface by which forwarded packets leave.")
@click.option("--trace", is_flag=True, help="Print every packet's walk: rules, the predicate that failed, verdict.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON: one object per packet, then the totals.")
def command(rules: Path, capture: Path, rules6: Path | None, snapshot: Path | None, ifin: str, ifout: str, trace: bool, as_json: bool) -> int:
    """Run a pcap or pcapng file through the same engine that filters live, and count verdicts.  No root, no traffic.

    Exit code 0: the capture was judged, whatever the verdicts; 3: the ruleset has mistakes; 2: a file cannot be read.
    """
    rulesets = load(rules, rules6)
    session = Session(rulesets, capture, snapshot, ifin, ifout, trace)
    verdicts: Counter = Counter()
    for judged in session.judged():
        verdicts[judged.verdict] += 1
        if as_json:
            print(json.dumps(session.data(judged)))
        elif trace or session.logged:
            session.print(judged)
    totals = session.totals()
    if as_json:
        json.dump({"verdicts": dict(verdicts), **totals}, sys.stdout)
        print()
    else:
        from nfqfw.report.totals import text
        click.echo(f"{capture}: {sum(verdicts.values())} packets: " + (", ".join(f"{n} {v}" for v, n in verdicts.most_common()) or "none"))
        click.echo(text(totals))
    return exits.OK


def load(rules: Path, rules6: Path | None) -> list:
    from nfqfw import rules as language
    first = read_rules(rules)
    texts = [(rules, first, IPV4 if rules6 else family_of(rules, first))] + ([(rules6, read_rules(rules6), IPV6)] if rules6 else [])
    rulesets = [language.load(text, str(path), family) for path, text, family in texts]
    for ruleset in rulesets:
        language.check(ruleset)
    return rulesets


class Session:
    """One replay: the engine, and its records as text."""

    def __init__(self, rulesets: list, capture: Path, snapshot: Path | None, ifin: str, ifout: str, trace: bool) -> None:
        from nfqfw._conntrack import ConntrackTable
        from nfqfw._engine import Engine, LoadedProgram
        from nfqfw.compile import compile_rulesets
        from nfqfw.host import Host
        from nfqfw.replay import Paths
        from nfqfw.report.live import Reporter
        self.rulesets = rulesets
        self.program = compile_rulesets(rulesets)
        self.host = Host.snapshot(snapshot) if snapshot else Host.offline({name: [] for name in dict.fromkeys((ifin, ifout)) if name})
        self.table = ConntrackTable()
        self.engine = Engine(self.table, self.host.block)
        self.loaded = LoadedProgram(self.program)
        self.engine.load(self.loaded)
        self.engine.set_trace(trace)
        self.paths = Paths(self.host, ifin, ifout)
        self.capture = capture
        self.reporter = Reporter(lambda number: self.host.name(number) or str(number))
        self.reporter.add_program(self.program)
        self.logged: list[tuple[str, list[str]]] = []

    def judged(self):
        from nfqfw.queue.offline import read_capture
        from nfqfw.replay import replay
        for judged in replay(self.engine, read_capture(self.capture), self.paths):
            self.logged = [entry for record in judged.records for entry in self.reporter.feed(record)]
            yield judged

    def print(self, judged) -> None:
        for kind, lines in self.logged:
            click.echo(f"{judged.number}: " + "\n".join(lines) if kind == "trace" else f"{judged.number}: LOG {lines[0]}")

    def data(self, judged) -> dict:
        from nfqfw.reasons import REASONS
        item = {"packet": judged.number, "time": judged.wall_ns / 1e9, "summary": str(judged.summary), "verdict": judged.verdict}
        if judged.reason:
            item["reason"] = REASONS[judged.reason]
        if judged.replies:
            item["replies"] = [str(reply) for reply in judged.replies]
        for kind, lines in self.logged:
            item.setdefault(kind, []).append("\n".join(lines))
        return item

    def totals(self) -> dict:
        from nfqfw.report.totals import counts_of, totals
        return totals(self.rulesets, counts_of(self.program, self.loaded.counters_list()), self.engine.stats())
