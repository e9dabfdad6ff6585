"""target LED: blinks; the test kernel does not have it, so its text forms are read and printed only."""

from __future__ import annotations

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import KernelRefusal, Opt, target


@target("LED", Opt("led-trigger-id", "string", required=True, key="id", low=1, high=26, metavar="name", help="name of the trigger"),
        Opt("led-delay", "own", key="delay", metavar="ms|inf", help="stay on for so long"), Opt("led-always-blink", key="blink", help="blink also when on"))
class Led:
    def read_delay(self, draft, opt, text, env):
        number = -1 if text == "inf" else names.unsigned(text)
        if number is None:
            raise RuleError("Delay value must be within range 0..4294967295")
        draft.values["delay"] = number

    def save(self, use):
        delay = use.values.get("delay", 0)
        out = f" --led-trigger-id \"{use.values['id']}\"" + (f" --led-delay {'inf' if delay < 0 else delay}" if delay else "")
        return out + (" --led-always-blink" if "blink" in use.values else "")

    def show(self, use, numeric, resolver):
        delay = use.values.get("delay", 0)
        return f"led-trigger-id:\"{use.values['id']}\" led-delay:{'inf' if delay < 0 else f'{delay}ms'}" + (" led-always-blink" if "blink" in use.values else "")

    def check(self, use, rule):
        raise KernelRefusal("ENOENT", "this kernel has no LED target")
