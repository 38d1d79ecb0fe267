// What stands between the comments `tabs` and `/tabs` becomes tabs, one for each name (pages.py makes headings into these); without a
// script the names stay above what belongs to them. The choice holds for all tabs of a page, and for the next visit.
(() => {
  "use strict";
  const KEY = "sqlite-ivf-tab";
  const groups = [];

  function choose(name, focus) {
    for (const group of groups) {
      for (const { title, tab, panel } of group) {
        const chosen = title === name;
        tab.setAttribute("aria-selected", String(chosen));
        tab.tabIndex = chosen ? 0 : -1;
        panel.hidden = !chosen;
        if (chosen && focus && group === focus) tab.focus();
      }
    }
    try {
      localStorage.setItem(KEY, name);
    } catch {
      // Storage may be forbidden: then the choice is that of this visit.
    }
  }

  function build(start) {
    const list = document.createElement("div");
    list.className = "tabs";
    list.setAttribute("role", "tablist");
    list.setAttribute("aria-label", "Language");
    const group = [];
    let node = start.nextSibling;
    while (node && !(node.nodeType === Node.COMMENT_NODE && node.data.trim() === "/tabs")) {
      const next = node.nextSibling;
      if (node.nodeName === "P" && node.classList.contains("tab-name")) {
        const title = node.textContent.trim();
        const id = `${groups.length}-${group.length}`;
        const tab = document.createElement("button");
        const panel = document.createElement("div");
        tab.type = "button";
        tab.id = `tab-${id}`;
        tab.textContent = title;
        tab.setAttribute("role", "tab");
        panel.id = `panel-${id}`;
        panel.className = "tab-panel";
        panel.tabIndex = 0;
        panel.setAttribute("role", "tabpanel");
        panel.setAttribute("aria-labelledby", tab.id);
        tab.setAttribute("aria-controls", panel.id);
        tab.addEventListener("click", () => {
          const before = tab.getBoundingClientRect().top;
          choose(title);
          // Panels above have other heights now: what was clicked stays where it was.
          window.scrollBy({ top: tab.getBoundingClientRect().top - before, behavior: "instant" });
        });
        list.append(tab);
        node.before(panel);
        group.push({ title, tab, panel });
      }
      if (group.length) group[group.length - 1].panel.append(node);
      node = next;
    }
    list.addEventListener("keydown", (event) => {
      const at = group.findIndex(({ tab }) => tab === document.activeElement);
      const to = { ArrowRight: at + 1, ArrowLeft: at - 1 + group.length, Home: 0, End: group.length - 1 }[event.key];
      if (to === undefined || at < 0) return;
      event.preventDefault();
      event.stopPropagation(); // the arrows also turn pages
      choose(group[to % group.length].title, group);
    });
    start.after(list);
    groups.push(group);
  }

  const comments = document.createNodeIterator(document.querySelector("main") || document.body, NodeFilter.SHOW_COMMENT);
  const starts = [];
  for (let comment; (comment = comments.nextNode()); ) if (comment.data.trim() === "tabs") starts.push(comment);
  if (!starts.length) return;
  starts.forEach(build);
  let kept = null;
  try {
    kept = localStorage.getItem(KEY);
  } catch {
    // as above
  }
  choose(groups[0].some(({ title }) => title === kept) ? kept : groups[0][0].title);
})();
