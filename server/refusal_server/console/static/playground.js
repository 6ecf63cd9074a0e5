// One message with and without steering, side by side, with the coefficient of every token.

import { byId, call, el, number } from "./dom.js";
import { tokenBar } from "./pictures.js";
import { promptRisks } from "./risks.js";

let policies = [];

export function offer(found) {
  const chosen = byId("with").value;
  policies = found.policies.filter((policy) => policy.mode !== "off");
  byId("with").replaceChildren(...policies.map(({ name, mode, strategy }) =>
    el("option", { value: name }, `${name} (${strategy}, ${mode})`)));
  const names = policies.map((policy) => policy.name);
  byId("with").value = [chosen, found.default, names[0]].find((name) => names.includes(name)) ?? "";
  bounds();
}

function bounds() {
  const policy = policies.find(({ name }) => name === byId("with").value);
  byId("bounds").textContent = policy
    ? `${number(policy.lowest)} to ${number(policy.ceiling)}` : "";
}

const asDataUrl = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.addEventListener("load", () => resolve(reader.result));
  reader.addEventListener("error", () => reject(reader.error));
  reader.readAsDataURL(file);
});

function chosenFiles() {
  const inputs = [...document.querySelectorAll("#trial input[type=file]")];
  return inputs.flatMap((input) => [...input.files].map((file) => ({ kind: input.dataset.kind, file })));
}

const media = (files) =>
  Promise.all(files.map(async ({ kind, file }) => ({ kind, url: await asDataUrl(file) })));

function bars({ tokens, mode }) {
  const most = Math.max(...tokens.map(({ coefficient }) => Math.abs(coefficient)), 1e-9);
  return el("ol", { class: "bars", "aria-label": "Coefficient of every token" },
    ...tokens.map(({ text, coefficient, steered }, place) => {
      const shown = (text ?? String(place + 1)).replaceAll("\n", "↵");
      const label = `${shown}: ${number(coefficient)}`
        + (steered ? "" : mode === "shadow" ? ", measured only" : ", outside the window");
      return el("li", steered ? {} : { class: "unsteered" },
        tokenBar(Math.abs(coefficient) / most, label),
        el("span", { class: "token", "aria-hidden": "true" }, shown));
    }));
}

function measured(side) {
  const facts = [`risk ${number(side.risk)}`, `coefficient ${number(side.coefficient)}`,
    `${side.rows_verified} rows verified`];
  const most = Math.max(...side.tokens.map(({ coefficient }) => Math.abs(coefficient)), 0);
  return [
    el("p", { class: "hint" }, facts.join(", ")),
    bars(side),
    el("p", { class: "hint" }, `Coefficient that shaped each token; the highest bar is ${number(most)}. `
      + "Grey: measured, not applied."
      + (side.omitted ? ` ${side.omitted} more tokens are not in the report.` : "")),
  ];
}

function answer(title, side) {
  const badge = side.error !== undefined
    ? el("span", { class: "badge bad" }, side.code)
    : el("span", { class: side.refused ? "badge refused" : "badge" },
      side.refused ? "refuses" : "answers");
  const content = side.error !== undefined
    ? [el("p", { class: "problem" }, side.error)]
    : [el("p", { class: "answer" }, side.text || "(nothing)"),
      ...(side.tokens.length ? measured(side) : [])];
  return el("article", { class: "card", "aria-label": title },
    el("header", {}, el("h3", {}, title),
      el("span", { class: "hint" }, `${side.policy} (${side.mode})`), badge),
    ...content);
}

async function play(event) {
  event.preventDefault();
  const button = byId("play"), status = byId("playing");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", true);
  status.textContent = "Answering…";
  try {
    const strength = byId("strength").value, files = chosenFiles();
    const found = await call("data/playground", { method: "POST", body: {
      text: byId("message").value,
      media: await media(files),
      policy: byId("with").value,
      strength: strength === "" ? null : Number(strength),
      max_tokens: Number(byId("tokens").value),
    } });
    const plain = found.plain === null
      ? el("p", { class: "card hint" }, "There is no plain answer to compare with: the policy file "
        + "has no policy of mode off.")
      : answer("Plain", found.plain);
    const read = found.steered.gate ? [promptRisks(found.steered.gate, files)] : [];
    byId("along").replaceChildren(...read);
    byId("answers").replaceChildren(answer("Steered", found.steered), plain);
    status.textContent = "Done.";
  } catch (error) {
    status.textContent = "";
    byId("along").replaceChildren();
    byId("answers").replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  } finally {
    button.setAttribute("aria-disabled", false);
  }
}

export function offerTrials() {
  byId("with").addEventListener("change", bounds);
  byId("trial").addEventListener("submit", play);
}
