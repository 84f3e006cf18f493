// Refreshes the page when something has happened. Without it every page works; "Look again" does the same by hand.
(() => {
  "use strict";
  const part = document.getElementById("live-part");
  const looked = document.getElementById("looked");
  const said = document.getElementById("live");
  if (!part || !looked || !window.EventSource) return;
  let lookedAt = Date.now();
  let waiting = false;
  let busy = false;

  // Not under somebody's hands: a marked message, an open detail, or a focus in the part would be lost.
  const isInUse = () =>
    part.contains(document.activeElement) && document.activeElement !== document.body ||
    part.querySelector("input:checked, details[open]") !== null;

  const refresh = async () => {
    if (busy || document.hidden || isInUse()) {
      waiting = true;
      return;
    }
    busy = true;
    waiting = false;
    try {
      const response = await fetch(location.href, { headers: { "X-Nel-Mesh-Live": "1" } });
      if (!response.ok || response.redirected) return;
      const page = new DOMParser().parseFromString(await response.text(), "text/html");
      const fresh = page.getElementById("live-part");
      if (fresh && !isInUse()) {
        part.replaceChildren(...fresh.childNodes);
        looked.replaceChildren(...page.getElementById("looked").childNodes);
        lookedAt = Date.now();
      }
    } finally {
      busy = false;
    }
  };

  if (document.querySelector("pre[aria-label=Content]") === null) {
    const events = new EventSource(`/live?since=${document.documentElement.dataset.newestEvent}`);
    events.addEventListener("ready", () => { document.documentElement.dataset.live = "yes"; });
    events.addEventListener("change", refresh);
    events.addEventListener("over", () => { events.close(); location.assign("/login"); });
    addEventListener("pagehide", () => events.close());
  }
  setInterval(() => {
    if (waiting) refresh();
    const seconds = Math.round((Date.now() - lookedAt) / 1000);
    said.textContent = seconds < 5 ? "" : seconds < 120 ? `${seconds} s ago.` : `${Math.round(seconds / 60)} minutes ago.`;
  }, 2000);
})();
