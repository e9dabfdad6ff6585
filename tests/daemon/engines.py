"""An evaluator that counts what a test says it counts, instead of judging packets."""

from nfqfw.errors import NfqfwError


class CountingEvaluator:
    """`hit(owner, packets, size)` makes the Rule or PolicyCount count in the Program in force."""

    def __init__(self):
        self.program = None
        self.live = []
        self.loads = 0
        self.refuse = None                              # an exception that the next load raises
        self.stopped = False
        self.failure = None                             # what `check` tells once

    def load(self, program, kept):
        if self.refuse is not None:
            error, self.refuse = self.refuse, None
            raise error
        final, self.live, self.program, self.kept = self.live, [(0, 0)] * program.n_counters, program, kept
        self.loads += 1
        return final

    def counters(self):
        return list(self.live)

    def hit(self, owner, packets, size):
        number = next(n for n, found in self.owners() if found is owner)
        self.live[number] = (self.live[number][0] + packets, self.live[number][1] + size)

    def owners(self):
        yield from enumerate(self.program.owners())

    def stop(self):
        self.stopped = True

    def check(self):
        failure, self.failure = self.failure, None
        return failure

    def stats(self):
        return {}

    def connections(self):
        return []

    def status(self):
        return {"hooks": [], "queues": [], "transport": "none", "transport_totals": {}, "failure": None, "connections": 0}


REFUSAL = NfqfwError("a queue thread did not finish its batch")
