"""HTML, Markdown and reStructuredText as people write them."""

from __future__ import annotations

from ingest_pipeline_tests.made.words import CHINESE, CZECH, ENGLISH, GERMAN, JAPANESE, UKRAINIAN, paragraphs

SECTIONS = (
    ("The harbour", ENGLISH), ("Die Bäckerei", GERMAN), ("Ранок", UKRAINIAN), ("Vlak", CZECH), ("粉屋", JAPANESE),
    ("磨坊", CHINESE),
)  # fmt: skip
"""Headings and what stands under them."""


def page(
    *, head: str = "", title: str = "The mill", sections: tuple[tuple[str, str], ...] = SECTIONS, size: int = 600
) -> str:
    """A page of HTML with a menu, a script and a section for each of these; each is long enough for its own page."""
    body = "".join(
        f"<section><h2>{heading}</h2>"
        + "".join(f"<p>{part}</p>" for part in paragraphs(text, size).strip().split("\n\n"))
        + "</section>"
        for heading, text in sections
    )
    return (
        f"<!DOCTYPE html><html><head>{head}<title>{title}</title><style>p {{ margin: 0 }}</style></head><body>"
        "<nav><ul><li><a href='/'>Home</a></li><li><a href='/more'>More</a></li></ul></nav>"
        f"<script>var unwanted = 1;</script><h1>{title}</h1>{body}</body></html>"
    )


def markdown(title: str = "Mlýn a moře", *, size: int = 600) -> str:
    """A text of Markdown with the same sections, a list, a table and code."""
    parts = [f"# {title}\n\nShort words to begin with.\n\n"]
    parts += [f"## {heading}\n\n{paragraphs(text, size)}" for heading, text in SECTIONS]
    parts.append("- flour\n- bran\n\n| Month | Sacks |\n|---|---|\n| May | 41 |\n\n```sh\n# no heading\nls\n```\n")
    return "".join(parts)


def rst(title: str = "Млин", *, size: int = 600) -> str:
    """The same in reStructuredText, with a framed title."""
    frame = "=" * (len(title) + 2)
    parts = [f"{frame}\n {title}\n{frame}\n\nShort words to begin with.\n\n"]
    for heading, text in SECTIONS:
        parts.append(f"{heading}\n{'-' * (2 * len(heading))}\n\n{paragraphs(text, size)}")
    return "".join(parts)
