"""The quick way through lines as save prints them: `-A CHAIN`, the rule's own part, matches, target.

Overview.  `Scanner.run` takes lines of a restore as long as each is plainly of that form, and appends their rules; it stops at
the first that is not: abbreviations, options out of order, other commands, mistakes.  The caller then takes the long way
(rules.grammar), which says what is wrong.  So nothing is decided here that the grammar does not decide in the same way;
tests/rules/test_scan.py compares the two.

A line is cut into words where it lies, in the UTF-8 bytes of the text.  The options of matches and targets are read by their
extensions, as everywhere; equal texts share one Use (bounded memo), and only a text that is new is made into words of Python.
"""

from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from cpython.unicode cimport PyUnicode_DecodeUTF8

from nfqfw.rules._rule cimport INV_DST, INV_FRAG, INV_IN, INV_OUT, INV_PROTO, INV_SRC, Rule

from nfqfw.errors import RuleError
from nfqfw.ext import names
from nfqfw.ext.api import Draft, Env, Extension, Use
from nfqfw.ext.registry import STANDARD_TARGETS, find_match, find_target
from nfqfw.limits import IFACE_NAME_BYTES, RESTORE_LINE_BYTES
from nfqfw.protocols import EXTENSION_HEADERS_WARNED
from nfqfw.rules.model import BUILTIN_CHAINS, VERDICTS, Jump

cdef enum:
    MEMO = 131072                   # remembered Uses; more are forgotten all at once
    WORDS = 128                     # of a line that goes the quick way

cdef:
    Py_ssize_t LONGEST_LINE = RESTORE_LINE_BYTES // 4
    Py_ssize_t LONGEST_INTERFACE = IFACE_NAME_BYTES
    list MASKS4 = [names.prefix_mask(length, 2) for length in range(33)]
    list MASKS6 = [names.prefix_mask(length, 10) for length in range(129)]
    frozenset NOT_INVERTED = frozenset()

cdef extern from "<arpa/inet.h>" nogil:
    int AF_INET6
    int inet_pton(int family, const char* text, void* address)

cdef struct Word:
    const char* at
    Py_ssize_t n
    const char* end                 # behind it, its quote included


cdef inline str text_of(const char* at, Py_ssize_t n):
    return PyUnicode_DecodeUTF8(at, n, "surrogateescape")


cdef inline str word_text(const Word* word):
    return text_of(word.at, word.n)


cdef inline bint is_flag(const Word* word, char letter) noexcept nogil:
    """Whether it is `-letter`."""
    return word.n == 2 and word.at[0] == c'-' and word.at[1] == letter


cdef inline bint is_exclamation(const Word* word) noexcept nogil:
    return word.n == 1 and word.at[0] == c'!'


cdef inline bint opens_part(const Word* word) noexcept nogil:
    """Whether it ends the options of the match in front of it: an option that took it as its value would be left without one,
    and the line goes the long way."""
    return is_flag(word, c'm') or is_flag(word, c'j') or is_flag(word, c'g')


cdef int split_words(const char* at, const char* end, Word* words) noexcept nogil:
    """How many words the line has; -1: something that the long way must see."""
    cdef int n = 0
    cdef uint8_t c
    while at < end:
        if at[0] == c' ':
            at += 1
            continue
        if n == WORDS:
            return -1
        if at[0] == c'"':
            at += 1
            words[n].at = at
            while at < end:
                c = at[0]
                if c == c'"' or c == c'\\' or c < 32 or c == 127:
                    break
                at += 1
            if at == end or at[0] != c'"':
                return -1
            words[n].n = at - words[n].at
            at += 1
        else:
            words[n].at = at
            while at < end:
                c = at[0]
                if c == c' ':
                    break
                if c == c'"' or c < 32 or c == 127:
                    return -1
                at += 1
            words[n].n = at - words[n].at
        words[n].end = at
        n += 1
    return n


