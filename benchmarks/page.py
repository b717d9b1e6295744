"""docs/performance.md and its picture, of the sections as they were last measured."""

from collections.abc import Sequence
from pathlib import Path

from benchmarks.section import Section

INTRODUCTION = """\
# Performance

Made by `make bench`; `make bench ONLY={only}` measures one section again, and the section's command says so: those that
name no ONLY were measured in a run of all; of one run, where date and code are the same. `SIZES="1 4"` chooses the
sizes (millions of rows), `REPEATS=3` how often. What has a peer is measured beside it in one run: peers take turns, and
a ratio is taken within each round. Where there is none (scoring, a large day) the figures are the machine's own. A cell
shows the median of the rounds with the smallest and the largest in brackets, or the one value that there is. Seconds
are of this machine; ratios carry over to others better. Every measured command runs in a process of its own, start and
end included; memory is the largest sum over all its processes.
"""


def write_page(document: Path, sections: dict[str, Section], everything: Sequence[str]) -> list[Path]:
    """The page, and the picture where there is something to draw; the paths of what was written."""
    picture = document.with_suffix(".svg")
    drawn = _picture(sections, picture)
    lines = [INTRODUCTION.format(only="|".join(everything))]
    if drawn:
        lines += [f"![time and memory by rows]({picture.name})", ""]
    for name in everything:
        if name in sections:
            lines += sections[name].markdown()
    if missing := [name for name in everything if name not in sections]:
        lines += [f"Not measured yet: {', '.join(missing)}.", ""]
    document.write_text("\n".join(lines).rstrip("\n") + "\n")
    return [document, *([picture] if drawn else [])]


def _picture(sections: dict[str, Section], path: Path) -> bool:
    curves = {label: points for section in sections.values() for label, points in section.curves.items() if points}
    if not curves:
        return False
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for label, points in curves.items():
        size, spent, held = zip(*sorted(points), strict=True)
        millions = [rows / 1e6 for rows in size]
        left.plot(millions, spent, label=label, marker=".")
        right.plot(millions, [value / 2**30 for value in held], label=label, marker=".")
    left.set(xlabel="million rows", ylabel="seconds", title="Time")
    right.set(xlabel="million rows", ylabel="GiB", title="Memory of all processes")
    left.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_xlim(left=0)
        axes.set_ylim(bottom=0)
    figure.tight_layout()
    figure.savefig(path, format="svg", metadata={"Date": None})
    return True
