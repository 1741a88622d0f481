// Comforts where JavaScript is on: buttons that copy code, counts of results read out after a change, and a log that is
// followed while its end is in view.
"use strict";

function announce(text) {
  const place = document.getElementById("announce");
  if (place) place.textContent = text;
}

function addCopyButtons(root) {
  if (!navigator.clipboard) return;
  for (const block of root.querySelectorAll("[data-copy]:not([data-ready])")) {
    block.dataset.ready = "1";
    const button = document.createElement("button");
    button.type = "button";
    button.className = "copy";
    button.textContent = "Copy";
    button.setAttribute("aria-label", "Copy: " + block.dataset.copy);
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(block.querySelector("pre").textContent);
        button.textContent = "Copied";
        announce(block.dataset.copy + " copied");
      } catch {
        button.textContent = "Not allowed";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
    block.append(button);
  }
}

function toEnd(log) {
  log.scrollTop = log.scrollHeight;
}

document.addEventListener("htmx:oobBeforeSwap", (event) => {
  const log = event.detail.target;
  if (log.id !== "log") return;
  if (log.scrollTop + log.clientHeight >= log.scrollHeight - 8) setTimeout(toEnd, 0, log);
});
document.addEventListener("DOMContentLoaded", () => {
  const log = document.querySelector(".progress-box ~ #log");
  if (log) toEnd(log);
});
document.addEventListener("DOMContentLoaded", () => addCopyButtons(document));
document.addEventListener("htmx:afterSettle", (event) => {
  addCopyButtons(document);
  const said = document.querySelector("#found [role=status]");
  if (said && event.target.id === "found") announce(said.textContent);
});
