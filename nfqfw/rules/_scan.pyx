"""The quick way through lines as save prints them: `-A CHAIN`, the rule's own part, matches, target.

Overview.  `Scanner.rule` gives the chain and the Rule of a line, or None for everything that is not plainly of that form:
abbreviations, options out of order, other commands, mistakes.  The caller then takes the long way (rules.grammar), which says
what is wrong.  So nothing is decided here that the grammar does not decide in the same way; tests/rules/test_scan.py
compares the two.

The options of matches and targets are read by their extensions, as everywhere; equal texts share one Use (bounded memo).
"""

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Draft, Env
from nfqfw.ext.registry import STANDARD_TARGETS, find_match, find_target
from nfqfw.limits import CHAIN_NAME_BYTES, IFACE_NAME_BYTES
from nfqfw.protocols import EXTENSION_HEADERS_WARNED
from nfqfw.rules.model import BUILTIN_CHAINS, VERDICTS, Jump, Rule

cdef enum:
    MEMO = 131072                   # remembered Uses; more are forgotten all at once

cdef enum:
    INV_IN = 0x01
    INV_OUT = 0x02
    INV_SRC = 0x08
    INV_DST = 0x10
    INV_FRAG = 0x20
    INV_PROTO = 0x40


cdef list split_words(str line, Py_ssize_t start, list ends):
    """Words of the line from `start`; `ends` gets the place behind each.  None: something that the long way must see."""
    cdef Py_ssize_t at = start, n = len(line), first
    cdef Py_UCS4 c
    cdef list words = []
    while at < n:
        c = line[at]
        if c == u' ':
            at += 1
            continue
        first = at
        if c == u'"':
            at += 1
            first = at
            while at < n:
                c = line[at]
                if c == u'"' or c == u'\\' or c < 32 or c == 127:
                    break
                at += 1
            if at >= n or c != u'"':
                return None
            words.append(line[first:at])
            at += 1
        else:
            while at < n:
                c = line[at]
                if c == u' ':
                    break
                if c == u'"' or c < 32 or c == 127:
                    return None
                at += 1
            words.append(line[first:at])
        ends.append(at)
    return words


cdef tuple network4(str text):
    """`a.b.c.d/length`, masked; None for any other form."""
    cdef Py_ssize_t at, n = len(text)
    cdef unsigned int part = 0, parts = 0, digits = 0, value = 0, length = 0, mask
    cdef Py_UCS4 c
    for at in range(n):
        c = text[at]
        if u'0' <= c <= u'9':
            part = part * 10 + (<unsigned int>c - 48)
            digits += 1
            if digits > 3 or part > 255:
                return None
        elif c == u'.' and digits and parts < 3:
            value = value << 8 | part
            parts += 1
            part = digits = 0
        elif c == u'/' and digits and parts == 3:
            value = value << 8 | part
            parts += 1
            part = digits = 0
        else:
            return None
    if parts != 4 or not digits or part > 32:
        return None
    length = part
    mask = <unsigned int>(<unsigned long long>0xffffffff << (32 - length)) if length else 0
    value &= mask
    return packed(value), packed(mask)


cdef bytes packed(unsigned int value):
    cdef unsigned char out[4]
    out[0] = value >> 24
    out[1] = (value >> 16) & 0xff
    out[2] = (value >> 8) & 0xff
    out[3] = value & 0xff
    return out[:4]


