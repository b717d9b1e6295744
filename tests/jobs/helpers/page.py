"""The text, links, tables and pictures of an HTML page."""

from html.parser import HTMLParser

VOID = {"meta", "link", "br", "hr", "img"}


class Page(HTMLParser):
    """Fails if tags do not balance. sections: the words by id; rows: the cells of all tables, row by row."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.pictures: list[str] = []
        self.words: list[str] = []
        self.sections: dict[str, list[str]] = {}
        self.rows: list[list[str]] = []
        self._open_sections: list[str | None] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        self.tags.append(tag)
        self.attributes += values
        if tag not in VOID:
            self.open.append(tag)
            self._open_sections.append(values.get("id") if tag == "section" else None)
        self.links += [value for name, value in attrs if name in ("href", "src", "srcset", "action", "data")]
        if "id" in values:
            self.ids.append(values["id"])
        if tag == "svg":
            assert values["role"] == "img"
            self.pictures.append(values["aria-label"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self._open_sections.pop()

    def handle_data(self, data):
        if "style" in self.open:
            return
        self.words.append(data)
        for name in filter(None, self._open_sections):
            self.sections.setdefault(name, []).append(data)
        if self.rows and self.open and ("td" in self.open or "th" in self.open):
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())

    def section(self, name: str) -> str:
        return " ".join(" ".join(self.sections[name]).split())

    def picture(self, title: str) -> str:
        """The alternative text of the only picture of that title."""
        (description,) = [p.partition(". ")[2] for p in self.pictures if p.startswith(f"{title}. ")]
        return description
