// A conversation with and without steering, side by side, as it is said, with the coefficient of every token.

import { byId, el, lines, number } from "./dom.js";
import { tokenBar } from "./pictures.js";
import { promptRisks } from "./risks.js";

const TITLES = { steered: "Steered", plain: "Plain" };
let policies = [];
let turns = [];

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

const inputs = () => [...document.querySelectorAll("#trial input[type=file]")];

const chosenFiles = () =>
  inputs().flatMap((input) => [...input.files].map((file) => ({ kind: input.dataset.kind, file })));

const media = (files) =>
  Promise.all(files.map(async ({ kind, file }) => ({ kind, url: await asDataUrl(file) })));

// What was chosen can be seen and heard before it is sent, and in the conversation afterwards.
function player({ kind, file }) {
  const src = URL.createObjectURL(file), label = `${kind}: ${file.name}`;
  if (kind === "image") return el("img", { src, alt: label, class: "medium" });
  return el(kind, { src, controls: "", preload: "metadata", "aria-label": label, class: "medium" });
}

const players = (files) => el("div", { class: "media" }, ...files.map(player));

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

function card(side) {
  const badge = el("span", { class: "badge" }, "answering"), text = el("p", { class: "answer" });
  const about = el("span", { class: "hint" }), more = el("div");
  const node = el("article", { class: "card", "aria-label": TITLES[side], "aria-busy": "true" },
    el("header", {}, el("h3", {}, TITLES[side]), about, badge), text, more);
  const end = (answer) => {
    node.removeAttribute("aria-busy");
    about.textContent = `${answer.policy} (${answer.mode})`;
    if (answer.error !== undefined) {
      badge.className = "badge bad";
      badge.textContent = answer.code;
      more.append(el("p", { class: "problem" }, answer.error));
      return;
    }
    badge.className = answer.refused ? "badge refused" : "badge";
    badge.textContent = answer.refused ? "refuses" : "answers";
    text.textContent = answer.text || "(nothing)";
    if (answer.tokens.length) more.append(...measured(answer));
  };
  return { node, piece: (said) => text.append(said), end };
}

const nothingPlain = () => el("p", { class: "card hint" },
  "There is no plain answer to compare with: the policy file has no policy of mode off.");

function open(text, files) {
  const along = el("div"), answers = el("div", { class: "answers" });
  const node = el("section", { class: "turn", "aria-label": `Turn ${turns.length + 1}` },
    el("div", { class: "card" }, el("p", { class: "answer" }, text), files.length ? players(files) : null),
    along, answers);
  byId("conversation").append(node);
  return { along, answers };
}

async function hear(body, files, place) {
  const cards = {}, answers = {};
  for await (const line of lines("data/playground", body)) {
    if (line.sides) {
      for (const side of line.sides) cards[side] = card(side);
      place.answers.append(...Object.values(cards).map(({ node }) => node));
      if (!cards.plain) place.answers.append(nothingPlain());
    } else if (line.answer) {
      cards[line.side].end(line.answer);
      answers[line.side] = line.answer;
      if (line.side === "steered" && line.answer.gate) place.along.replaceChildren(promptRisks(line.answer.gate, files));
    } else cards[line.side].piece(line.text);
  }
  return answers;
}

async function play(event) {
  event.preventDefault();
  const button = byId("play"), status = byId("playing");
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", true);
  status.textContent = "Answering…";
  const text = byId("message").value, files = chosenFiles(), place = open(text, files);
  try {
    const strength = byId("strength").value, sent = await media(files);
    const answers = await hear({
      text, media: sent, turns,
      policy: byId("with").value,
      strength: strength === "" ? null : Number(strength),
      max_tokens: Number(byId("tokens").value),
    }, files, place);
    const said = (answer) => answer?.text ?? null;
    turns.push({ text, media: sent, steered: said(answers.steered), plain: said(answers.plain) });
    byId("message").value = "";
    for (const input of inputs()) input.value = "";
    byId("chosen").replaceChildren();
    status.textContent = "Done.";
  } catch (error) {
    status.textContent = "";
    place.answers.replaceChildren(el("p", { class: "problem", role: "alert" }, error.message));
  } finally {
    button.setAttribute("aria-disabled", false);
  }
}

function forget() {
  turns = [];
  byId("conversation").replaceChildren();
  byId("playing").textContent = "";
  byId("message").focus();
}

export function offerTrials() {
  byId("with").addEventListener("change", bounds);
  byId("trial").addEventListener("submit", play);
  byId("fresh").addEventListener("click", forget);
  for (const input of inputs()) {
    input.addEventListener("change", () => byId("chosen").replaceChildren(...chosenFiles().map(player)));
  }
}