cdef bint network4(const Word* word, uint8_t* address, int* length) noexcept nogil:
    """`a.b.c.d/length`, masked; False for any other form."""
    cdef Py_ssize_t i
    cdef unsigned int part = 0, parts = 0, digits = 0, value = 0
    cdef char c
    for i in range(word.n):
        c = word.at[i]
        if c'0' <= c <= c'9':
            if digits and part == 0:            # a leading zero: octal
                return False
            part = part * 10 + <unsigned int>(c - c'0')
            digits += 1
            if digits > 3 or part > 255:
                return False
        elif digits and ((c == c'.' and parts < 3) or (c == c'/' and parts == 3)):
            value = value << 8 | part
            parts += 1
            part = digits = 0
        else:
            return False
    if parts != 4 or not digits or part > 32:
        return False
    length[0] = part
    value &= <unsigned int>(<uint64_t>0xffffffff << (32 - part)) if part else 0
    address[0], address[1], address[2], address[3] = value >> 24, (value >> 16) & 0xff, (value >> 8) & 0xff, value & 0xff
    return True


cdef bint network6(const Word* word, uint8_t* address, int* length) noexcept nogil:
    """`address/length`, masked; False for any other form."""
    cdef char text[48]
    cdef Py_ssize_t slash = word.n, i
    cdef int value = 0
    while slash > 0 and word.at[slash - 1] != c'/':
        slash -= 1
    slash -= 1
    if not 0 < slash < 48 or not 1 <= word.n - slash - 1 <= 3:
        return False
    for i in range(slash + 1, word.n):
        if not c'0' <= word.at[i] <= c'9' or (value == 0 and i > slash + 1):
            return False
        value = value * 10 + (word.at[i] - c'0')
    memcpy(text, word.at, slash)
    text[slash] = 0
    if value > 128 or inet_pton(AF_INET6, text, address) != 1:
        return False
    length[0] = value
    for i in range(16):
        if value < 8 * (i + 1):
            address[i] &= <uint8_t>(0xff00 >> (value - 8 * i)) if value > 8 * i else 0
    return True


cdef Py_ssize_t counts_of(const char* line, const char* end, uint64_t* packets, uint64_t* byte_count) noexcept nogil:
    """Where the command starts behind `[packets:bytes]`; 0 where there are no counts, or none of that form."""
    cdef const char* at = line + 1
    if line == end or line[0] != c'[' or not digits_of(&at, end, c':', packets) or not digits_of(&at, end, c']', byte_count):
        return 0
    while at < end and at[0] == c' ':
        at += 1
    return at - line


cdef bint digits_of(const char** at, const char* end, char stop, uint64_t* value) noexcept nogil:
    """Up to 19 digits, which fit, and the character behind them."""
    cdef const char* first = at[0]
    value[0] = 0
    while at[0] < end and at[0] - first < 19 and c'0' <= at[0][0] <= c'9':
        value[0] = value[0] * 10 + <uint64_t>(at[0][0] - c'0')
        at[0] += 1
    if at[0] == first or at[0] == end or at[0][0] != stop:
        return False
    at[0] += 1
    return True


cdef inline bint is_text(const Word* word, bytes text) noexcept:
    return word.n == len(text) and memcmp(word.at, <const char*>text, word.n) == 0


cdef int plain_port(const Word* word) noexcept nogil:
    """A port in decimal; -1 for anything else."""
    cdef int value = 0
    cdef Py_ssize_t i
    if not 1 <= word.n <= 5 or (word.at[0] == c'0' and word.n > 1):
        return -1
    for i in range(word.n):
        if not c'0' <= word.at[i] <= c'9':
            return -1
        value = value * 10 + (word.at[i] - c'0')
    return value if value <= 65535 else -1


