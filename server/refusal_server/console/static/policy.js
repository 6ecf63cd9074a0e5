// The policy editor: check, apply, load, roll back.

import { byId, call, el } from "./dom.js";

const source = byId("source");
const buttons = ["check", "apply", "reload", "rollback"].map(byId);
let loaded = null;
let working = false;
const listeners = [];

export const onPolicy = (listener) => listeners.push(listener);

function say(kind, text) {
  byId("verdict").replaceChildren(el("p", { class: kind }, text));
}

function clear() {
  byId("verdict").replaceChildren();
  byId("problems").replaceChildren();
  byId("diff").hidden = true;
  byId("weaker").hidden = true;
}

function inForce(found) {
  loaded = found;
  byId("version").textContent = found.version;
  byId("file").textContent = found.file;
  byId("history").textContent = found.history.length
    ? `before: ${found.history.join(", ")}` : "no earlier version is kept";
  for (const listener of listeners) listener(found);
  noteUnsaved();
}

const unsaved = () => loaded !== null && source.value !== loaded.source;

function noteUnsaved() {
  byId("unsaved").hidden = !unsaved();
}

// Resolves to whether the operator wants it; Escape and the other button mean no.
function ask(title, yes, ...content) {
  const dialog = byId("confirm");
  byId("confirm-title").textContent = title;
  byId("confirm-text").replaceChildren(...content);
  byId("confirm-yes").textContent = yes;
  dialog.returnValue = "no";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

const code = (text) => el("code", {}, text);

function goTo(line) {
  const lines = source.value.split("\n");
  const start = lines.slice(0, line - 1).join("\n").length + (line > 1 ? 1 : 0);
  source.focus();
  source.setSelectionRange(start, start + (lines[line - 1] ?? "").length);
  const height = parseFloat(getComputedStyle(source).lineHeight);
  source.scrollTop = Math.max((line - 4) * height, 0);
}

function showProblems(problems) {
  byId("problems").replaceChildren(...problems.map(({ line, message }) => {
    if (line === null) return el("li", {}, message);
    const go = el("button", { type: "button" }, `Line ${line}`);
    go.addEventListener("click", () => goTo(line));
    return el("li", {}, go, message);
  }));
}

function showDiff(lines) {
  const box = byId("diff");
  box.hidden = lines.length === 0;
  box.replaceChildren(...lines.map(({ kind, text }) => el("div", { class: kind }, text || " ")));
}

async function check() {
  clear();
  const found = await call("data/policy/check", { method: "POST", body: { text: source.value } });
  showProblems(found.problems);
  showDiff(found.diff);
  const wrong = found.problems.length;
  if (wrong) say("problem", `${wrong} ${wrong === 1 ? "problem" : "problems"}. Nothing was applied.`);
  else if (found.version === found.replaces) say("good-news", "Sound; the same policy as in force.");
  else {
    const bundles = found.bundles_added.length + found.bundles_removed.length;
    say("good-news", `Sound; it would be version ${found.version}`
      + (bundles ? `, with ${found.bundles_added.length} bundles more and `
        + `${found.bundles_removed.length} fewer.` : ", with the same bundles."));
  }
  showWeaker(found.weakens);
  return found;
}

function showWeaker(weakens) {
  byId("weaker").hidden = weakens.length === 0;
  byId("weaker").replaceChildren("This may refuse less:",
    el("ul", {}, ...weakens.map((sentence) => el("li", {}, sentence))));
}

async function apply() {
  const found = await check();
  if (found.problems.length) return;
  const weaker = found.weakens.length
    ? [el("p", { class: "problem" }, "This may refuse less:"),
      el("ul", {}, ...found.weakens.map((sentence) => el("li", {}, sentence)))]
    : [el("p", {}, "Nothing in it is known to refuse less.")];
  if (!(await ask("Apply this policy?", "Apply", el("p", {}, "Every rank goes from ", code(found.replaces), " to ",
    code(found.version), ". The version that is left is kept, and Roll back returns to it."), ...weaker))) return;
  say("hint", "Waiting for every rank…");
  try {
    const body = { text: source.value };
    inForce(await call("data/policy", { method: "PUT", body, version: loaded.version }));
  } catch (error) {
    if (error.status === 412) return stale();
    throw error;
  }
  clear();
  const left = loaded.history[0];
  say("good-news", `Version ${loaded.version} is in force on every rank.`
    + (left ? ` Roll back returns to ${left}.` : ""));
}

async function stale() {
  const before = loaded.version;
  inForce(await call("data/policy"));
  say("problem", `Nothing was applied: somebody else has replaced ${before} by ${loaded.version}. `
    + "Below is what your text would change now. Apply again to do so, or load what is in force.");
  const found = await call("data/policy/check", { method: "POST", body: { text: source.value } });
  showDiff(found.diff);
  showWeaker(found.weakens);
}

async function load() {
  if (unsaved() && !(await ask("Throw your text away?", "Throw away",
    el("p", {}, "It was not applied. What is in force takes its place.")))) return;
  clear();
  inForce(await call("data/policy"));
  source.value = loaded.source;
  noteUnsaved();
}

async function rollBack() {
  if (loaded.history.length === 0) return;
  const text = [el("p", {}, "Every rank returns from ", code(loaded.version), " to ", code(loaded.history[0]),
    ", and the policy file with it.")];
  if (unsaved()) text.push(el("p", { class: "problem" }, "The text below was not applied, and is lost."));
  if (!(await ask("Roll back the policy?", "Roll back", ...text))) return;
  clear();
  const version = loaded.version;
  inForce(await call("data/policy/rollback", { method: "POST", version }));
  source.value = loaded.source;
  noteUnsaved();
  say("good-news", `Rolled back: version ${loaded.version} is in force on every rank.`);
}

// The figures tell when the file was changed elsewhere; an unsaved text is never thrown away.
export function noticeVersion(version) {
  if (working || loaded === null) return;
  const newer = byId("newer");
  newer.hidden = version === loaded.version;
  if (!newer.hidden) {
    newer.textContent = `Version ${version} has come into force; the text below was loaded with `
      + `${loaded.version}.`;
  }
}

// A button that is disabled would lose the keyboard's focus.
function mark() {
  for (const button of buttons) button.setAttribute("aria-disabled", working);
  if (!loaded || loaded.history.length === 0) byId("rollback").setAttribute("aria-disabled", true);
}

async function busy(work) {
  if (working) return;
  working = true;
  mark();
  byId("newer").hidden = true;
  try {
    await work();
  } catch (error) {
    say("problem", error.message);
  } finally {
    working = false;
    mark();
  }
}

export async function edit() {
  byId("check").addEventListener("click", () => busy(check));
  byId("apply").addEventListener("click", () => busy(apply));
  byId("reload").addEventListener("click", () => busy(load));
  byId("rollback").addEventListener("click", () => busy(rollBack));
  source.addEventListener("input", noteUnsaved);
  addEventListener("beforeunload", (event) => {
    if (unsaved()) event.preventDefault();
  });
  await busy(load);
}
