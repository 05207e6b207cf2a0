"""Reads a page as a strict browser would, to test what stands on it."""

from html.parser import HTMLParser

VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
LINKS = ("src", "href", "srcset", "action", "data", "poster", "background", "xlink:href")


class Page(HTMLParser):
    """Its elements (name, attributes) and its text; a tag that does not close where it should is an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._own_texts: list[list[str]] = []
        self._open: list[int] = []
        self.feed(html)
        self.close()
        assert not self._open, f"never closed: {[self.elements[i][0] for i in self._open]}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self._open.append(len(self.elements))
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        self._own_texts.append([])

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        opened = self.elements[self._open.pop()][0]
        assert opened == tag, f"</{tag}> closes <{opened}>"

    def handle_data(self, data: str) -> None:
        self.texts.append(data)
        if self._open:
            self._own_texts[self._open[-1]].append(data)

    def _found(self, name: str, attributes: dict[str, str]) -> list[int]:
        wanted = {key.rstrip("_"): value for key, value in attributes.items()}
        return [i for i, (tag, has) in enumerate(self.elements) if tag == name and wanted.items() <= has.items()]

    def all(self, name: str, **attributes: str) -> list[dict[str, str]]:
        """Attributes of every element of this name that has these."""
        return [self.elements[i][1] for i in self._found(name, attributes)]

    def texts_of(self, name: str, **attributes: str) -> list[str]:
        """The text that stands directly in each of them."""
        return ["".join(self._own_texts[i]) for i in self._found(name, attributes)]

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    @property
    def links(self) -> list[str]:
        """Everything that a browser would fetch or follow."""
        return [has[name] for _, has in self.elements for name in LINKS if name in has]
