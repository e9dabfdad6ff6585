"""match comment: always true; words for the reader."""

from __future__ import annotations

from nfqfw.ext.api import Opt, match
from nfqfw.limits import COMMENT_BYTES


def cut(text: str, size: int) -> str:
    """At most `size` bytes of the text, as the kernel's buffer keeps them."""
    raw = text.encode(errors="surrogateescape")
    return text if len(raw) <= size else raw[:size].decode(errors="surrogateescape")


@match("comment", Opt("comment", "own", required=True, metavar="text", help="a remark, up to 255 bytes"))
class Comment:
    def read_comment(self, draft, opt, text, env):
        draft.values["comment"] = cut(text, COMMENT_BYTES)

    def save(self, use):
        from nfqfw.ext.names import quote
        return f" --comment {quote(use.values['comment'])}"

    def show(self, use, numeric, resolver):
        return f"/* {use.values['comment']} */"

    def lower(self, use, rule):
        return []
