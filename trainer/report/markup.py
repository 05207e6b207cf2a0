"""HTML and SVG as trees: writing a tree out escapes its text and attributes and closes its tags, by construction."""

from xml.etree.ElementTree import Element, tostring

__all__ = ["Element", "element", "html_bytes"]


def element(name: str, *children: Element | str, **attributes: str) -> Element:
    """`element("p", "see ", element("b", "this"), class_="note")`; text goes in as it is, never as markup."""
    made = Element(name, {key.rstrip("_").replace("_", "-"): value for key, value in attributes.items()})
    for child in children:
        if isinstance(child, Element):
            made.append(child)
        elif len(made):
            made[-1].tail = (made[-1].tail or "") + child
        else:
            made.text = (made.text or "") + child
    return made


def html_bytes(root: Element) -> bytes:
    """The document in UTF-8; a lone surrogate, which UTF-8 has no bytes for, becomes a reference."""
    text = tostring(root, encoding="unicode", method="html")
    return ("<!DOCTYPE html>\n" + text + "\n").encode("utf-8", "xmlcharrefreplace")
