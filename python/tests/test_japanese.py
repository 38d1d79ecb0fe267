"""A page in Japanese says what its page in English says: the same headings, code, figures and links."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = ["README.md", "docs/tutorial.md"]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^(#+) (.*)$", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])\d+(?:,\d{3})*(?:\.\d+)*")
JAPANESE = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")
# Where the comment of a line of code begins. `-->` and `--!` are results, not comments.
COMMENTS = {"sql": r"(?:^|\s)--(?![>!])", "rust": r"(?:^|\s)//", "python": r"(?:^|\s)#", "": r"(?:^|\s)(?:#|--(?=\s))"}


def translation(page: str) -> str:
    return page.removesuffix(".md") + ".ja.md"


def read(page: str) -> tuple[str, str]:
    texts = [ROOT / name for name in (page, translation(page))]
    if not all(text.exists() for text in texts):
        pytest.skip(f"{page} is not here in both languages")
    english, japanese = (text.read_text("utf-8") for text in texts)
    return english, japanese


def parts(line: str, language: str) -> tuple[str, str]:
    """The code of a line, and its comment."""
    found = re.search(COMMENTS.get(language, COMMENTS["python"]), line)
    return (line[: found.start()].rstrip(), line[found.start() :]) if found else (line.rstrip(), "")


def code_differs(english: str, japanese: str) -> list[str]:
    ours, theirs = FENCE.findall(english), FENCE.findall(japanese)
    if len(ours) != len(theirs):
        return [f"{len(theirs)} blocks, expected {len(ours)}"]
    faults = []
    for (language, block), (other, translated) in zip(ours, theirs):
        if language != other or block.count("\n") != translated.count("\n"):
            faults.append(f"a block is {other!r} of other lines: {translated[:60]!r}")
            continue
        for line, there in zip(block.split("\n"), translated.split("\n")):
            (code, _), (code_there, comment) = parts(line, language), parts(there, language)
            if line != there and (code != code_there or not JAPANESE.search(comment)):
                faults.append(f"{there!r}, expected {line!r}")
    return faults


def sections(text: str) -> list[str]:
    """The prose between headings, the part before the first one included, without code blocks."""
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("", text))
    return HEADING.sub("\0", text).split("\0")


def numbers(section: str) -> list[str]:
    return NUMBER.findall(LINK.sub("]", re.sub(r"`[^`]*`", "", section)))


def links(text: str) -> Counter[str]:
    names = {Path(page).name for page in PAGES}
    found = (link.replace(".ja.md", ".md") for link in LINK.findall(FENCE.sub("", text)) if not link.startswith("#"))
    return Counter(link for link in found if link not in names)


def anchors(text: str) -> set[str]:
    titles = (re.sub(r"[^\w\- ]", "", title.lower()) for _, title in HEADING.findall(FENCE.sub("", text)))
    return {"#" + title.replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES)
def test_each_links_to_the_other_at_its_top(page: str) -> None:
    english, japanese = read(page)
    assert f"[日本語]({Path(translation(page)).name})" in english.split("\n\n")[1]
    assert f"[English]({Path(page).name})" in japanese.split("\n\n")[1]


@pytest.mark.parametrize("page", PAGES)
def test_the_headings_are_as_many_at_the_same_levels(page: str) -> None:
    levels = [[len(marks) for marks, _ in HEADING.findall(FENCE.sub("", text))] for text in read(page)]
    assert levels[0] == levels[1]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_is_the_same_but_for_comments(page: str) -> None:
    assert code_differs(*read(page)) == []


@pytest.mark.parametrize("page", PAGES)
def test_each_section_has_the_same_figures_in_the_same_order(page: str) -> None:
    for english, japanese in zip(*map(sections, read(page))):
        assert numbers(english) == numbers(japanese), japanese[:80]


@pytest.mark.parametrize("page", PAGES)
def test_each_section_names_the_same_code(page: str) -> None:
    for english, japanese in zip(*map(sections, read(page))):
        assert Counter(re.findall(r"`[^`]+`", english)) == Counter(re.findall(r"`[^`]+`", japanese)), japanese[:80]


@pytest.mark.parametrize("page", PAGES)
def test_the_links_are_the_same_and_those_within_the_page_lead_somewhere(page: str) -> None:
    english, japanese = read(page)
    assert links(english) == links(japanese)
    within = [[link for link in LINK.findall(FENCE.sub("", text)) if link.startswith("#")] for text in (english, japanese)]
    assert len(within[0]) == len(within[1])
    for text, found in zip((english, japanese), within):
        assert set(found) <= anchors(text)


def test_a_difference_is_seen() -> None:
    text = "# A\n\n```sql\nSELECT 1; -- one\n--> 1\n```\n\n2 of 3 `x` [a](b.md)\n"
    same = "# い\n\n```sql\nSELECT 1; -- 一つ\n--> 1\n```\n\n3 個のうち 2 個 `x` [a](b.md)\n"
    assert code_differs(text, same) == []
    assert [numbers(section) for section in sections(text)] != [numbers(section) for section in sections(same)]
    for before, after in [("SELECT 1", "SELECT 2"), ("--> 1", "--> 2"), ("-- 一つ", "-- 1"), ("```sql", "```rust")]:
        assert code_differs(text, same.replace(before, after)), after
    assert links(text) != links(same.replace("b.md", "c.md"))
