"""target RATEEST: feeds a rate estimator."""

from __future__ import annotations

import math

from nfqfw.errors import RuleError
from nfqfw.ext.api import Extension, Opt, target
from nfqfw.ext.lowering import Unevaluated
from nfqfw.ext.rates import parse_time, time_text

TICK = 250_000                      # shortest interval in microseconds; longer ones double it


@target("RATEEST",
        Opt("rateest-name", "string", required=True, key="name", high=15, metavar="name", help="name of the estimator"),
        Opt("rateest-interval", "own", key="interval", metavar="sec", help="time between two looks"),
        Opt("rateest-ewmalog", "own", key="ewmalog", metavar="value", help="time over which is averaged"))
class Rateest:
    def read_interval(self, draft, opt, text, env):
        value = parse_time(text)
        if value is None:
            raise RuleError(f'RATEEST: bad {opt.key} value "{text}"')
        draft.values[opt.key] = value

    read_ewmalog = read_interval

    def finish(self, draft, env):
        """The times are looked at before anything that is missing."""
        values = draft.values
        wanted, average = values.get("interval", 0), values.get("ewmalog", 0)
        step = next((i for i in range(6) if wanted <= TICK << i), None)
        if step is None:
            raise RuleError("RATEEST: interval value is too large")
        log = next((i for i in range(1, 32) if wanted / -math.log(1 - 1 / (1 << i)) > average), 32) - 1
        if not 1 <= log < 31:
            raise RuleError("RATEEST: ewmalog value is out of range")
        values["interval"], values["ewmalog"] = TICK << step, (TICK << step) << log
        return Extension.finish(self, draft, env)

    def save(self, use):
        values = use.values
        return f" --rateest-name {values['name']} --rateest-interval {time_text(values['interval'])} --rateest-ewmalog {time_text(values['ewmalog'])}"

    def show(self, use, numeric, resolver):
        values = use.values
        return f"name {values['name']} interval {time_text(values['interval'])} ewmalog {time_text(values['ewmalog'])}"

    def lower(self, use, rule):
        return Unevaluated("not evaluated yet: RATEEST: needs rates measured over time")
