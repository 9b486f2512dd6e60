// Theme: dark unless the reader chose light or the system's; kept in this browser.
"use strict";
(() => {
  const root = document.documentElement;
  const order = ["dark", "light", "system"];
  const stored = () => {
    try { return localStorage.getItem("firstlook-theme") || "dark"; } catch { return "dark"; }
  };
  const fixed = root.dataset.theme;
  const apply = (name) => { root.dataset.theme = name; };
  apply(fixed || stored());
  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    const label = () => { button.textContent = "Theme: " + root.dataset.theme; };
    label();
    button.hidden = false;
    button.addEventListener("click", () => {
      apply(order[(order.indexOf(root.dataset.theme) + 1) % order.length]);
      try { localStorage.setItem("firstlook-theme", root.dataset.theme); } catch { /* not kept */ }
      label();
    });
  });
})();
