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
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per file.")
def command(files: tuple[Path, ...], family: int | None, live: bool, as_json: bool) -> int:
    """Load iptables-save files as `nfqfw run` would and report all mistakes at once, each with line, column and caret.

    Exit code 0: no mistakes; 3: mistakes; 2: a file cannot be read.
    """
    bad = 0
    for path in files:
        text = read_rules(path)
        mistakes = find_mistakes(text, str(path), family or family_of(path, text), live)
        bad += bool(mistakes)
        (print_json if as_json else print_text)(path, mistakes)
    return exits.RULES if bad else exits.OK


def find_mistakes(text: str, name: str, family: int, live: bool) -> list:
    from nfqfw import rules
    from nfqfw.errors import RuleError, RuleErrors
    try:
        ruleset = rules.load(text, name, family)
        rules.check(ruleset)
        if live:
            from nfqfw.compile import compile_rulesets
            compile_rulesets([ruleset])
    except RuleErrors as errors:
        return list(errors)
    except RuleError as error:
        return [error]
    return []


def print_text(path: Path, mistakes: list) -> None:
    for mistake in mistakes:
        click.echo(str(mistake))
    click.echo(f"{path}: " + (f"{len(mistakes)} mistake{'s' * (len(mistakes) > 1)}" if mistakes else "ok"))


def print_json(path: Path, mistakes: list) -> None:
    items = [{"message": m.message.strip(), **({"line": m.span.line, "column": m.span.column, "length": m.span.length} if m.span else {})}
             for m in mistakes]
    json.dump({"file": str(path), "ok": not mistakes, "mistakes": items}, sys.stdout)
    print()
