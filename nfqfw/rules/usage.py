"""The text of -h."""

from __future__ import annotations

# option as shown, what it does
COMMANDS = (
    ("--append  -A chain", "add the rule at the end of a chain"),
    ("--check   -C chain", "say by the exit code whether the rule is there"),
    ("--delete  -D chain", "delete the first rule equal to this one"),
    ("--delete  -D chain rulenum", "delete a rule by its number"),
    ("--insert  -I chain [rulenum]", "insert the rule at a number, by default 1"),
    ("--replace -R chain rulenum", "put this rule in the place of another"),
    ("--list    -L [chain [rulenum]]", "list rules"),
    ("--list-rules -S [chain [rulenum]]", "print rules as commands"),
    ("--flush   -F [chain]", "delete all rules of a chain, or of all"),
    ("--zero    -Z [chain [rulenum]]", "set counters to 0"),
    ("--new     -N chain", "make a chain"),
    ("--delete-chain -X [chain]", "delete an empty chain that nothing jumps to, or all of them"),
    ("--policy  -P chain target", "set what happens at the end of a built-in chain"),
    ("--rename-chain -E old-chain new-chain", "rename a chain; jumps follow"),
)
OPTIONS = (
    ("    --ipv4       -4", "IPv4 only"),
    ("    --ipv6       -6", "IPv6 only"),
    ("[!] --protocol   -p proto", "protocol by number or name"),
    ("[!] --source     -s address[/mask][,...]", "source address"),
    ("[!] --destination -d address[/mask][,...]", "destination address"),
    ("[!] --in-interface -i name[+]", "interface it came in by; + ends a prefix"),
    ("    --jump       -j target", "verdict, extension target or chain"),
    ("    --goto       -g chain", "chain from which nothing returns here"),
    ("    --match      -m match", "load a match"),
    ("    --numeric    -n", "print no names"),
    ("[!] --out-interface -o name[+]", "interface it leaves by; + ends a prefix"),
    ("    --table      -t table", "table, by default filter"),
    ("    --verbose    -v", "say more"),
    ("    --wait       -w [seconds]", "accepted; writers always wait for each other"),
    ("    --line-numbers", "number the rules of a list"),
    ("    --exact      -x", "print whole counters"),
    ("[!] --fragment   -f", "second and later fragments (IPv4)"),
    ("    --modprobe=<command>", "accepted; there are no modules"),
    ("    --set-counters -c PKTS BYTES", "start with these counters"),
    ("[!] --version    -V", "print the version"),
)


def usage(program: str, version: str, family: int, loaded: list) -> str:
    """Help of the program, then of every extension loaded before -h on the command line."""
    lines = [f"{program} v{version} (legacy)", "",
             f"Usage: {program} -[ACD] chain rule-specification [options]",
             f"       {program} -I chain [rulenum] rule-specification [options]",
             f"       {program} -R chain rulenum rule-specification [options]",
             f"       {program} -D chain rulenum [options]",
             f"       {program} -[LS] [chain [rulenum]] [options]",
             f"       {program} -[FZ] [chain] [options]",
             f"       {program} -[NX] chain",
             f"       {program} -E old-chain-name new-chain-name",
             f"       {program} -P chain target [options]",
             f"       {program} -h (print this help information)", "",
             "Commands:", "Either long or short options are allowed."]
    lines += [f"  {option:<40}{text}" for option, text in COMMANDS]
    lines += ["", "Options:"]
    lines += [f"{option:<42}{text}" for option, text in OPTIONS if family == 2 or "-f" not in option.split()]
    return "\n".join(lines) + "\n" + "".join("\n" + extension.help() for extension in loaded)
