"""A preprocessor of mdBook: what reads well on a code host becomes a site.

- A page from outside of docs/ (SUMMARY.md names it by `../`) gets a place in the site.
- Links are rewritten to the places of pages, and say a page's title where they say the name of its file. One to a file that
  is no page goes to the repository that Cargo.toml names; if it names none, only its text stays.
- A flowchart of Mermaid becomes a list.
- The headings of level 4 between the comments `tabs` and `/tabs` become names of tabs, see tabs.js: no part of the contents.
"""

import json
import posixpath
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)")
TABS = re.compile(r"^<!-- tabs -->$.*?^<!-- /tabs -->$", re.MULTILINE | re.DOTALL)
FENCE = re.compile(r"^( *)(`{3,})(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)


def repository():
    found = re.search(r'(?m)^repository = "(.+)"', (ROOT / "Cargo.toml").read_text(encoding="utf-8"))
    return found.group(1).rstrip("/") + "/blob/HEAD/" if found else None


def place(path):
    """Where a page goes: ../python/README.md to python.md, ../CHANGELOG.md to changelog.md."""
    if not path.startswith("../"):
        return path
    folder, name = posixpath.split(path[3:])
    return (folder.replace("/", "-") + ".md") if name == "README.md" and folder else name.lower()


def chapters(items):
    for item in items:
        if "Chapter" in item:
            yield item["Chapter"]
            yield from chapters(item["Chapter"]["sub_items"])


def flowchart(text):
    """Nodes with their texts, in their order, each with what it leads to; the text itself if it has no such nodes."""
    edges = {}
    for chain in re.findall(r"^ *(\w+(?: *--> *\w+)+) *$", text, re.MULTILINE):
        nodes = re.split(r" *--> *", chain)
        for one, other in zip(nodes, nodes[1:]):
            edges.setdefault(one, []).append(other)
    lines = []
    for node, label in re.findall(r'^ *(\w+)\["(.*)"\] *$', text, re.MULTILINE):
        label = re.sub(r"</?b>", "**", label)
        lines.append(f"- {label}" + (f" (uses {', '.join(edges[node])})" if node in edges else ""))
    return "\n".join(lines) or text


def rewrite(text, source, places, titles, base):
    def link(match):
        image, label, url = match.groups()
        if re.match(r"[a-z][a-z+.-]*:|#|//", url):
            return match.group(0)
        path, hash, anchor = url.partition("#")
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if target in places:
            label = titles[target] if label == posixpath.basename(path) else label
            # A README becomes index.html, which mdBook's own rewriting of links does not know.
            page = re.sub(r"(^|/)README\.md$", r"\1index.html", places[target])
            url = posixpath.relpath(page, posixpath.dirname(places[source]) or ".") + hash + anchor
        elif target.startswith("../"):
            if base is None:
                return label
            url = base + target[3:] + hash + anchor
        return f"{image}[{label}]({url})"

    parts, last = [], 0
    for fence in FENCE.finditer(text):
        parts.append(LINK.sub(link, text[last : fence.start()]))
        kind = fence.group(3).split("\n", 1)[0].strip()
        parts.append(flowchart(fence.group(0)) if kind == "mermaid" else fence.group(0))
        last = fence.end()
    return "".join([*parts, LINK.sub(link, text[last:])])


def main():
    if sys.argv[1:2] == ["supports"]:
        return
    _, book = json.load(sys.stdin)
    every = list(chapters(book["items"]))
    places = {posixpath.normpath(each["path"]): place(each["path"]) for each in every if each["path"]}
    titles = {posixpath.normpath(each["path"]): each["name"] for each in every if each["path"]}
    base = repository()
    for each in every:
        if each["path"]:
            source = posixpath.normpath(each["path"])
            text = rewrite(each["content"], source, places, titles, base)
            each["content"] = TABS.sub(lambda tabs: re.sub(r"(?m)^#### (.*)$", r'<p class="tab-name">\1</p>', tabs.group(0)), text)
            each["path"] = places[source]
    json.dump(book, sys.stdout)


main()
