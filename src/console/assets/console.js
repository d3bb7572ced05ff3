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
  if (!slider) return;
  const moment = new Date(Number(slider.value)).toISOString().replace("T", " ").replace("Z", " UTC");
  one(".slider output").textContent = moment;
  slider.setAttribute("aria-valuetext", moment);
});
// A choice counts at once where it is pointed at. Keys go from choice to choice: Enter or the button takes one.
let isPointed = false;
document.addEventListener("pointerdown", () => { isPointed = true; }, true);
document.addEventListener("keydown", () => { isPointed = false; }, true);
document.addEventListener("change", (event) => {
  const isChoice = isPointed && event.target.matches(".filters select, .filters input[type=checkbox]");
  if (ofSlider(event) || isChoice) event.target.form.requestSubmit();
});
document.addEventListener("formdata", (event) => {
  // An address says only what is set.
  if (event.target.method === "get") for (const [name, value] of [...event.formData]) if (!value) event.formData.delete(name);
});

// Keys move the slider by a 200th of the history (pages: a 20th), and at rest it goes there. The new page has it in hand again.
const KEYS_REST_MS = 700;
const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 };
let resting;
document.addEventListener("keydown", (event) => {
  const slider = ofSlider(event);
  if (!slider || !(event.key in steps)) return;
  event.preventDefault();
  const step = Math.max(1000, Math.round((slider.max - slider.min) / 200000) * 1000);
  slider.value = Number(slider.value) + steps[event.key] * step;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
  clearTimeout(resting);
  resting = setTimeout(() => {
    sessionStorage.setItem("slider", "1");
    slider.form.requestSubmit();
  }, KEYS_REST_MS);
});
if (sessionStorage.getItem("slider")) {
  sessionStorage.removeItem("slider");
  one(".slider input[type=range]")?.focus();
}
function toFilter() {
  const filter = one(".filter");
  // A narrow page folds its filters.
  if (filter?.closest("details")) filter.closest("details").open = true;
  filter?.focus();
}
if (location.hash === "#filter") toFilter();

// Tables that are wider than their place can be scrolled with keys.
function reachScrollers() {
  // The head of a table that fits stays in view, below the bar of the moment.
  const bar = one(".time");
  const height = bar && getComputedStyle(bar).position === "sticky" ? bar.offsetHeight : 0;
  document.documentElement.style.setProperty("--bar", `${height}px`);
  for (const box of document.querySelectorAll(".tall")) {
    box.classList.remove("fits");
    box.classList.toggle("fits", box.scrollWidth <= box.clientWidth);
  }
  for (const box of document.querySelectorAll(".scroll:not([role])")) {
    if (box.scrollWidth <= box.clientWidth) continue;
    box.tabIndex = 0;
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", `Table of ${(box.closest("section")?.querySelector("h2") ?? one("h1")).textContent.trim()}`);
  }
}
reachScrollers();
addEventListener("resize", reachScrollers);

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
// types, selects or moves the slider. The head of the page says whether it follows, waits, or has lost the server. Ages
// are counted here, by the clock of the server.
const RETRY_MIN_MS = 1000;
const RETRY_MAX_MS = 60000;
// The server sends something every 15 s.
const SILENCE_MAX_MS = 40000;
const OLD_MS = 60000;
const live = one("main").dataset.live;
const ahead = Number(one("main").dataset.clock) - Date.now();
let contact = Date.now();
let lost = null;
const parts = new Map();
let source = null;
let pause = RETRY_MIN_MS;
const isBusy = () => document.activeElement?.matches("input, select, textarea") || !getSelection().isCollapsed;
function span(ms) {
  const [seconds, minutes, hours, days] = [1000, 60000, 3600000, 86400000].map((unit) => Math.floor(ms / unit));
  const both = (whole, unit, rest, smaller) => rest ? `${whole}${unit} ${rest}${smaller}` : `${whole}${unit}`;
  if (seconds < 10) return `${seconds}.${Math.floor(ms % 1000 / 100)}s`;
  if (seconds < 120) return `${seconds}s`;
  if (seconds < 7200) return `${minutes}m`;
  return seconds < 172800 ? both(hours, "h", minutes % 60, "m") : both(days, "d", hours % 24, "h");
}
function tell() {
  for (const age of document.querySelectorAll(".age[data-since]")) {
    const ms = Math.max(0, Date.now() + ahead - Number(age.dataset.since));
    age.textContent = span(ms);
    if (age.closest(".moment")) age.classList.toggle("old", ms > OLD_MS);
  }
  if (source && Date.now() - contact > SILENCE_MAX_MS) lost ??= contact;
  const since = lost && new Date(lost).toISOString();
  const [tone, text] = lost ? ["bad", `✗ Not connected since ${since.slice(11, 19)} UTC: what is shown is of then`]
    : isBusy() ? ["warn", "❚❚ Paused while a field has the focus or text is selected"]
    : document.documentElement.classList.contains("live") ? ["good", "● Live"] : ["", "Connecting"];
  const state = one(".state");
  if (state.textContent !== text) [state.className, state.textContent] = [`state ${tone}`, text];
}
// An element is known again by its id, by where it leads, or by what it says, and by its number among those alike.
const REACHED = "a[href], summary, button, [tabindex='0']";
function known(selector) {
  const alike = new Map();
  return [...document.querySelectorAll(selector)].map((element) => {
    const says = () => (element.querySelector(":scope > summary") ?? element).textContent.trim();
    const name = element.id || element.getAttribute("href") || element.getAttribute("aria-label") || says();
    const number = alike.get(name) ?? 0;
    alike.set(name, number + 1);
    return [`${number} ${name}`, element];
  });
}
// Returns what a reader has in hand: the element with the focus and its part, opened details, scrolled tables.
function inHand() {
  const focused = document.activeElement;
  const row = focused?.closest("tr[data-href]");
  return {
    // A link to the last price leads elsewhere after the next one: its row and place find it.
    row: row && [row.dataset.href, [...row.querySelectorAll("a[href]")].indexOf(focused)],
    focus: known(REACHED).find(([, element]) => element === focused)?.[0],
    part: focused?.closest("[data-part]")?.dataset.part,
    opened: new Map(known("details").map(([name, details]) => [name, details.open])),
    scrolled: [...document.querySelectorAll(".scroll")].map((box) => [box.scrollLeft, box.scrollTop]),
  };
}
function handBack({ row, focus, part, opened, scrolled }) {
  for (const [name, details] of known("details")) details.open = opened.get(name) ?? details.open;
  document.querySelectorAll(".scroll").forEach((box, place) => box.scrollTo(...(scrolled[place] ?? [0, 0])));
  const is = document.activeElement;
  if (part === undefined || (is && is !== document.body && is.isConnected)) return;
  const inRow = row && rows().find((of) => of.dataset.href === row[0])?.querySelectorAll("a[href]")[row[1]];
  const again = inRow ?? known(REACHED).find(([name]) => name === focus)?.[1];
  const place = again ?? document.querySelector(`[data-part="${CSS.escape(part)}"]`);
  // The next Tab goes on from the part if its element is gone.
  if (place && !again) place.tabIndex = -1;
  place?.focus({ preventScroll: true });
}
function apply() {
  tell();
  if (isBusy() || parts.size === 0) return;
  const isInRow = document.activeElement?.closest("tr.at");
  const hand = inHand();
  for (const [name, html] of parts) {
    const part = document.querySelector(`[data-part="${CSS.escape(name)}"]`);
    if (part) part.innerHTML = html;
  }
  parts.clear();
  reachScrollers();
  handBack(hand);
  mark(isInRow && !document.activeElement?.closest("tr[data-href] a"));
  tell();
}
function received() {
  contact = Date.now();
  lost = null;
}
function follow() {
  if (!live || document.hidden || source) return;
  source = new EventSource(live);
  source.addEventListener("alive", received);
  source.onmessage = (event) => {
    received();
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
    received();
    tell();
  };
  source.onerror = (event) => {
    document.documentElement.classList.remove("live");
    lost ??= contact;
    tell();
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
    document.documentElement.classList.remove("live");
  });
  document.addEventListener("focusin", tell);
  document.addEventListener("focusout", () => setTimeout(apply));
  document.addEventListener("selectionchange", apply);
  addEventListener("pagehide", () => source?.close());
  follow();
  setInterval(tell, 1000);
}

