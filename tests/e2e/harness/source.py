# SPDX-License-Identifier: Apache-2.0
"""The log messages that stand in the C sources, at which level, and which program writes them."""

import re
from dataclasses import dataclass
from pathlib import Path

from . import paths

CALL = re.compile(r"\blog_(debug|info|warn|error|at|write)\(")
LOG_C = "base/log.c"  # says something itself, by its own function
LOG_C_CALL = re.compile(r"\b(?:emit|log_write)()\(")
# what may hold brackets and commas that mean nothing: a string, a character, a comment
OPAQUE = re.compile(r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])+\'|/\*.*?\*/|//[^\n]*', re.DOTALL)
STRING = re.compile(r'"((?:\\.|[^"\\\n])*)"')
LEVELS = ("debug", "info", "warn", "error")
FOLDERS = {"agent": {"kbgp"}, "target": {"kbgp-target"}}
PROGRAMS = {"kbgp": paths.kbgp, "kbgp-target": paths.kbgp_target}


@dataclass(frozen=True)
class Message:
    text: str
    level: str  # the highest, where it is chosen at run time; "any": whatever another message has
    place: str  # file:line below src/


def arguments(text, begin):
    """The arguments of a call whose bracket was opened just before `begin`, comments left out."""
    found, depth, at = [""], 1, begin
    while True:
        opaque = OPAQUE.match(text, at)
        if opaque:
            found[-1] += opaque[0] if opaque[0][0] in "\"'" else " "
            at = opaque.end()
            continue
        char = text[at]
        depth += (char in "([{") - (char in ")]}")
        if depth == 0:
            return [a.strip() for a in found]
        if char == "," and depth == 1:
            found.append("")
        else:
            found[-1] += char
        at += 1


def strings(argument):
    """The strings that an argument may be: one, or those of a choice. Neighbours are one string."""
    joined = re.sub(r'(?<!\\)"\s*"', "", argument)
    return [re.sub(r"\\(.)", r"\1", s) for s in STRING.findall(joined)]


def constants(text):
    """Every string of a C source, neighbours joined (also over a PRId64 and the like)."""
    plain = OPAQUE.sub(lambda m: m[0] if m[0][0] == '"' else " ", text)
    return strings(re.sub(r'%"\s*PRI\w+\s*"', "%d", plain))


def messages(src=paths.ROOT / "src"):
    """Every Message of the sources, debug ones too. A call whose message is no constant is an error."""
    found = []
    for file in sorted(Path(src).rglob("*.c")):
        text, name = file.read_text(), file.relative_to(src)
        for call in (LOG_C_CALL if name.as_posix() == LOG_C else CALL).finditer(text):
            place = f"{name}:{text.count(chr(10), 0, call.start()) + 1}"
            given = arguments(text, call.end())
            level = call[1]
            if level not in LEVELS:
                where, given = given[0], given[1:]
                named = [l for l in LEVELS if f"LOG_LEVEL_{l.upper()}" in where]
                level = named[-1] if named else "any"
            texts = strings(given[0]) if given else []
            if not texts and name.as_posix() == LOG_C:
                continue  # the functions themselves
            assert texts, f"{place}: the message is no constant"
            found += [Message(t, level, place) for t in texts]
    return found


def programs(message):
    """Which of the two programs write a message: by its folder, or, where both may use that, those that contain it."""
    folder = message.place.split("/")[0]
    if folder in FOLDERS:
        return FOLDERS[folder]
    return {name for name, path in PROGRAMS.items() if message.text.encode() + b"\0" in _bytes(path())}


_read = {}


def _bytes(path):
    if path not in _read:
        _read[path] = Path(path).read_bytes()
    return _read[path]