cdef class Reader:
    """An extension, and what is asked of it for every text of its options."""

    cdef object extension
    cdef object draft
    cdef object final               # None: the one that does nothing
    cdef dict by_name
    cdef dict readers
    cdef tuple required
    cdef bint related
    cdef bint own_read              # it reads, or finishes, in its own way: nothing is taken out of its hands
    cdef bint own_finish

    def __cinit__(self, extension):
        self.extension = extension
        self.draft = Draft(extension)
        self.final = extension.final if type(extension).final is not Extension.final else None
        self.own_read = type(extension).read is not Extension.read
        self.own_finish = type(extension).finish is not Extension.finish
        self.by_name, self.readers = extension.by_name, extension.readers
        self.required, self.related = extension.required, extension.related

    cdef object read(self, const Word* words, int n, env):
        """The Use of these options; None for anything that the long way must see.  As Extension.read and .finish."""
        cdef int at = 0, port
        cdef bint invert = False
        cdef str name
        cdef dict seen = {}
        cdef object draft = self.draft, opt, reader
        draft.values, draft.inverted, draft.seen, draft.note, draft.more = {}, set(), seen, None, None
        while at < n:
            if is_exclamation(&words[at]):
                if invert:
                    return None
                invert = True
                at += 1
                continue
            if words[at].n < 3 or words[at].at[0] != c'-' or words[at].at[1] != c'-':
                return None
            opt = self.by_name.get(text_of(words[at].at + 2, words[at].n - 2))
            if opt is None or at + 1 + <int>opt.words > n:
                return None
            if self.own_read:
                self.extension.read(draft, opt, self.value(words + at + 1, opt), invert, env)
                invert = False
                at += 1 + <int>opt.words
                continue
            name = opt.name
            if (name in seen and not opt.multi) or (invert and not opt.invert):
                return None
            seen[name] = opt
            reader = self.readers[name]
            port = plain_port(&words[at + 1]) if reader is None and opt.type == "ports" else -1
            if port >= 0:
                draft.values[opt.key] = (port, port)
            else:
                self.read_value(words + at + 1, opt, reader, env)
            if invert:
                draft.inverted.add(opt.key)
                invert = False
            at += 1 + <int>opt.words
        return None if invert else self.finish(env)

    cdef object value(self, const Word* words, opt):
        """The option's argument, None if it takes none; those behind the first come from `draft.more`."""
        if opt.words > 1:
            more = iter([word_text(&words[i]) for i in range(1, <int>opt.words)])
            self.draft.more = lambda: next(more, None)
        return word_text(words) if opt.words else None

    cdef int read_value(self, const Word* words, opt, reader, env) except -1:
        value = self.value(words, opt)
        if reader is not None:
            reader(self.draft, opt, value, env)
        else:
            self.draft.values[opt.key] = opt.reader(value, opt, self.extension.name, env) if opt.reader else True
        return 0

    cdef object finish(self, env):
        draft = self.draft
        if self.own_finish:
            use = self.extension.finish(draft, env)
            return None if draft.note else use
        for opt in self.required:
            if opt.name not in draft.seen:
                return None
        if self.related:
            self.extension.check_relations(draft.seen)
        if self.final is not None:
            self.final(draft, env)
        if draft.note:
            return None
        return Use(self.extension, draft.values, frozenset(draft.inverted) if draft.inverted else NOT_INVERTED)


