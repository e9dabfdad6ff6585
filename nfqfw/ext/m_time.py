"""match time: date, time of day, days of week and month, in UTC."""

from __future__ import annotations

import calendar
import re
import struct
import time

from nfqfw.errors import RuleError
from nfqfw.ext.api import Opt, match
from nfqfw.ext.lowering import Test, Unevaluated

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
FOREVER = 0x7FFFFFFF                # 2038-01-19T03:14:07
DAY_END = 86399
EVERY_WEEKDAY, EVERY_MONTHDAY = 0xFE, 0xFFFFFFFE
DATE = re.compile(r"(\d{4})(?:-(\d{1,2})(?:-(\d{1,2})(?:T(\d{1,2})(?::(\d{1,2})(?::(\d{1,2}))?)?)?)?)?\Z", re.ASCII)
SUFFIX = {1: "st", 2: "nd", 3: "rd"}


def parse_date(text: str) -> int:
    """Seconds since 1970 of `YYYY[-MM[-DD[Thh[:mm[:ss]]]]]`, UTC."""
    found = DATE.match(text)
    if found:
        year, month, day = int(found[1]), int(found[2] or 1), int(found[3] or 1)
        hour, minute, second = int(found[4] or 0), int(found[5] or 0), int(found[6] or 0)
        if (1970 <= year <= 2038 and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60 and second < 60):
            return min(calendar.timegm((year, month, day, hour, minute, second)), FOREVER + 1 if year < 2038 else 0xFFFFFFFF)
    raise RuleError(f'Invalid date "{text}" specified. Should be YYYY[-MM[-DD[Thh[:mm[:ss]]]]]')


def parse_clock(text: str) -> int:
    """Seconds since midnight of `hh:mm[:ss]`."""
    parts = text.split(":")
    limits = (23, 59, 59)
    if 2 <= len(parts) <= 3 and all(part.isdigit() and part.isascii() for part in parts):
        numbers = [int(part) for part in parts] + [0]
        for number, limit, part in zip(numbers, limits, parts):
            if number > limit:
                raise RuleError(f'invalid time "{text if part is parts[0] else part}" specified, should be hh:mm[:ss] format and within the boundaries')
        return numbers[0] * 3600 + numbers[1] * 60 + numbers[2]
    raise RuleError(f'invalid time "{text}" specified, should be hh:mm[:ss] format and within the boundaries')


def clock_text(seconds: int) -> str:
    return f"{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def date_text(stamp: int, between: str) -> str:
    return time.strftime(f"%Y-%m-%d{between}%H:%M:%S", time.gmtime(stamp))


@match("time",
       Opt("datestart", "own", metavar="time", help="first moment: YYYY[-MM[-DD[Thh[:mm[:ss]]]]]"),
       Opt("datestop", "own", metavar="time", help="last moment"),
       Opt("timestart", "own", metavar="time", help="first second of the day: hh:mm[:ss]"),
       Opt("timestop", "own", metavar="time", help="last second of the day"),
       Opt("contiguous", help="a range over midnight belongs to the day on which it starts"),
       Opt("monthdays", "own", invert=True, metavar="value", help="days of the month: 1 to 31, with commas"),
       Opt("weekdays", "own", invert=True, metavar="value", help="days of the week: Mon,Tue,Wed,Thu,Fri,Sat,Sun or 1 to 7"),
       Opt("kerneltz", help="in the kernel's time zone instead of UTC"),
       Opt("localtz", key="kerneltz", help="old name of --kerneltz"),
       Opt("utc", key="utc", help="accepted; it is the default"))
