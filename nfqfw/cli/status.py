"""nfqfw status: arguments and rendering."""

import json

import click

NOT_RUNNING = 1


@click.command(short_help="Show the daemon of this network namespace.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> int:
    """Show whether a daemon runs in this network namespace, what it holds and what it has done.

    Exit code 0: it runs; 1: none runs.
    """
    from nfqfw.daemon.manage import daemon_status
    status = daemon_status()
    if as_json:
        click.echo(json.dumps(status, indent=2))
    else:
        click.echo("\n".join(lines(status)) if status["running"] else "no daemon runs in this network namespace"
                   + ("; a killed one left its queue rules: nfqfw down removes them" if status["left_behind"] else ""))
    return 0 if status["running"] else NOT_RUNNING


def lines(status: dict, indent: str = "") -> list[str]:
    """Key and value, one a line; what is nested is indented."""
    out = []
    for key, value in status.items():
        name = key.replace("_", " ")
        if isinstance(value, dict):
            out += [f"{indent}{name}:", *lines(value, indent + "  ")] if value else []
        else:
            out.append(f"{indent}{name}: {', '.join(map(str, value)) if isinstance(value, list) else value}")
    return out
