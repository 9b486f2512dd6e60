// Worklist: fetch the rows again and again, without moving what the reader is pointing at; keys j, k, Enter, m, r.
"use strict";
(() => {
  const script = document.currentScript;
  const everyMs = Number(script.dataset.refreshS) * 1000;
  const restMs = 10000;
  const status = document.getElementById("status");
  const waiting = document.getElementById("waiting");
  let held = null;
  let touchedAt = 0;
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

  // Everything anew; the focused row keeps its focus and its place on the screen.
  function replace(news) {
    const uid = focusedUid();
    const before = uid ? find(uid).getBoundingClientRect().top : 0;
    const known = new Set(uids(rows()));
    document.getElementById("news").replaceWith(news);
    for (const row of rows()) {
      if (!known.has(row.dataset.uid)) row.classList.add("new");
    }
    if (uid && find(uid)) {
      focus(uid);
      window.scrollBy(0, find(uid).getBoundingClientRect().top - before);
    }
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

  async function refresh() {
    try {
      const answer = await fetch(script.dataset.rows, { cache: "no-store" });
      if (!answer.ok) throw new Error(String(answer.status));
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const news = document.adoptNode(page.getElementById("news"));
      seenAt = news.dataset.at;
      status.textContent = "Updated " + seenAt;
      status.classList.remove("lost");
      take(news);
    } catch {
      status.textContent = "No answer: this list is of " + seenAt;
      status.classList.add("lost");
    } finally {
      setTimeout(refresh, everyMs);
    }
  }

  // Mark a study as read, or take the mark back; its row stays until the list is drawn anew, so that it can be undone.
  async function mark(button) {
    const form = button.form;
    const row = button.closest("tr");
    button.disabled = true;
    try {
      const answer = await fetch(button.formAction, {
        method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual",
      });
      if (!answer.ok && answer.type !== "opaqueredirect") throw new Error(String(answer.status));
      const read = row.classList.toggle("done");
      const there = read ? "unread" : "read";
      button.setAttribute("formaction", button.getAttribute("formaction").replace(/(un)?read$/, there));
      button.textContent = read ? "Undo" : "Mark read";
      row.querySelector("td:last-child small")?.remove();
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
    touchedAt = Date.now();
    if (event.key === "j") step(1);
    else if (event.key === "k") step(-1);
    else if (event.key === "m" && focusedUid()) mark(find(focusedUid()).querySelector(".mark-read"));
    else if (event.key === "r" && held) replace(held);
    else if (event.key === "Escape") document.activeElement?.blur?.();
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
  setTimeout(refresh, everyMs);
})();
