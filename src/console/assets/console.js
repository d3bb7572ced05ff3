// Everything but keys, the slider's preview, local times and playing works without this script.
"use strict";
document.documentElement.classList.add("scripted");
const one = (selector) => document.querySelector(selector);
const local = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "long" });

document.addEventListener("mouseover", (event) => {
  const time = event.target.closest("time");
  if (time && !time.dataset.local) {
    time.dataset.local = "1";
    time.title = `${time.dateTime} · here ${local.format(new Date(time.dateTime))}`;
  }
});

// The slider is replaced when the end moves on.
const ofSlider = (event) => event.target.matches(".slider input[type=range]") && event.target;
document.addEventListener("input", (event) => {
  const slider = ofSlider(event);
  if (slider) one(".slider output").textContent = new Date(Number(slider.value)).toISOString().replace("T", " ").replace("Z", " UTC");
});
document.addEventListener("change", (event) => {
  if (ofSlider(event) || event.target.matches(".filters select, .filters input[type=checkbox]")) event.target.form.requestSubmit();
});
document.addEventListener("submit", (event) => {
  // An address says only what is set.
  if (event.target.method === "get") for (const field of event.target.elements) if (field.name && !field.value) field.disabled = true;
});

if (one(".playing")) {
  const next = one(".steps a[rel=next]");
  setTimeout(() => {
    if (!next) return location.assign(one(".playing").href);
    const to = new URL(next.href);
    to.searchParams.set("play", "1");
    location.replace(to);
  }, 1000);
}

// A page that shows the end of a journal follows it: the server sends the parts that changed. They wait while somebody
// types, selects or moves the slider.
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 60000;
const live = one("main").dataset.live;
const parts = new Map();
let source = null;
let pause = RETRY_MIN_MS;
const isBusy = () => document.activeElement?.matches("input, select, textarea") || !getSelection().isCollapsed;
function apply() {
  if (isBusy()) return;
  for (const [name, html] of parts) {
    const part = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
    if (part) part.innerHTML = html;
  }
  parts.clear();
  mark();
}
function follow() {
  if (!live || document.hidden || source) return;
  source = new EventSource(live);
  source.onmessage = (event) => {
    for (const [name, html] of JSON.parse(event.data)) {
      // A whole part contains what waited of the parts inside it.
      parts.delete(name);
      parts.set(name, html);
    }
    apply();
  };
  source.onopen = () => {
    pause = RETRY_MIN_MS;
    document.documentElement.classList.add("live");
  };
  source.onerror = (event) => {
    document.documentElement.classList.remove("live");
    // A browser connects again by itself, except after a refusal: too many readers, no token, a service that starts.
    if (event.target !== source || source.readyState !== EventSource.CLOSED) return;
    source = null;
    setTimeout(follow, pause);
    pause = Math.min(2 * pause, RETRY_MAX_MS);
  };
}
if (live) {
  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) return follow();
    source?.close();
    source = null;
  });
  document.addEventListener("focusout", () => setTimeout(apply));
  document.addEventListener("selectionchange", apply);
  addEventListener("pagehide", () => source?.close());
  follow();
}

const rows = () => [...document.querySelectorAll("tr[data-href]")];
let at = -1;
function mark() {
  rows()[at]?.classList.add("at");
}
function go(step) {
  const all = rows();
  if (!all.length) return;
  all[at]?.classList.remove("at");
  at = Math.max(0, Math.min(all.length - 1, at + step));
  all[at].classList.add("at");
  all[at].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (one("dialog[open]")) return;
    if (typing) return event.target.blur();
    if (history.length > 1) history.back();
    return;
  }
  if (typing) return;
  const follow = (selector) => one(selector)?.click();
  const keys = {
    "/": () => one(".filter")?.focus(),
    "?": () => one("#keys").showModal(),
    t: () => one("#at")?.focus(),
    "[": () => follow(".steps a[rel=prev]"),
    "]": () => follow(".steps a[rel=next]"),
    ArrowDown: () => go(1),
    ArrowUp: () => go(-1),
    Enter: () => { if (at >= 0 && event.target === document.body) location.assign(rows()[at].dataset.href); },
  };
  const page = document.querySelectorAll("nav a")[Number(event.key) - 1];
  const act = keys[event.key] ?? (page && (() => page.click()));
  if (!act) return;
  if (event.key !== "Enter") event.preventDefault();
  act();
});
