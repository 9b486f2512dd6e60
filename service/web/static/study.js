// Study page: the images, keys, and news of the study without losing the reader's place.
import { Viewer } from "./viewer.js";

const PARTS = ["head", "side", "rest"];
const back = document.getElementById("back");
const base = document.body.dataset.base;
let viewer = null;
let lost = 0;

try {
  const query = sessionStorage.getItem("firstlook-list");
  if (query) back.search = query;
} catch { /* the whole list */ }

function openViewer(at) {
  const root = document.getElementById("viewer");
  viewer = root?.dataset.view ? new Viewer(root, at) : null;
  root?.addEventListener("gone", refresh);
}

// Something happened to a study: words anew, except where the reader is writing; images only when they have changed.
async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (answer.status === 401 || answer.redirected) location.reload();
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const id of PARTS) {
    const now = document.getElementById(id);
    const fresh = page.getElementById(id);
    if (fresh && now.innerHTML !== fresh.innerHTML && !now.querySelector(".verdict details[open], :focus")) {
      now.replaceWith(document.adoptNode(fresh));
    }
  }
  document.getElementById("as-of").textContent = page.getElementById("as-of").textContent;
  const [here, there] = [document, page].map((one) => one.getElementById("viewer"));
  if ((here?.dataset.view || "") !== (there?.dataset.view || "")) {
    const at = viewer?.state;
    here.replaceWith(document.adoptNode(there));
    openViewer(at);
  }
}

// Told of news by the server; where that fails, asked for now and then while the study is not done.
function listen() {
  const source = new EventSource(`${base}/news`);
  let seen = null;
  source.addEventListener("changed", (event) => {
    if (seen !== null && seen !== event.data) refresh();
    seen = event.data;
  });
  source.addEventListener("error", () => {
    if (source.readyState !== EventSource.CLOSED) return;
    clearTimeout(lost);
    lost = setTimeout(() => { refresh(); listen(); }, 10000);
  });
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return;
    source.close();
    document.addEventListener("visibilitychange", () => { refresh(); listen(); }, { once: true });
  }, { once: true });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input:not([type=range]), select, textarea")) return;
  if (event.key === "Escape" || (event.key === "Backspace" && event.target === document.body)) back.click();
  else if (event.key === "m") document.getElementById("mark-read").click();
  else if (event.target.matches("[type=range]") ? "nio123456789".includes(event.key) && viewer?.key(event) : viewer?.key(event)) {
    event.preventDefault();
  }
});
openViewer();
listen();
