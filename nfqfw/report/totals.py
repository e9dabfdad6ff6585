"""Totals of a run or a replay: what was judged, why packets were dropped, counters of every rule, connections.

One dict of plain values is the form of --json and of the demo; `text` prints it for people.  Packets and bytes are counted
as the kernel counts them: once per rule that a packet meets.
"""

from collections.abc import Callable, Iterable, Sequence

from nfqfw.compile import Program

IP_VERSION = {2: 4, 10: 6}


def rules_data(program: Program, counters: Sequence[tuple[int, int]], rule_text: Callable[[object], str]) -> list[dict]:
    """Every rule, chain by chain, then the chain's policy.  counters: (packets, bytes) by counter number."""
    by_chain: dict[int, list[int]] = {}
    for row, chain in enumerate(program.rule_chain):
        by_chain.setdefault(chain, []).append(row)
    items = []
    for number, info in enumerate(program.chains):
        place = {"family": IP_VERSION[info.family], "table": info.table, "chain": info.chain.name}
        for position, row in enumerate(by_chain.get(number, ()), 1):
            rule = program.rules[row]
            at = f"{rule.span.file}:{rule.span.line}" if rule.span is not None and rule.span.file else ""
            items.append(place | {"position": position, "rule": rule_text(rule), "at": at} | pair(counters[row]))
        if info.chain.policy is not None:
            items.append(place | {"policy": info.chain.policy} | pair(counters[info.policy_counter]))
    return items


def pair(counter: tuple[int, int]) -> dict:
    return {"packets": counter[0], "bytes": counter[1]}


def totals(program: Program, counters: Sequence[tuple[int, int]], stats: dict, rule_text: Callable[[object], str],
           connections: Iterable[str] = ()) -> dict:
    """stats: what engines and transports counted (`Engine.stats()`, summed over threads)."""
    return {"stats": stats, "rules": rules_data(program, counters, rule_text), "connections": list(connections)}


def text(data: dict) -> str:
    """The totals as lines: crossings and verdicts, drops of ours by reason, rules that packets met."""
    stats = data["stats"]
    lines = [f"{stats.get('packets', 0)} packets judged ({stats.get('bytes', 0)} bytes): "
             f"{stats.get('accepted', 0)} accepted, {stats.get('dropped', 0)} dropped"]
    lines += [f"  dropped by nfqfw, {reason}: {n}" for reason, n in sorted(stats.get("drops", {}).items()) if n and reason != "rejected"]
    lines += [f"  {name.replace('_', ' ')}: {stats[name]}" for name in ("records_dropped", "reject_outbox_full") if stats.get(name)]
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
