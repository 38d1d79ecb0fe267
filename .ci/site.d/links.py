"""Fails on a dead link, picture or anchor of a folder of HTML pages, and on a page of docs/ that SUMMARY.md leaves out."""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" or (tag == "a" and name == "name"):
                self.ids.add(value)
            elif name in ("href", "src") and value and tag != "base":
                self.links.append(value)


def main(site: Path, docs: Path) -> int:
    pages = {path.resolve(): Page(path) for path in site.rglob("*.html")}
    faults, checked = [], 0
    for path, page in sorted(pages.items()):
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc or path.name == "404.html":  # 404 is shown at any depth
                continue
            checked += 1
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                faults.append(f"{path.name}: {link}: there is no {target.name}")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                faults.append(f"{path.name}: {link}: there is no such anchor")
    summary = (docs / "SUMMARY.md").read_text(encoding="utf-8")
    faults += [f"docs/{page.name} is not in docs/SUMMARY.md" for page in sorted(docs.glob("*.md"))
               if page.name != "SUMMARY.md" and f"({page.name})" not in summary]  # fmt: skip
    print(*faults, f"{len(pages)} pages, {checked} links and anchors, {len(faults)} faults", sep="\n")
    return int(bool(faults))


sys.exit(main(Path(sys.argv[1]).resolve(), Path(sys.argv[2])))
