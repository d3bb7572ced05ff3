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

const slider = one(".slider input[type=range]");
if (slider) {
  const shown = one(".slider output");
  slider.addEventListener("input", () => {
    shown.textContent = new Date(Number(slider.value)).toISOString().replace("T", " ").replace("Z", " UTC");
  });
  slider.addEventListener("change", () => slider.form.requestSubmit());
}

for (const select of document.querySelectorAll(".filters select, .filters input[type=checkbox]")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
for (const form of document.querySelectorAll("form[method=get]")) {
  // An address says only what is set.
  form.addEventListener("submit", () => {
    for (const field of form.elements) if (field.name && !field.value) field.disabled = true;
  });
}

if (one(".playing")) {
  const next = one(".steps a[rel=next]");
  setTimeout(() => {
    if (!next) return location.assign(one(".playing").href);
    const to = new URL(next.href);
    to.searchParams.set("play", "1");
    location.replace(to);
  }, 1000);
}

// A page that shows the end of a journal follows it: it takes over what has changed, and nothing while somebody types.
const main = one("main");
async function follow() {
  try {
    const { last, entries } = await (await fetch(main.dataset.version)).json();
    const isBusy = document.hidden || document.activeElement?.matches("input, select, textarea") || !getSelection().isCollapsed;
    if (`${last}/${entries}` !== main.dataset.follows && !isBusy) {
      const page = new DOMParser().parseFromString(await (await fetch(location.href)).text(), "text/html");
      for (const part of ["main", ".time", ".chips"]) {
        const [old, fresh] = [one(part), page.querySelector(part)];
        if (old && fresh && old.innerHTML !== fresh.innerHTML) old.innerHTML = fresh.innerHTML;
      }
      main.dataset.follows = page.querySelector("main").dataset.follows;
    }
  } catch { /* The console has ended, or will answer again. */ }
  setTimeout(follow, 1000);
}
if (main.dataset.follows) setTimeout(follow, 1000);

const rows = () => [...document.querySelectorAll("tr[data-href]")];
let at = -1;
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
