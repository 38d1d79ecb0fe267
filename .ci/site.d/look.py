"""Opens every page of the site in Chromium, on a desktop and a phone, light and dark.

    python .ci/site.d/look.py target/site [folder for pictures]

Fails if a page is wider than its window, if the console has an error, if something is asked of another host, if the search does
not find "nprobe", or if the tabs of the tutorial do not follow the keyboard. Needs `playwright`, and a Chromium: CHROMIUM names
it, otherwise /usr/bin/chromium, otherwise Playwright's own.
"""

import functools
import http.server
import os
import sys
import threading
from pathlib import Path

from playwright.sync_api import Error, sync_playwright

SIZES = {"desktop": (1280, 900), "phone": (390, 844)}
# What scrolls beside itself: the window, or the column of the page, which mdBook lets scroll.
WIDER = "Math.max(...[document.documentElement, ...document.querySelectorAll('.content')].map(e => e.scrollWidth - e.clientWidth))"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def main(site: Path, pictures: "Path | None") -> int:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}/"
    pages = sorted(path.name for path in site.glob("*.html") if path.name not in ("404.html", "toc.html"))
    faults = []
    with sync_playwright() as playwright:
        chromium = os.environ.get("CHROMIUM") or next((path for path in ["/usr/bin/chromium"] if os.path.exists(path)), None)
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for size, (width, height) in SIZES.items():
            for scheme in ("light", "dark"):
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
                page = context.new_page()
                where = ""
                page.on("console", lambda said: said.type == "error" and faults.append(f"{where}: console: {said.text}"))
                page.on("pageerror", lambda error: faults.append(f"{where}: {error}"))
                page.on("request", lambda asked: asked.url.startswith((base, "data:")) or faults.append(f"{where}: asks {asked.url}"))
                for name in pages:
                    where = f"{name}, {size}, {scheme}"
                    page.goto(base + name, wait_until="networkidle")
                    if page.evaluate(WIDER) > 0:
                        faults.append(f"{where}: {page.evaluate(WIDER)} pixels too wide")
                    dark = "navy" in page.evaluate("document.documentElement.className")
                    if dark != (scheme == "dark"):
                        faults.append(f"{where}: the theme is not {scheme}")
                    if pictures:
                        page.screenshot(path=pictures / f"{name[:-5]}-{size}-{scheme}.png")
                context.close()
        page = browser.new_page()
        page.set_default_timeout(10_000)
        try:
            page.goto(base + "index.html")
            page.keyboard.press("/")
            page.locator("#mdbook-searchbar").press_sequentially("nprobe")
            page.wait_for_selector("#mdbook-searchresults a[href*='sql.html']")
            if pictures:
                page.screenshot(path=pictures / "search.png")
        except Error as error:
            faults.append(f"the search does not find nprobe: {error}")
        try:
            page.goto(base + "tutorial.html")
            page.locator("[role=tab][aria-selected=true]").first.press("ArrowRight")
            chosen = set(page.locator("[role=tab][aria-selected=true]").all_inner_texts())
            if chosen != {"Shell"}:
                faults.append(f"the arrow key chooses the tabs {chosen}, not Shell")
        except Error as error:
            faults.append(f"the tutorial has no tabs: {error}")
        browser.close()
    server.shutdown()
    print(*faults, f"{len(pages)} pages, {len(SIZES)} sizes, light and dark: {len(faults)} faults", sep="\n")
    return int(bool(faults))


if __name__ == "__main__":
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    if out:
        out.mkdir(parents=True, exist_ok=True)
    sys.exit(main(Path(sys.argv[1]), out))
