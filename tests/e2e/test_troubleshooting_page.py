# SPDX-License-Identifier: Apache-2.0
"""docs/troubleshooting.md names every log message of the sources, with its level and program, and no other."""

import re

import pytest

from harness import paths, source

PAGE = paths.ROOT / "docs" / "troubleshooting.md"
PAGES = [paths.ROOT / "README.md", *sorted((paths.ROOT / "docs").glob("*.md"))]
PARTS = {"kbgp": {"kbgp"}, "kbgp-target": {"kbgp-target"}, "Both programs": {"kbgp", "kbgp-target"}}


def documented():
    """[(program, message, level, the other cells)]: the rows of the page's last part."""
    text = PAGE.read_text().split("\n## What each log line means\n")[1]
    assert "\n## " not in text
    parts = re.split(r"^### (.+)\n", text, flags=re.MULTILINE)
    assert set(parts[1::2]) == set(PARTS)
    rows = []
    for name, part in zip(parts[1::2], parts[2::2]):
        table = [line for line in part.splitlines() if line.startswith("| `")]
        assert table
        for line in table:
            cells = [c.strip() for c in line.strip("|").split(" | ")]
            assert len(cells) == 4 and re.fullmatch(r"`[^`]+`", cells[0]), line
            rows += [(program, cells[0].strip("`"), cells[1], cells[2:]) for program in PARTS[name]]
    return rows


def test_every_message_is_there_and_no_other():
    in_sources = {}
    for m in source.messages():
        if m.level == "debug":
            continue
        where = source.programs(m)
        assert where, f"{m.place}: neither program has \"{m.text}\" in it: are they built from these sources?"
        for program in where:
            in_sources.setdefault((program, m.text), set()).add("that of the message" if m.level == "any" else m.level)
    assert len(in_sources) > 90
    on_page = {(program, text): {level} for program, text, level, _ in documented()}
    assert sorted(set(in_sources) - set(on_page)) == [], "not on the page"
    assert sorted(set(on_page) - set(in_sources)) == [], "on the page, but not in the sources"
    assert {k: v for k, v in in_sources.items() if on_page[k] != v} == {}, "another level"


def test_every_row_says_something_and_stands_once():
    rows = documented()
    keys = [(program, text) for program, text, _, _ in rows]
    assert sorted(keys) == sorted(set(keys))
    assert [row for row in rows if not all(row[3])] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_log_lines_that_are_mentioned_exist(page):
    """"log line `…`" and "log lines `…` and `…`" anywhere; in the tables of symptoms, too."""
    known = {m.text for m in source.messages()}
    text = page.read_text()
    named = [m for group in re.findall(r"\blog(?: lines?)? ((?:`[^`]+`(?:, | and | or )?)+)", text)
             for m in re.findall(r"`([^`]+)`", group)]
    for table in re.findall(r"^\| log line \|.*\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for row in table.splitlines():
            cell = row.strip("| ").split(" | ")[0]
            named += re.findall(r"`([^`]+)`", cell) if cell.startswith("`") else []
    assert [m for m in named if m not in known] == []


# said by others: OpenSSL, the C library
OTHERS = {"certificate has expired", "certificate is not yet valid", "Connection refused", "No route to host"}


def quoted():
    """[text]: what the tables of symptoms say that a program says: columns "it says", "what it says", `reason`, …"""
    found = []
    text = PAGE.read_text().split("\n## What each log line means\n")[0]
    for head, body in re.findall(r"^(\|.*\|)\n\|[-| ]+\|\n((?:\|.*\n)+)", text, re.MULTILINE):
        for at, title in enumerate(c.strip() for c in head.strip("|").split(" | ")):
            if title in ("it says", "what it says", "the line says", "`reason`"):
                for row in body.splitlines():
                    found += re.findall(r"`([^`]+)`", row.strip("|").split(" | ")[at])
    return found


def test_what_the_programs_are_said_to_say_stands_in_the_sources():
    """Word for word, where the page's … and the sources' %s are for anything."""
    constants = [s for file in (paths.ROOT / "src").rglob("*.c") for s in source.constants(file.read_text())]
    joined = "\n".join(constants)
    # what is filled in: the page's …, a number, one of the two ends; and enough words around it to be one's own
    filled = [re.sub(r"%[-+ 0]*[\d.*]*[a-z]+", "\0", c.replace("%%", "%")) for c in constants]
    whole = [re.compile(re.escape(c).replace("\0", r"(?:x|\d+|router|target)")) for c in filled
             if "\0" in c and len(re.sub(r"\W", "", c)) >= 12]
    wrong = []
    texts = quoted()
    assert len(texts) > 40
    for text in texts:
        sample = text.replace("…", "x")
        if any(w.fullmatch(sample) or w.fullmatch(sample[1:]) for w in whole):
            continue
        for part in text.split("…"):
            part = part.strip(" ,;:()")
            if len(part) < 4 or part in joined or part in OTHERS or any(w.fullmatch(part) for w in whole):
                continue
            names = part.split("NOTIFICATION ")[-1].split("/")  # of a NOTIFICATION: its kind and what kind of that
            if not all(n in constants for n in names if n):
                wrong.append(text)
    assert wrong == []


def test_links_lead_somewhere():
    """Between the pages, and to headings."""
    wrong = []
    for page in PAGES + [paths.ROOT / "CONTRIBUTING.md", paths.ROOT / "CHANGELOG.md"]:
        text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https?:|mailto:", link):
                continue
            name, _, anchor = link.partition("#")
            target = (page.parent / name).resolve() if name else page
            if not target.exists() or (anchor and anchor not in anchors(target)):
                wrong.append(f"{page.name}: {link}")
    assert wrong == []


def anchors(page):
    """The names that headings get (GitHub's rule)."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", t.lower()).replace(" ", "-") for t in titles}


# The parser of C, which the above stands on

@pytest.mark.parametrize("code, found", [
    ('log_info("plain");', [("plain", "info")]),
    ('log_warn("in "\n   "two", LOG_STR("error", e));', [("in two", "warn")]),
    ('log_error(up ? "was up" : "was not", LOG_NUM("n", f(1, 2)));', [("was up", "error"), ("was not", "error")]),
    ('log_at(n == 1 ? LOG_LEVEL_WARN : LOG_LEVEL_DEBUG, "chosen");', [("chosen", "warn")]),
    ('log_info(/* "not, this" ) */ "with \\"quotes\\", and a )");', [('with "quotes", and a )', "info")]),
    ('log_info("it\'s", LOG_STR("c", c == \'"\' ? "x" : "y")); log_warn("next");', [("it's", "info"), ("next", "warn")]),
])
def test_messages_are_found(tmp_path, code, found):
    (tmp_path / "a.c").write_text(code)
    assert [(m.text, m.level) for m in source.messages(tmp_path)] == found


def test_a_message_that_is_no_constant_is_found_out(tmp_path):
    (tmp_path / "a.c").write_text("log_info(text);")
    with pytest.raises(AssertionError, match="no constant"):
        source.messages(tmp_path)
