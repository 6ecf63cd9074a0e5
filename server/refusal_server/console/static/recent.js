// The last requests and denials, and everything that is known of one of them.

import { byId, el, number, seconds, table } from "./dom.js";

const NOTHING = "Nothing yet.";
const BAD = { refusal: "refused", broken: "bad", error: "bad" };
const COPIED = ["request_id", "version", "key", "tenant"];

const time = (text) => new Date(text).toLocaleTimeString("en-GB");

async function copy(name, value, node) {
  try {
    await navigator.clipboard.writeText(value);
    byId("copied").textContent = `Copied: ${name}.`;
  } catch {
    // Without TLS a browser has no clipboard for pages; the text can be chosen and copied.
    getSelection().selectAllChildren(node);
    byId("copied").textContent = "Chosen; copy it with the keyboard.";
  }
}

function fact(name, value) {
  const text = el("code", {}, value === null || value === "" ? "–" : String(value));
  const parts = [text];
  if (COPIED.includes(name) && value) {
    const button = el("button", { type: "button", class: "small", "aria-label": `Copy ${name.replaceAll("_", " ")}` }, "Copy");
    button.addEventListener("click", () => copy(name.replaceAll("_", " "), value, text));
    parts.push(button);
  }
  return el("div", {}, el("dt", {}, name.replaceAll("_", " ")), el("dd", {}, ...parts));
}

let shown = null;

function detail(entry) {
  shown = entry.request_id;
  byId("detail-facts").replaceChildren(...Object.entries(entry).map(([name, value]) => fact(name, value)));
  byId("copied").textContent = "";
  byId("detail").showModal();
}

// The row may have been drawn anew meanwhile, and with it the button that had the focus.
byId("detail").addEventListener("close", () => {
  document.querySelector(`[aria-label="${CSS.escape(`Details of ${shown}`)}"]`)?.focus();
});

function opener(entry) {
  const button = el("button", { type: "button", class: "small", "aria-label": `Details of ${entry.request_id}` }, "Details");
  button.addEventListener("click", () => detail(entry));
  return button;
}

// The place that somebody reads, and the button that has the focus, stay where they are.
function put(id, head, entries, row) {
  const box = byId(id);
  const focused = box.contains(document.activeElement) ? document.activeElement.ariaLabel : null;
  const { scrollLeft, scrollTop } = box;
  box.replaceChildren(entries.length ? table(head, entries.map(row), 99) : NOTHING);
  box.scrollTo(scrollLeft, scrollTop);
  if (focused) box.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}

export function requests(entries) {
  const outcome = (entry) =>
    el("span", { class: `badge ${BAD[entry.outcome] ?? ""}` }, entry.error ?? entry.outcome);
  const head = ["time", "outcome", "modality", "policy", "mode", "key", "risk", "coefficient", "rows verified",
    "time taken", "request", "more"];
  put("recent", head, entries, (entry) => [
    time(entry.time),
    outcome(entry),
    entry.modality,
    entry.arm === null ? entry.policy : `${entry.policy} (${entry.arm})`,
    entry.mode,
    entry.key ?? "",
    number(entry.risk),
    number(entry.coefficient),
    entry.rows_verified,
    seconds(entry.seconds),
    el("code", {}, entry.request_id),
    opener(entry),
  ]);
}

export function denials(entries) {
  const head = ["time", "reason", "code", "field", "policy", "key", "tenant", "request", "more"];
  put("denied", head, entries, (entry) => [
    time(entry.time),
    el("span", { class: "badge bad" }, entry.reason),
    `${entry.status} ${entry.code}`,
    entry.param ?? "",
    entry.policy ?? "",
    entry.key ?? "",
    entry.tenant ?? "",
    el("code", {}, entry.request_id),
    opener(entry),
  ]);
}
