"""match comment: always true; words for the reader."""

from __future__ import annotations

from nfqfw.ext.api import Opt, match
from nfqfw.ext.names import cut, quote
from nfqfw.limits import COMMENT_BYTES


@match("comment", Opt("comment", "own", required=True, metavar="text", help="a remark, up to 255 bytes"))
class Comment:
    def read_comment(self, draft, opt, text, env):
        draft.values["comment"] = cut(text, COMMENT_BYTES)

    def save(self, use):
        return f" --comment {quote(use.values['comment'])}"

    def show(self, use, numeric, resolver):
        return f"/* {use.values['comment']} */"

    def lower(self, use, rule):
        return []
