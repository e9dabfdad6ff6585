"""nfqfw check: arguments and rendering."""

import json
import sys
from pathlib import Path

import click

from nfqfw.cli import exits
from nfqfw.cli.files import family_of, read_rules


@click.command(short_help="Report every mistake of iptables-save files.")
@click.argument("files", nargs=-1, required=True, type=click.Path(dir_okay=False, path_type=Path))
@click.option("-4", "--ipv4", "family", flag_value=2, default=None, help="The files are IPv4 rulesets (default: by name and content).")
@click.option("-6", "--ipv6", "family", flag_value=10, help="The files are IPv6 rulesets.")
@click.option("--live", is_flag=True, help="Report also the rules that this build can load but not evaluate.")
@click.option("--strict", is_flag=True, help="Exit with 1 when there are warnings.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def command(files: tuple[Path, ...], family: int | None, live: bool, strict: bool, as_json: bool) -> int:
    """Load iptables-save files as `nfqfw run` would and report all mistakes at once, each with line, column and caret; and warn of what
    iptables accepts but nobody means, such as rules that an earlier rule leaves no packet for.

    Exit code 0: no mistakes; 3: mistakes; 1: warnings, with --strict; 2: a file cannot be read.
    """
    from nfqfw.rules import lint
    bad = warned = False
    for path in files:
        text = read_rules(path)
        ruleset, mistakes = find_mistakes(text, str(path), family or family_of(path, text), live)
        remarks = lint.warnings(ruleset) if ruleset is not None else []
        bad, warned = bad or bool(mistakes), warned or bool(remarks)
        (print_json if as_json else print_text)(path, mistakes, remarks)
    return exits.RULES if bad else exits.NO if warned and strict else exits.OK


def find_mistakes(text: str, name: str, family: int, live: bool) -> tuple:
    """(Ruleset if it could be read, mistakes)."""
    from nfqfw import rules
    from nfqfw.errors import RuleError, RuleErrors
    ruleset = None
    try:
        ruleset = rules.load(text, name, family)
        rules.check(ruleset)
        if live:
            from nfqfw.compile import compile_rulesets
            compile_rulesets([ruleset])
    except RuleErrors as errors:
        return ruleset, list(errors)
    except RuleError as error:
        return ruleset, [error]
    return ruleset, []


def print_text(path: Path, mistakes: list, remarks: list) -> None:
    for item in (*mistakes, *remarks):
        click.echo(str(item))
    what = [count(len(mistakes), "mistake") if mistakes else "ok"] + ([count(len(remarks), "warning")] if remarks else [])
    click.echo(f"{path}: " + ", ".join(what))


def count(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def print_json(path: Path, mistakes: list, remarks: list) -> None:
    items = [{"message": m.message.strip(), **({"line": m.span.line, "column": m.span.column, "length": m.span.length} if m.span else {})}
             for m in mistakes]
    json.dump({"file": str(path), "ok": not mistakes, "mistakes": items,
               "warnings": [{"message": remark.message, "line": remark.span.line} for remark in remarks]}, sys.stdout)
    print()
