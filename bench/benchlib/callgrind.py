"""
Callgrind's output, https://valgrind.org/docs/manual/cl-format.html: instructions by the place of the function that they belong to.
"""

import re

_NAMED = re.compile(r"\((\d+)\)(?: (.*))?$")


def read(path, names=None):
    """
    Yields (object, file of the function, function, instructions). `names`: what earlier parts of the same run have named; it
    grows.
    """
    names = {} if names is None else names

    def name(kind, text):
        match = _NAMED.match(text)
        if not match:
            return text
        number, value = match.groups()
        if value is not None:
            names[kind, number] = value
        return names.get((kind, number), "?")

    ob = fl = fn = "?"
    called = False
    for line in open(path, encoding="utf-8", errors="replace"):
        line = line.rstrip("\n")
        if not line or line[0] == "#":
            continue
        if line[0].isdigit() or line[0] in "+-*":
            if called:  # what the callee took, counted there
                called = False
            else:
                yield ob, fl, fn, int(line.split()[1])
            continue
        key, _, value = line.partition("=")
        if key == "ob":
            ob = name("ob", value)
        elif key == "fl":
            fl = name("fl", value)
        elif key == "fn":
            fn = name("fn", value)
        elif key in ("fi", "fe", "cfi", "cfl"):  # a piece inlined from elsewhere stays the function's
            name("fl", value)
        elif key == "cob":
            name("ob", value)
        elif key == "cfn":
            name("fn", value)
        elif key == "calls":
            called = True


def trigger(path):
    """The label that a part was dumped with; None: it was not asked for by the program."""
    with open(path, encoding="utf-8", errors="replace") as f:
        for line in f:
            if line.startswith("desc: Trigger: Client Request: "):
                return line.split(": ", 3)[3].strip()
            if line.startswith("events:"):
                return None
    return None
