"""Tables of a comparison, for eyes and for a document."""


def _number(value, digits):
    return "–" if value is None else f"{value:,.{digits}f}"


def _spread(values, median, digits):
    if not values:
        return "–"
    text = _number(median, digits)
    return text if len(values) == 1 else f"{text} ({_number(min(values), digits)}–{_number(max(values), digits)})"


def table(head, lines):
    """Markdown, its columns in line. The first column is text, the others are to the right."""
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]

    def line(cells):
        return "| " + " | ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, widths))) + " |"

    rule = "| " + " | ".join("-" * w if i == 0 else "-" * (w - 1) + ":" for i, w in enumerate(widths)) + " |"
    return "\n".join([line(head), rule, *(line(cells) for cells in lines)])


def verdicts(results, titles):
    """kbgp against the others, a row a measure."""
    head = ["", "unit", "direct", "limit", "best peer", "HAProxy", "grpc-go", "kbgp", "/ best", "/ HAProxy", "/ grpc-go",
            "to reach", "met"]
    lines = []
    for r in results:
        d = r.row.digits
        best = f"{titles[r.best]} {_number(r.medians[r.best], d)}" if r.best else "–"
        met = {True: "yes", False: "NO", None: "?" if r.row.wanted() else ""}[r.met()]
        lines.append([r.row.title, r.row.unit, _number(r.medians.get("direct"), d), _number(r.limit, d), best,
                      _number(r.medians.get("haproxy"), d), _number(r.medians.get("grpc-go"), d),
                      _spread(r.values.get("kbgp"), r.medians.get("kbgp"), d), _number(r.ratio(r.best), 2),
                      _number(r.ratio("haproxy"), 2), _number(r.ratio("grpc-go"), 2), r.row.wanted(), met])
    return table(head, lines)


def everyone(results, names, titles):
    """All contestants: median (lowest–highest)."""
    lines = [[f"{r.row.title}, {r.row.unit}", *(_spread(r.values.get(n), r.medians.get(n), r.row.digits) for n in names)]
             for r in results]
    return table(["", *(titles[n] for n in names)], lines)
