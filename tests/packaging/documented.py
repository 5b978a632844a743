# SPDX-License-Identifier: Apache-2.0
"""The commands that the documentation tells people to type, for tests that do so."""

import re
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def documented(heading, page="docs/install.md"):
    """The commands of a part of a page: its indented blocks, lines that end in a backslash joined."""
    text = (ROOT / page).read_text()
    part = re.search(rf"^(#+) {re.escape(heading)}\n(.*?)(?=^#{{1,3}} |\Z)", text, re.MULTILINE | re.DOTALL)
    assert part, f"{page} has no part \"{heading}\""
    lines = [line for line in part[2].splitlines() if line.startswith("    ")]
    commands = textwrap.dedent(re.sub(r" \\\n\s*", " ", "\n".join(lines))).splitlines()
    assert commands
    return [c.strip() for c in commands]
