// Worklist: fetch the rows when the server tells of news, without moving what the reader is pointing at; keys j, k, Enter,
// m, r, /, v.
// Filters stand in the address; what is searched for does not, for it may be a name.
"use strict";
(() => {
  const script = document.currentScript;
  const base = script.dataset.base;
  const filters = document.getElementById("filters");
  const search = document.getElementById("search");
  const everyMs = Number(script.dataset.refreshS) * 1000;
  const restMs = 10000;
  const typingMs = 300;
  const slower = 6;  // told of news by the server, the list still asks now and then: waits grow by themselves
  const status = document.getElementById("status");
  const waiting = document.getElementById("waiting");
  let held = null;
  let touchedAt = 0;
  let chosen = 0;
  let timer = 0;
  let typing = 0;
  let live = false;
  let source = null;
  let seenAt = document.getElementById("news").dataset.at;

  const body = () => document.getElementById("rows");
  const rows = () => [...body().querySelectorAll("tr[data-uid]")];
  const uids = (list) => list.map((row) => row.dataset.uid);
  const inUse = () => body().matches(":hover, :focus-within") && Date.now() - touchedAt < restMs;
  const focusedUid = () => document.activeElement?.closest?.("tr[data-uid]")?.dataset.uid;
  const find = (uid) => rows().find((row) => row.dataset.uid === uid);

  function focus(uid) {
    find(uid)?.querySelector("a")?.focus({ preventScroll: true });
  }

  const hoveredUid = () => body().querySelector("tr[data-uid]:hover")?.dataset.uid;

  // Bring a row back to where it was on the screen; room is made where the page is too short to scroll.
  function keepPlace(uid, before) {
    const off = () => find(uid).getBoundingClientRect().top - before;
    window.scrollBy(0, off());
    if (off() > 1) document.body.style.paddingBottom = `${off() + (parseFloat(document.body.style.paddingBottom) || 0)}px`;
    else if (off() < -1) document.getElementById("news").style.paddingTop = `${-off()}px`;
    window.scrollBy(0, off());
  }

  // Everything anew; the row that is focused, else the one under the pointer, keeps its place on the screen.
  function replace(news) {
    const focused = focusedUid();
    const uid = focused || hoveredUid();
    const before = uid ? find(uid).getBoundingClientRect().top : 0;
    const known = new Set(uids(rows()));
    document.getElementById("news").replaceWith(news);
    for (const row of rows()) {
      if (!known.has(row.dataset.uid)) row.classList.add("new");
    }
    document.body.style.paddingBottom = "";
    if (focused) focus(focused);
    if (uid && find(uid)) keepPlace(uid, before);
    held = null;
    waiting.hidden = true;
  }

  // The same rows in the same order, with news in them; a new order waits.
  function fillIn(news) {
    const fresh = new Map([...news.querySelectorAll("tr[data-uid]")].map((row) => [row.dataset.uid, row]));
    const uid = focusedUid();
    for (const row of rows()) {
      const now = fresh.get(row.dataset.uid);
      if (now && now.innerHTML !== row.innerHTML) {
        row.className = now.className;
        row.replaceChildren(...[...now.cloneNode(true).childNodes]);
      }
    }
    if (uid) focus(uid);
    document.getElementById("figures").replaceWith(news.querySelector("#figures").cloneNode(true));
    held = news;
    waiting.textContent = "The order has changed: press r";
    waiting.hidden = false;
  }

  function take(news) {
    const same = uids(rows()).join() === uids([...news.querySelectorAll("tr[data-uid]")]).join();
    if (same || !inUse()) replace(news); else fillIn(news);
  }

  const query = () => new URLSearchParams([...new FormData(filters)].filter(([, value]) => value)).toString();
  const address = (path) => base + path + (query() ? "?" + query() : "");

  // Ask for the rows that are chosen now; the text of a search goes in the body.
  function ask() {
    const text = search.elements.text.value.trim();
    const options = text ? { method: "POST", body: new URLSearchParams(new FormData(search)) } : {};
    return fetch(address("/rows"), { cache: "no-store", ...options });
  }

  // The page of a study leads back to the list as it was.
  function remember() {
    try { sessionStorage.setItem("firstlook-list", query()); } catch { /* not kept */ }
  }

  // The reader chose something else: the list is drawn anew, wherever the pointer is.
  async function choose() {
    chosen += 1;
    history.replaceState(null, "", address("/"));
    remember();
    search.action = address("/");
    document.getElementById("save-view").elements.query.value = query();
    for (const label of document.querySelectorAll(".filters label")) {
      label.classList.toggle("set", Boolean(label.querySelector("select, input").value.trim()));
    }
    document.getElementById("clear").hidden = !document.querySelector(".filters label.set");
    touchedAt = 0;
    await refresh();
  }

  async function refresh() {
    const asked = chosen;
    clearTimeout(timer);
    try {
      const answer = await ask();
      if (answer.status === 401) location.reload();  // the login is over: its page comes instead
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const news = document.adoptNode(page.getElementById("news"));
      if (asked !== chosen) return;
      seenAt = news.dataset.at;
      status.textContent = (live ? "Live, " : "Updated ") + seenAt;
      status.classList.remove("lost");
      take(news);
    } catch {
      status.textContent = "No answer: this list is of " + seenAt;
      status.classList.add("lost");
    } finally {
      if (asked === chosen) {
        clearTimeout(timer);
        timer = setTimeout(refresh, live ? slower * everyMs : everyMs);
      }
    }
  }

  // The server tells of news; the connection is let go while nobody looks, for a browser has only a few of them.
  function listen() {
    source?.close();
    source = document.hidden ? null : new EventSource(base + "/news");
    if (!source) return;
    source.addEventListener("changed", () => {
      live = true;
      refresh();
    });
    source.addEventListener("error", () => {
      live = false;
      clearTimeout(timer);
      timer = setTimeout(refresh, everyMs);
    });
  }

  // Mark a study as read, or take the mark back; its row stays until the list is drawn anew, so that it can be undone.
  async function mark(button) {
    const form = button.form;
    const { uid } = button.closest("tr").dataset;
    const there = button.getAttribute("formaction").endsWith("/unread") ? "read" : "unread";
    button.disabled = true;
    try {
      const answer = await fetch(button.formAction, {
        method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual",
      });
      if (!answer.ok && answer.type !== "opaqueredirect") throw new Error(String(answer.status));
      const row = find(uid);  // the list may have been drawn anew meanwhile
      row?.classList.toggle("done", there === "unread");
      const now = row?.querySelector(".mark-read");
      now?.setAttribute("formaction", now.getAttribute("formaction").replace(/(un)?read$/, there));
      now?.replaceChildren(there === "unread" ? "Undo" : "Mark read");
      row?.querySelector("td:last-child small")?.remove();
      chosen += 1;  // an answer that is under way may be of before the mark: it is not taken
      refresh();
    } catch {
      status.textContent = "Not marked: no answer";
      status.classList.add("lost");
    } finally {
      button.disabled = false;
    }
  }

  function step(by) {
    const list = rows();
    if (!list.length) return;
    const at = uids(list).indexOf(focusedUid());
    const to = at < 0 ? (by > 0 ? 0 : list.length - 1) : Math.min(list.length - 1, Math.max(0, at + by));
    list[to].querySelector("a").focus({ preventScroll: true });
    list[to].scrollIntoView({ block: "nearest" });
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "Escape") document.getElementById("views").open = false;
    if (event.target.closest("input, select")) {
      if (event.key === "Escape") event.target.blur();
      return;
    }
    touchedAt = Date.now();
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "m" && focusedUid()) mark(find(focusedUid()).querySelector(".mark-read"));
    else if (event.key === "r" && held) replace(held);
    else if (event.key === "/") {
      event.preventDefault();
      search.elements.text.select();
    } else if (event.key === "v") {
      event.preventDefault();
      document.getElementById("views").open = true;
      document.querySelector("#views .menu a, #views .menu input[name=name]").focus();
    } else if (event.key === "Escape") document.activeElement?.blur?.();
  });
  document.addEventListener("pointermove", () => { touchedAt = Date.now(); });
  document.addEventListener("wheel", () => { touchedAt = Date.now(); }, { passive: true });
  document.addEventListener("click", (event) => {
    const button = event.target.closest(".mark-read");
    if (button) {
      event.preventDefault();
      mark(button);
      return;
    }
    const row = event.target.closest("tr[data-uid]");
    if (row && !event.target.closest("a") && !String(getSelection())) row.querySelector("a").click();
  });
  filters.addEventListener("change", choose);
  filters.addEventListener("submit", (event) => event.preventDefault());
  search.addEventListener("submit", (event) => {
    event.preventDefault();
    choose();
  });
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(choose, typingMs);
  });
  document.addEventListener("visibilitychange", listen);
  document.addEventListener("pointerdown", (event) => {
    if (!event.target.closest("#views")) document.getElementById("views").open = false;
  });
  remember();
  listen();
  timer = setTimeout(refresh, everyMs);
})();