cdef class Scanner:
    """Reads lines of one table of one family."""

    cdef int family
    cdef str table
    cdef object resolver
    cdef dict match_memo            # (protocol, its inversion) -> text -> Use
    cdef dict target_memo
    cdef dict targets               # word behind -j -> target without options; of the chains that exist now
    cdef dict protocols
    cdef dict readers               # (find, name) -> Reader or None
    cdef dict environments          # (protocol, its inversion) -> Env
    cdef int remembered
    cdef object chains              # names of the chains that exist: the editor's dict

    def __init__(self, int family, str table, chains, resolver):
        self.family = family
        self.table = table
        self.chains = chains
        self.resolver = resolver
        self.match_memo, self.target_memo, self.targets = {}, {}, {}
        self.protocols, self.readers, self.environments = {}, {}, {}

    def run(self, bytes data, Py_ssize_t at, Py_ssize_t number, Py_ssize_t most, editor, bint counters, str file) -> tuple:
        """Take lines from `at` on, of which the first has this number, at most so many, into the table of the Editor.

        counters: take over counts.  Returns (place, number) of the first line that has to go the long way, or of the end.
        """
        if not 0 <= at <= len(data):
            raise ValueError(f"place {at} of {len(data)} bytes")
        cdef const char* base = <const char*>data
        cdef const char* end = base + len(data)
        cdef const char* line = base + at
        cdef const char* stop
        cdef const char* chain = NULL           # of the last rule
        cdef Py_ssize_t chain_size = 0
        cdef list rules = None
        cdef Word words[WORDS]
        cdef uint64_t packets, byte_count
        cdef int n
        cdef Rule rule
        cdef Py_ssize_t last = number + most
        self.targets.clear()
        while line < end and number < last:
            stop = <const char*>memchr(line, c'\n', end - line)
            if stop == NULL:
                stop = end
            if stop - line > LONGEST_LINE:
                break
            packets = byte_count = 0
            at = counts_of(line, stop, &packets, &byte_count)
            if line + at >= stop or line[at] != c'-':
                break
            n = split_words(line + at, stop, words)
            if n < 2 or not is_flag(&words[0], c'A'):
                break
            if not counters:
                packets = byte_count = 0
            rule = self.read(words, n)
            if rule is None:
                break
            if rules is None or words[1].n != chain_size or memcmp(words[1].at, chain, chain_size) != 0:
                name = word_text(&words[1])
                if name not in self.chains:
                    break
                rules = editor.own(name).rules
                chain, chain_size = words[1].at, words[1].n
            rule.packets, rule.byte_count, rule.file, rule.line = packets, byte_count, file, number
            rules.append(rule)
            line = stop + 1
            number += 1
        return min(line - base, end - base), number

    def rule(self, str line):
        """(chain, Rule) of one line, or None."""
        cdef bytes data = line.encode(errors="surrogateescape")
        cdef const char* at = <const char*>data
        cdef Word words[WORDS]
        cdef int n = split_words(at, at + len(data), words)
        cdef Rule rule
        if n < 2 or not is_flag(&words[0], c'A'):
            return None
        rule = self.read(words, n)
        return None if rule is None else (word_text(&words[1]), rule)

    cdef Rule read(self, const Word* words, int n):
        """The rule of a line's words, `-A CHAIN` in front; None: the long way must see it."""
        cdef Rule rule = Rule.__new__(Rule)
        cdef int at = 2, end, protocol = 0
        cdef bint invert = False, targeted = False
        cdef list matches = []
        cdef object use
        cdef const Word* word
        rule.in_interface = rule.out_interface = ""
        while at < n:
            word = &words[at]
            if is_exclamation(word):
                if invert:
                    return None
                invert = True
                at += 1
                continue
            if opens_part(word):
                if invert or targeted or at + 1 >= n:
                    return None
                end = at + 2
                while end < n and not opens_part(&words[end]):
                    end += 1
                if word.at[1] == c'm':
                    use = self.use(&words[at + 1], end - at - 1, rule, True)
                    if use is None:
                        return None
                    matches.append(use)
                else:
                    targeted = True
                    rule.target = self.target(&words[at + 1], end - at - 1, word.at[1] == c'g', rule)
                    if rule.target is None:
                        return None
                at = end
                continue
            if matches or targeted or word.n != 2 or word.at[0] != c'-':
                return None
            if word.at[1] == c'f':
                if rule.fragment or self.family != 2:
                    return None
                rule.fragment = True
                if invert:
                    rule.inverted |= INV_FRAG
                at += 1
            elif at + 1 >= n or not self.own_option(rule, word.at[1], &words[at + 1], invert, &words[1]):
                return None
            else:
                at += 2
            invert = False
        if invert:
            return None
        rule.matches = tuple(matches)
        return rule

    # ---- the rule's own part ---------------------------------------------------------------------------------------------

    cdef bint own_option(self, Rule rule, char letter, const Word* value, bint invert, const Word* chain) except -1:
        """-s -d -i -o -p; False for what the long way must see."""
        if letter == c's':
            if rule.source is not None or not self.network(rule, True, value, invert):
                return False
            rule.inverted |= INV_SRC if invert else 0
        elif letter == c'd':
            if rule.destination is not None or not self.network(rule, False, value, invert):
                return False
            rule.inverted |= INV_DST if invert else 0
        elif letter == c'i':
            if rule.in_interface or not self.interface(value, chain, b"OUTPUT", b"POSTROUTING"):
                return False
            rule.in_interface = word_text(value)
            rule.inverted |= INV_IN if invert else 0
        elif letter == c'o':
            if rule.out_interface or not self.interface(value, chain, b"INPUT", b"PREROUTING"):
                return False
            rule.out_interface = word_text(value)
            rule.inverted |= INV_OUT if invert else 0
        elif letter == c'p':
            if rule.protocol:
                return False
            rule.protocol = self.protocol(value)
            if rule.protocol <= 0:
                return False
            rule.inverted |= INV_PROTO if invert else 0
        else:
            return False
        return True

    cdef bint network(self, Rule rule, bint source, const Word* word, bint invert) except -1:
        """An address of the rule; False for what the long way must see: names, /0 that asks nothing."""
        cdef uint8_t raw[16]
        cdef int length = 0
        cdef bytes address, mask
        if self.family == 2 and network4(word, raw, &length):
            address, mask = (<const char*>raw)[:4], MASKS4[length]
        elif self.family == 10 and network6(word, raw, &length):
            address, mask = (<const char*>raw)[:16], MASKS6[length]
        else:
            host, _, length_text = word_text(word).partition("/")
            mask = names.parse_mask(length_text, self.family)
            address = names.parse_address(host, self.family)
            if mask is None or address is None:
                return False
            address = names.masked(address, mask)
            length = any(mask)
        if length == 0 and not invert:
            return False
        if source:
            rule.source, rule.source_mask = address, mask
        else:
            rule.destination, rule.destination_mask = address, mask
        return True

    cdef bint interface(self, const Word* word, const Word* chain, bytes refused, bytes refused_too) except -1:
        """Whether the long way would take it without a word."""
        cdef Py_ssize_t i
        if not 0 < word.n <= LONGEST_INTERFACE or (word.n == 1 and word.at[0] == c'+'):
            return False
        for i in range(word.n):
            if word.at[i] in (c'/', c' ', c'"') or <uint8_t>word.at[i] > 126:
                return False
        return not is_text(chain, refused) and not is_text(chain, refused_too)

    cdef int protocol(self, const Word* word) except -2:
        """Number, or -1 for what the long way must see."""
        cdef str text = word_text(word)
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

    # ---- matches and targets ---------------------------------------------------------------------------------------------

    cdef object use(self, const Word* words, int n, Rule rule, bint match):
        """The Use of a match or an extension target with its options; None for anything unusual."""
        cdef tuple place = (rule.protocol, rule.inverted & INV_PROTO)
        cdef dict memo = self.match_memo if match else self.target_memo
        cdef dict known = memo.get(place)
        cdef str text = text_of(words[0].at, words[n - 1].end - words[0].at)
        cdef Reader reader
        if known is None:
            known = memo[place] = {}
        use = known.get(text)
        if use is not None:
            return use
        reader = self.reader(find_match if match else find_target, word_text(words))
        if reader is None:
            return None
        env = self.environments.get(place)
        if env is None:
            env = self.environments[place] = Env(self.family, rule.protocol, (rule.inverted & INV_PROTO) != 0, self.table, self.resolver)
        try:
            use = reader.read(words + 1, n - 1, env)
        except RuleError:
            return None
        if use is None:
            return None
        self.remembered += 1
        if self.remembered > MEMO:
            self.remembered = 0
            self.match_memo.clear()
            self.target_memo.clear()
        known[text] = use
        return use

    cdef Reader reader(self, find, str name):
        """Reader of the extension of that name, None if there is none; remembered."""
        key = find, name
        if key not in self.readers:
            extension = find(name, self.family)
            self.readers[key] = Reader(extension) if extension is not None else None
        return self.readers[key]

    cdef object target(self, const Word* words, int n, bint goto, Rule rule):
        """Standard, Jump or Use; None for what the long way must see."""
        cdef str name
        if n > 1:
            name = word_text(words)
            return self.use(words, n, rule, False) if not goto and name not in self.chains and name not in STANDARD_TARGETS else None
        key = text_of(words[0].at - 1, words[0].n + 1) if goto else word_text(words)
        found = self.targets.get(key)
        if found is None:
            name = word_text(words)
            found = self.simple_target(name, goto) if goto or name in self.chains or name in STANDARD_TARGETS else \
                self.use(words, n, rule, False)
            if found is not None and not isinstance(found, Use):
                self.targets[key] = found
        return found

    cdef object simple_target(self, str name, bint goto):
        """A chain or a verdict."""
        if not goto and name not in self.chains:
            return None if name == "DROP" and self.table == "nat" else VERDICTS[name]
        if name in BUILTIN_CHAINS[self.table] or name not in self.chains or self.reader(find_target, name) is not None:
            return None
        return Jump(name, goto)
