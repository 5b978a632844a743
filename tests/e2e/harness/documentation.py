# SPDX-License-Identifier: Apache-2.0
"""The commands that a page of the documentation tells people to type, and what it says they print."""

import re
import textwrap
from dataclasses import dataclass

from . import paths


@dataclass(frozen=True)
class Step:
    command: str
    output: str = ""  # … stands for anything; "" for what the page does not show


@dataclass(frozen=True)
class Block:
    """An indented block, whose lines are commands; or a fenced one: commands after "$ ", or something to put in a file."""

    heading: str
    text: str
    fenced: bool
    mark: str = ""  # of a comment right before it: <!-- scene: NAME -->

    def steps(self):
        if not self.fenced:
            joined = re.sub(r" \\\n\s*", " ", self.text)
            return [Step(line.strip()) for line in joined.splitlines() if line.strip()]
        found = []
        for part in re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]:
            command, _, output = re.sub(r" \\\n\s*", " ", part).partition("\n")
            found.append(Step(command.strip(), output.strip("\n")))
        return found


def blocks(page):
    """All blocks of a page, in order."""
    text, found, heading = (paths.ROOT / page).read_text(), [], ""
    pattern = re.compile(r"^#+ (?P<heading>.+)$"
                         r"|(?:^<!-- scene: (?P<mark>[^>]+) -->\n)?^```\w*\n(?P<fenced>[\s\S]*?)^```$"
                         r"|(?<=\n\n)(?P<indented>(?:    .*\n|\n(?=    ))+)", re.MULTILINE)
    for m in pattern.finditer(text):
        if m["heading"]:
            heading = m["heading"]
        elif m["fenced"] is not None:
            found.append(Block(heading, m["fenced"], True, m["mark"] or ""))
        else:
            found.append(Block(heading, textwrap.dedent(m["indented"]), False))
    return found


def in_line(page):
    """What stands in backticks outside of blocks, in order."""
    text = re.sub(r"^```.*?^```", "", (paths.ROOT / page).read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`\n]+)`", text)


def words(text):
    return [" ".join(line.split()) for line in text.splitlines() if line.strip()]


def assert_shows(step, said):
    """That a command printed what the page shows: … is anything, a line of … alone any lines; spaces do not count."""
    wanted = [re.escape(line).replace("…", ".*?") if line != "…" else None for line in words(step.output)]
    pattern = "".join(r"(?:.*\n)*?" if line is None else line + r"\n" for line in wanted)
    printed = "".join(line + "\n" for line in words(said))
    assert re.fullmatch(pattern, printed), f"$ {step.command}\nprinted\n{printed}\nand the page shows\n{step.output}"
