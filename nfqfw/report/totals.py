"""Totals of a run or a replay: what was judged, why packets were dropped, counters of every rule, connections.

One dict of plain values is the form of --json and of the demo; `text` prints it for people.  Packets and bytes are counted
as the kernel counts them: once per rule that a packet meets.
"""

from collections.abc import Iterable, Mapping, Sequence

from nfqfw.compile import Program
from nfqfw.rules.model import Ruleset
from nfqfw.rules.saving import rule_text

IP_VERSION = {2: 4, 10: 6}
TRANSPORT_LOSSES = (            # names of Worker.totals() that a user must hear of
    ("queue_dropped", "dropped by the kernel, queue full"), ("user_dropped", "dropped by the kernel, receive buffer full"),
    ("verdicts_lost", "verdicts that could not be sent"), ("malformed", "queue messages that could not be read"),
    ("reject_send_full", "REJECT replies dropped, send buffer full"), ("reject_failed", "REJECT replies that could not be sent"),
)
Counts = Mapping[int, tuple[int, int]]          # id() of a Rule or PolicyCount -> (packets, bytes)


def counts_of(program: Program, counters: Sequence[tuple[int, int]]) -> Counts:
    """Counters of one Program by the object that each belongs to."""
    counts = {id(rule): counters[row] for row, rule in enumerate(program.rules)}
    counts |= {id(info.chain.count): counters[info.policy_counter] for info in program.chains if info.chain.policy is not None}
    return counts


def rules_data(rulesets: Iterable[Ruleset], counts: Counts) -> list[dict]:
    """Every rule, chain by chain, then the chain's policy."""
    items = []
    for ruleset in rulesets:
        for table in ruleset.tables.values():
            for chain in table.chains.values():
                place = {"family": IP_VERSION[ruleset.family], "table": table.name, "chain": chain.name}
                for position, rule in enumerate(chain.rules, 1):
                    at = f"{rule.file}:{rule.line}" if rule.file else ""
                    items.append(place | {"position": position, "rule": rule_text(rule).strip(), "at": at} | pair(counts.get(id(rule))))
                if chain.policy is not None:
                    items.append(place | {"policy": chain.policy} | pair(counts.get(id(chain.count))))
    return items


def pair(counter: tuple[int, int] | None) -> dict:
    packets, octets = counter or (0, 0)
    return {"packets": packets, "bytes": octets}


def totals(rulesets: Iterable[Ruleset], counts: Counts, stats: dict, connections: Iterable[str] = ()) -> dict:
    """stats: what engines and transports counted (`Engine.stats()`, summed over threads)."""
    return {"stats": stats, "rules": rules_data(rulesets, counts), "connections": list(connections)}


def text(data: dict) -> str:
    """The totals as lines: crossings and verdicts, drops of ours by reason, rules that packets met."""
    stats = data["stats"]
    lines = [f"{stats.get('packets', 0)} packets judged ({stats.get('bytes', 0)} bytes): "
             f"{stats.get('accepted', 0)} accepted, {stats.get('dropped', 0)} dropped"]
    lines += [f"  dropped by nfqfw, {reason}: {n}" for reason, n in sorted(stats.get("drops", {}).items()) if n and reason != "rejected"]
    lines += [f"  {name.replace('_', ' ')}: {stats[name]}" for name in ("records_dropped", "reject_outbox_full") if stats.get(name)]
    transport = stats.get("transport", {})
    lines += [f"  {what}: {transport[name]}" for name, what in TRANSPORT_LOSSES if transport.get(name)]
    hit = [rule for rule in data["rules"] if rule["packets"]]
    if hit:
        lines.append(f"{'packets':>10} {'bytes':>12}  rule (of {len(data['rules'])}, those that packets met)")
    for rule in hit:
        what = f"policy {rule['policy']}" if "policy" in rule else f"{rule['position']} {rule['rule']}"
        lines.append(f"{rule['packets']:>10} {rule['bytes']:>12}  IPv{rule['family']} {rule['table']} {rule['chain']} {what}")
    if data["connections"]:
        lines.append(f"{len(data['connections'])} connections at the end")
    return "\n".join(lines)


def add(total: dict, more: dict) -> dict:
    """Sum of two stats dicts, reason by reason: threads of one run."""
    out = dict(total)
    for key, value in more.items():
        out[key] = add(out.get(key, {}), value) if isinstance(value, dict) else out.get(key, 0) + value
    return out