cdef class Scanner:
    """Reads lines of one table of one family."""

    cdef int family
    cdef str table
    cdef object resolver
    cdef dict memo, jumps, protocols, matches, targets
    cdef object chains                  # names of the chains that exist: the editor's dict

    def __init__(self, int family, str table, chains, resolver):
        self.family = family
        self.table = table
        self.chains = chains
        self.resolver = resolver
        self.memo = {}
        self.jumps = {}
        self.protocols = {}
        self.matches = {}
        self.targets = {}

    def rule(self, str line, Py_ssize_t start, packets, byte_count, str file, line_number):
        """(chain, Rule) of the line from `start` on, or None."""
        cdef list ends = []
        cdef list words = split_words(line, start, ends)
        cdef Py_ssize_t at = 2, n
        cdef int inverted = 0, invert = 0, protocol = 0
        cdef bint fragment = False
        cdef str word, value, chain
        cdef object source = None, source_mask = None, destination = None, destination_mask = None
        cdef str in_interface = "", out_interface = ""
        cdef list matches = []
        cdef object target = None, use
        cdef bint targeted = False
        cdef tuple network
        if words is None:
            return None
        n = len(words)
        if n < 2 or words[0] != "-A":
            return None
        chain = words[1]
        while at < n:
            word = words[at]
            if word == "!":
                if invert:
                    return None
                invert = 1
                at += 1
                continue
            if word == "-m":
                if invert or at + 1 >= n or targeted:
                    return None
                extension = self.extension(self.matches, find_match, words[at + 1])
                if extension is None:
                    return None
                found = self.options(extension, line, words, ends, at + 2, protocol, inverted & INV_PROTO)
                if found is None:
                    return None
                use, at = found
                matches.append(use)
                continue
            if word == "-j" or word == "-g":
                if invert or targeted or at + 1 >= n:
                    return None
                targeted = True
                value = words[at + 1]
                at += 2
                if value in self.chains or word == "-g":
                    target = self.jump(value, word == "-g")
                    if target is None or self.extension(self.targets, find_target, value) is not None:
                        return None
                elif value in STANDARD_TARGETS:
                    target = VERDICTS[value]
                    if value == "DROP" and self.table == "nat":
                        return None
                else:
                    extension = self.extension(self.targets, find_target, value)
                    if extension is None:
                        return None
                    found = self.options(extension, line, words, ends, at, protocol, inverted & INV_PROTO)
                    if found is None:
                        return None
                    target, at = found
                continue
            if matches or targeted or at + 1 > n:
                return None
            if word == "-f":
                if fragment or self.family != 2:
                    return None
                fragment = True
                if invert:
                    inverted |= INV_FRAG
                invert = 0
                at += 1
                continue
            if at + 1 >= n:
                return None
            value = words[at + 1]
            at += 2
            if word == "-s":
                if source is not None:
                    return None
                network = self.network(value)
                if network is None:
                    return None
                source, source_mask = network
                if invert:
                    inverted |= INV_SRC
                elif not any(source_mask):
                    return None
            elif word == "-d":
                if destination is not None:
                    return None
                network = self.network(value)
                if network is None:
                    return None
                destination, destination_mask = network
                if invert:
                    inverted |= INV_DST
                elif not any(destination_mask):
                    return None
            elif word == "-i":
                if in_interface or not self.interface(value, chain, u'i'):
                    return None
                in_interface = value
                if invert:
                    inverted |= INV_IN
            elif word == "-o":
                if out_interface or not self.interface(value, chain, u'o'):
                    return None
                out_interface = value
                if invert:
                    inverted |= INV_OUT
            elif word == "-p":
                if protocol:
                    return None
                protocol = self.protocol(value)
                if protocol <= 0:
                    return None
                if invert:
                    inverted |= INV_PROTO
            else:
                return None
            invert = 0
        if invert:
            return None
        return chain, Rule(source, source_mask, destination, destination_mask, in_interface, out_interface, protocol, fragment,
                           inverted, tuple(matches), target, packets, byte_count, file, line_number)

    cdef object extension(self, dict found, find, str name):
        """The extension of that name or None, as find says; remembered."""
        if name in found:
            return found[name]
        extension = found[name] = find(name, self.family)
        return extension

    cdef tuple network(self, str text):
        cdef tuple found
        if self.family == 2:
            found = network4(text)
            if found is not None:
                return found
        host, _, length = text.partition("/")
        mask = names.parse_mask(length, self.family)
        address = names.parse_address(host, self.family)
        if mask is None or address is None:
            return None
        return names.masked(address, mask), mask

    cdef bint interface(self, str name, str chain, Py_UCS4 side):
        """Whether the long way would take it without a word."""
        if not name or name == "+" or "/" in name or not name.isascii() or len(name) > IFACE_NAME_BYTES:
            return False
        if side == u'i':
            return chain != "OUTPUT" and chain != "POSTROUTING"
        return chain != "INPUT" and chain != "PREROUTING"

    cdef int protocol(self, str text):
        """Number, or -1 for what the long way must see."""
        found = self.protocols.get(text)
        if found is None:
            try:
                found = names.parse_protocol(text.lower())
            except RuleError:
                found = -1
            if self.family == 10 and found in EXTENSION_HEADERS_WARNED:
                found = -1
            self.protocols[text] = found
        return found

    cdef object jump(self, str chain, bint goto):
        """One Jump for all rules that go to the same place; None if there is no such chain of the user's."""
        if chain in BUILTIN_CHAINS[self.table] or chain not in self.chains:
            return None
        found = self.jumps.get((chain, goto))
        if found is None:
            found = self.jumps[chain, goto] = Jump(chain, goto)
        return found

    cdef tuple options(self, extension, str line, list words, list ends, Py_ssize_t at, int protocol, int protocol_inverted):
        """(Use, place behind its options); None for anything unusual."""
        cdef dict by_name = extension.by_name
        cdef Py_ssize_t first = at, n = len(words)
        cdef str word
        cdef object opt
        while at < n:
            word = words[at]
            if word == "!":
                if at + 1 >= n or (<str>words[at + 1])[:2] != "--":
                    break
                at += 1
                continue
            if word[:2] != "--":
                break
            opt = by_name.get(word[2:])
            if opt is None:
                return None
            at += 1 + <Py_ssize_t>opt.words
        if at > n:
            return None
        key = (extension, line[ends[first - 1]:ends[at - 1]], protocol, protocol_inverted)
        use = self.memo.get(key)
        if use is None:
            use = self.read(extension, words, first, at, protocol, protocol_inverted)
            if use is None:
                return None
            if len(self.memo) >= MEMO:
                self.memo.clear()
            self.memo[key] = use
        return use, at

    cdef object read(self, extension, list words, Py_ssize_t at, Py_ssize_t end, int protocol, int protocol_inverted):
        draft = Draft(extension)
        env = Env(self.family, protocol, protocol_inverted != 0, self.table, self.resolver)
        cdef bint invert = False
        try:
            while at < end:
                word = words[at]
                at += 1
                if word == "!":
                    if invert:
                        return None
                    invert = True
                    continue
                opt = extension.by_name[word[2:]]
                value = None
                if opt.words:
                    value = words[at]
                    if opt.words > 1:
                        more = iter(words[at + 1:at + opt.words])
                        draft.more = lambda: next(more, None)
                    at += opt.words
                extension.read(draft, opt, value, invert, env)
                invert = False
            if invert:
                return None
            use = extension.finish(draft, env)
        except RuleError:
            return None
        return None if draft.note else use
