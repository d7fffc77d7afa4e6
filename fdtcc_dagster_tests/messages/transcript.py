"""Pages of calls and of what they say, as in Python's own console: a snapshot that an editor can read and correct."""

from __future__ import annotations

import re
from collections.abc import Callable

_BLOCK = re.compile(r"(?<=^```pycon\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
_CASE = re.compile(r"^>>> (.+(?:\n\.\.\. .*)*)\n?((?:(?!>>> ).*\n?)*)", re.MULTILINE)


def cases(page: str) -> list[tuple[str, str]]:
    """The calls of a page, and what the page says that each one says."""
    return [(call.replace("\n... ", "\n"), said.strip("\n")) for call, said in _CASE.findall("".join(_blocks(page)))]


def rewritten(page: str, evaluate: Callable[[str], str]) -> str:
    """Make each call of a page again, and write what it says below it.

    `…` on the page stands for anything within a line, such as words of another library.
    """

    def again(block: re.Match[str]) -> str:
        texts = []
        for call, before in _CASE.findall(block[0]):
            said = evaluate(call.replace("\n... ", "\n")).strip("\n")
            texts.append(f">>> {call}\n{before.strip() if fits(before.strip(), said) else said}\n")
        return "\n".join(texts)

    return _BLOCK.sub(again, page)


def fits(written: str, said: str) -> bool:
    """Tell whether a text is the one on a page."""
    return re.fullmatch(re.escape(written).replace("…", ".*"), said) is not None


def _blocks(page: str) -> list[str]:
    return _BLOCK.findall(page)
