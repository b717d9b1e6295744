"""docs/performance.md and its picture, from the latest measurement of each section."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from benchmarks.sections.section import Section

INTRODUCTION = """\
# Performance

`make bench` measures all sections and writes this page. `make bench ONLY={only}` measures one section again; the
command below a section then contains its ONLY. Sections without an ONLY are from a run of all sections; the date and
the code version show which of them are from the same run. `SIZES="1 4"` sets the sizes (millions of rows), `REPEATS=3`
the number of rounds. A peer is measured in the same run: peers run in turn, and a ratio compares the costs of one
round. Scoring and the large day have no peer, so their figures depend on the machine. A cell shows the median of the
rounds with the smallest and the largest in brackets, or the value of the only round. Seconds are those of this machine;
ratios transfer better to other machines. Every measured command runs as a separate process, its start and end included.
Memory is the largest sum over all its processes.
"""


def write_page(document: Path, sections: Mapping[str, Section], names: Sequence[str]) -> list[Path]:
    """Write the page, and the picture if a section has curves; the paths of the written files.

    names: of all sections that exist, in the order of the page.
    """
    picture = document.with_suffix(".svg")
    is_drawn = _draw(sections.values(), picture)
    lines = [INTRODUCTION.format(only="|".join(names))]
    if is_drawn:
        lines += [f"![time and memory by rows]({picture.name})", ""]
    for name in names:
        if name in sections:
            lines += sections[name].markdown()
    if missing := [name for name in names if name not in sections]:
        lines += [f"Not measured yet: {', '.join(missing)}.", ""]
    document.write_text("\n".join(lines).rstrip("\n") + "\n")
    return [document, *([picture] if is_drawn else [])]


def _draw(sections: Iterable[Section], path: Path) -> bool:
    """Draw the curves of all sections; False if no section has one."""
    curves = {label: points for section in sections for label, points in section.curves.items() if points}
    if not curves:
        return False
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams |= {"svg.hashsalt": "mtorl", "svg.fonttype": "none", "font.size": 9}
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4))
    for label, points in curves.items():
        rows, seconds, memory_bytes = zip(*sorted(points), strict=True)
        million_rows = [count / 1e6 for count in rows]
        left.plot(million_rows, seconds, label=label, marker=".")
        right.plot(million_rows, [value / 2**30 for value in memory_bytes], label=label, marker=".")
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
