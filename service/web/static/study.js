// Study page: Escape or Backspace goes back to the worklist.
"use strict";
try {
  const query = sessionStorage.getItem("firstlook-list");
  if (query) document.getElementById("back").search = query;
} catch { /* the whole list */ }
document.addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea")) return;
  if (event.key === "Escape" || (event.key === "Backspace" && event.target === document.body)) {
    document.getElementById("back").click();
  }
});