class Time:
    def read_datestart(self, draft, opt, text, env):
        draft.values[opt.key] = parse_date(text)

    read_datestop = read_datestart

    def read_timestart(self, draft, opt, text, env):
        draft.values[opt.key] = parse_clock(text)

    read_timestop = read_timestart

    def read_monthdays(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            day = int(word) if word.isdigit() and word.isascii() and len(word) < 4 else -1
            if not 1 <= day <= 31:
                raise RuleError(f"{word} is not a valid day for --monthdays", offset=text.index(word))
            bits |= 1 << day
        draft.values["monthdays"] = bits & EVERY_MONTHDAY

    def read_weekdays(self, draft, opt, text, env):
        bits = 0
        for word in text.split(","):
            if word.isdigit() and word.isascii() and len(word) < 4:
                if not 1 <= int(word) <= 7:
                    raise RuleError(f"{word} is not a valid day specifier", offset=text.index(word))
                bits |= 1 << int(word)
                continue
            day = next((i for i, name in enumerate(DAYS, 1) if len(word) >= 2 and name.startswith(word[:3])), 0)
            if not day:
                raise RuleError(f"{word} is not a valid day specifier", offset=text.index(word))
            bits |= 1 << day
        draft.values["weekdays"] = bits

    def read_kerneltz(self, draft, opt, text, env):
        draft.values["kerneltz"] = True
        if opt.name == "localtz":
            draft.note = ("WARNING: --localtz is being replaced by --kerneltz, since \"local\" is ambiguous. Note the kernel timezone has "
                          "caveats - see manpage for details.\n")

    def final(self, draft, env):
        values = draft.values
        values.pop("utc", None)
        for key, default in (("datestart", 0), ("datestop", FOREVER), ("timestart", 0), ("timestop", DAY_END),
                             ("monthdays", EVERY_MONTHDAY), ("weekdays", EVERY_WEEKDAY)):
            values.setdefault(key, default)
        for key, every in (("monthdays", EVERY_MONTHDAY), ("weekdays", EVERY_WEEKDAY)):
            if key in draft.inverted:
                values[key] ^= every
        draft.inverted.clear()
        if "contiguous" in values and values["timestart"] <= values["timestop"]:
            raise RuleError("time: --contiguous only makes sense when stoptime is smaller than starttime")

    def weekdays(self, use) -> str:
        return ",".join(name for i, name in enumerate(DAYS, 1) if use.values["weekdays"] >> i & 1)

    def monthdays(self, use, suffix: bool) -> str:
        days = [i for i in range(1, 32) if use.values["monthdays"] >> i & 1]
        return ",".join(f"{day}{SUFFIX.get(day % 10, 'th')}" if suffix else str(day) for day in days)

    def save(self, use):
        values = use.values
        out = ""
        if (values["timestart"], values["timestop"]) != (0, DAY_END):
            out += f" --timestart {clock_text(values['timestart'])} --timestop {clock_text(values['timestop'])}"
        if values["monthdays"] != EVERY_MONTHDAY:
            out += f" --monthdays {self.monthdays(use, False)}"
        if values["weekdays"] != EVERY_WEEKDAY:
            out += f" --weekdays {self.weekdays(use)}"
        if values["datestart"]:
            out += f" --datestart {date_text(values['datestart'], 'T')}"
        out += f" --datestop {date_text(values['datestop'], 'T')}"
        return out + "".join(f" --{key}" for key in ("kerneltz", "contiguous") if key in values)

    def show(self, use, numeric, resolver):
        values = use.values
        out = "TIME"
        if (values["timestart"], values["timestop"]) != (0, DAY_END):
            out += f" from {clock_text(values['timestart'])} to {clock_text(values['timestop'])}"
        if values["weekdays"] != EVERY_WEEKDAY:
            out += f" on {self.weekdays(use)}"
        if values["monthdays"] != EVERY_MONTHDAY:
            out += f" on {self.monthdays(use, True)}"
        if values["datestart"]:
            out += f" starting from {date_text(values['datestart'], ' ')}"
        if values["datestop"] != FOREVER:
            out += f" until date {date_text(values['datestop'], ' ')}"
        return out + ("" if "kerneltz" in values else " UTC") + (" contiguous" if "contiguous" in values else "")

    def lower(self, use, rule):
        values = use.values
        if "kerneltz" in values:
            return Unevaluated("not evaluated yet: time --kerneltz")
        return [Test("time", struct.pack("<IIIIIII", *(values[key] for key in ("datestart", "datestop", "timestart", "timestop", "monthdays", "weekdays")),
                                         "contiguous" in values))]
