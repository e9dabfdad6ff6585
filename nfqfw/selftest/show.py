"""One case for a reader: the kernel's whole answer beside ours, and the smallest case that still differs, as files."""

from __future__ import annotations

from pathlib import Path

from nfqfw.selftest.case import Case
from nfqfw.selftest.flow import write_flow
from nfqfw.selftest.outcome import Counters, Outcome, shown_connection, shown_step


def beside(case: Case, kernel: Outcome, ours: Outcome) -> str:
    """Packet by packet, rule by rule, connection by connection; `=` where both say the same, else a line of each."""
    out = [f"family {4 if case.family == 2 else 6}"]
    for i, step in enumerate(case.steps):
        out.append(f"packet {i + 1}: {step.point} {step.packet.text()}")
        out += _pair(shown_step(kernel.steps[i]), shown_step(ours.steps[i]))
    out += _counters(case, kernel.counters, ours.counters)
    theirs, mine = ({shown_connection(c.normal()) for c in outcome.connections} for outcome in (kernel, ours))
    out.append("connections:")
    out += [f"  {'=     ' if c in theirs & mine else 'kernel' if c in theirs else 'nfqfw '} {c}" for c in sorted(theirs | mine)]
    return "\n".join(out) + "\n"


def _pair(kernel: str, ours: str) -> list[str]:
    return [f"  =      {kernel}"] if kernel == ours else [f"  kernel {kernel}", f"  nfqfw  {ours}"]


def _counters(case: Case, kernel: Counters, ours: Counters) -> list[str]:
    """Each rule with its packets and bytes; a policy stands last in its chain."""
    rules = rule_texts(case.rules)
    out = []
    for key in sorted(set(kernel) | set(ours)):
        theirs, mine = kernel.get(key, []), ours.get(key, [])
        texts = rules.get(key, [])
        for i in range(max(len(theirs), len(mine))):
            pair = [str(rows[i]) if i < len(rows) else "none" for rows in (theirs, mine)]
            out.append(f"{key[0]} {key[1]} {texts[i] if i < len(texts) else 'policy'}")
            out += _pair(*pair)
    return out


def rule_texts(rules: str) -> dict[tuple[str, str], list[str]]:
    """(table, chain) -> its rules, as the text has them."""
    out: dict[tuple[str, str], list[str]] = {}
    table = ""
    for line in rules.splitlines():
        if line.startswith("*"):
            table = line[1:]
        elif line.startswith("-A "):
            _, chain, *rest = line.split(" ", 2)
            out.setdefault((table, chain), []).append(" ".join(rest))
    return out


def write_files(case: Case, note: list[str], directory: Path, name: str) -> list[Path]:
    """NAME.flow, which both twins run, and NAME.v4 or NAME.v6, its rules as iptables-restore takes them."""
    directory.mkdir(parents=True, exist_ok=True)
    flow, rules = directory / f"{name}.flow", directory / f"{name}.v{4 if case.family == 2 else 6}"
    flow.write_text(write_flow(case, "\n".join(note)))
    rules.write_text(case.rules)
    return [flow, rules]

