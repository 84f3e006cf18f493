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
    // Still to do if the console does not answer now.
    waiting = true;
    try {
      const response = await fetch(location.href, { headers: { "X-Nel-Mesh-Live": "1" } }).catch(() => null);
      if (!response || response.status >= 500) return;
      waiting = false;
      if (response.redirected) location.assign("/login");
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
    let last = document.documentElement.dataset.newestEvent;
    let events;
    const listen = () => {
      events = new EventSource(`/live?since=${last}`);
      events.addEventListener("ready", () => { document.documentElement.dataset.live = "yes"; });
      events.addEventListener("change", event => { last = event.lastEventId; refresh(); });
      events.addEventListener("over", () => { events.close(); location.assign("/login"); });
      // The browser connects again by itself, but not after a refusal, such as by a console without its ledger.
      events.addEventListener("error", () => {
        if (events.readyState !== EventSource.CLOSED) return;
        waiting = true;
        setTimeout(listen, 5000);
      });
    };
    addEventListener("pagehide", () => events.close());
    listen();
  }
  setInterval(() => {
    if (waiting) refresh();
    const seconds = Math.round((Date.now() - lookedAt) / 1000);
    said.textContent = seconds < 5 ? "" : seconds < 120 ? `${seconds} s ago.` : `${Math.round(seconds / 60)} minutes ago.`;
  }, 2000);
})();