const rows = () => [...document.querySelectorAll("tr[data-href]")];
let at = -1;
let chosen = null;
// The row that was chosen is the one that leads to the same place, wherever it is now.
function mark(isInRow) {
  at = chosen === null ? -1 : rows().findIndex((row) => row.dataset.href === chosen);
  const row = rows()[at];
  row?.classList.add("at");
  if (isInRow) row?.querySelector("a")?.focus({ preventScroll: true });
}
// Who comes back to a list finds the row again from which he left.
const place = `row ${location.pathname}${location.search}`;
addEventListener("pagehide", () => {
  if (chosen !== null) sessionStorage.setItem(place, chosen);
});
document.addEventListener("click", (event) => {
  chosen = event.target.closest("tr[data-href]")?.dataset.href ?? chosen;
});
const left = sessionStorage.getItem(place);
sessionStorage.removeItem(place);
if (left !== null && performance.getEntriesByType("navigation")[0]?.type === "back_forward") {
  chosen = left;
  mark(true);
  rows()[at]?.scrollIntoView({ block: "nearest" });
}
function go(step) {
  const all = rows();
  if (!all.length) return;
  all[at]?.classList.remove("at");
  at = Math.max(0, Math.min(all.length - 1, at + step));
  chosen = all[at].dataset.href;
  all[at].classList.add("at");
  // The link has the focus, so that it is read aloud, and Enter opens it.
  all[at].querySelector("a")?.focus({ preventScroll: true });
  all[at].scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const typing = event.target.matches("input, select, textarea");
  if (event.key === "Escape") {
    if (one("dialog[open]")) return;
    if (typing) return event.target.blur();
    // Back within the console; from its first page, up to the list.
    if (window.navigation ? navigation.canGoBack : history.length > 1) history.back();
    else {
      const list = one("nav a[aria-current]");
      if (list && list.pathname !== location.pathname) list.click();
    }
    return;
  }
  if (typing) return;
  const follow = (selector) => one(selector)?.click();
  const keys = {
    // A page without a filter leads to that of the positions.
    "/": () => one(".filter") ? toFilter() : location.assign(`${document.querySelectorAll("nav a")[1].href}#filter`),
    "?": () => one("#keys").showModal(),
    t: () => { one("#at")?.focus(); one("#at")?.select(); },
    "[": () => follow(".steps a[rel=prev]"),
    "]": () => follow(".steps a[rel=next]"),
    ArrowDown: () => go(1),
    ArrowUp: () => go(-1),
    Enter: () => { if (at >= 0 && event.target === document.body) location.assign(chosen); },
  };
  const page = document.querySelectorAll("nav a")[Number(event.key) - 1];
  const act = keys[event.key] ?? (page && (() => page.click()));
  if (!act) return;
  // Without rows the arrows scroll.
  if (event.key.startsWith("Arrow") && !rows().length) return;
  if (event.key !== "Enter") event.preventDefault();
  act();
});
