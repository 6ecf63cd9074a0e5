// What the gate has read of the prompt: a colour and a bar for every token, a grid over a picture,
// a line over time for audio and video.

import { el, number } from "./dom.js";
import { riskGrid, riskLine } from "./risk_pictures.js";

const LEVELS = 5;

export const level = (risk) => Math.min(Math.floor(risk * LEVELS), LEVELS - 1);

const shown = (text) => text.replaceAll("\n", "↵").replaceAll("\t", "⇥");

// One focus stop for all tokens: arrow keys move it, as in a toolbar.
function walk(list, tell, leave) {
  const items = [...list.querySelectorAll("[tabindex]")];
  let pointed = false;
  const go = (item) => {
    for (const other of items) other.setAttribute("tabindex", other === item ? 0 : -1);
    pointed = false;
    tell(item.dataset.says);
  };
  list.addEventListener("focusin", (event) => go(event.target));
  // A pointer that rests says nothing when the page moves under it.
  list.addEventListener("mousemove", ({ target, movementX, movementY }) => {
    if (!target.dataset.says || !(movementX || movementY)) return;
    pointed = true;
    tell(target.dataset.says);
  });
  list.addEventListener("mouseleave", () => {
    if (pointed) leave();
  });
  list.addEventListener("keydown", (event) => {
    const at = items.indexOf(event.target);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[event.key];
    if (to === undefined || !items[to]) return;
    event.preventDefault();
    items[to].focus();
  });
}

function tokens({ texts, risks, first, stride }, most) {
  const places = risks.map((_, place) => place).filter((place) => texts[place] !== null);
  const start = places.includes(most) ? most : places[0];
  return places.map((place) => {
    const risk = risks[place], position = first + place * stride;
    const says = `Token ${position}, "${shown(texts[place])}": risk ${number(risk)}`
      + (place === most ? ", the highest" : "");
    const kind = `token risk-${level(risk)}${place === most ? " most" : ""}`;
    return el("li", { class: kind, tabindex: place === start ? 0 : -1, "data-says": says },
      shown(texts[place]) || "·", el("span", { class: "unseen" }, ` risk ${number(risk)}`));
  });
}

function legend(threshold) {
  const steps = Array.from({ length: LEVELS }, (_, step) =>
    el("li", { class: `token risk-${step}` }, `${number(step / LEVELS)}–${number((step + 1) / LEVELS)}`));
  return el("div", { class: "risk-legend" },
    el("span", { class: "hint" }, "Risk"),
    el("ul", { "aria-label": "Colours of risk" }, ...steps),
    el("span", { class: "hint" }, `A prompt at the gate's threshold has ${number(threshold)}; one token above it need not open the gate. `
      + "A higher bar is a higher risk; the frame marks the highest."));
}

function media(along, files) {
  const { risks, first, stride } = along, counts = {};
  return along.media.map((medium) => {
    const { modality } = medium, nth = counts[modality] = (counts[modality] ?? 0) + 1;
    const values = Array.from({ length: medium.count }, (_, place) =>
      risks[Math.floor((medium.first - first + place) / stride)]);
    const file = files.filter(({ kind }) => kind === modality)[nth - 1]?.file;
    const name = `${modality} ${nth}`;
    const drawn = modality === "image" && medium.grid
      ? riskGrid(name, medium.grid, values, file) : riskLine(name, medium, values);
    return el("figure", { class: "risk-medium" }, el("figcaption", {}, drawn.title), drawn.node);
  });
}

function highest(gate) {
  const what = gate.modality === "text" ? `"${shown(gate.text ?? "")}"` : gate.modality ?? "unknown";
  return `Highest: token ${gate.position}, ${what}, risk ${number(gate.risk)}. Score of the prompt `
    + `${number(gate.score)}, threshold ${number(gate.threshold)}, gate open by ${number(gate.opening)}.`;
}

export function promptRisks(gate, files) {
  const along = gate.token_risks, says = el("p", { class: "risk-says", role: "status" }, highest(gate));
  const content = [el("figcaption", {}, "Risk along the prompt")];
  if (along?.texts) {
    const most = Math.floor((gate.position - along.first) / along.stride);
    const list = el("ol", { class: "risks", "aria-label": "Risk of every token of the prompt" },
      ...tokens(along, most));
    walk(list, (text) => { says.textContent = text; }, () => { says.textContent = highest(gate); });
    content.push(list, legend(along.threshold));
    if (along.stride > 1) {
      content.push(el("p", { class: "hint" }, `Each step is the highest of ${along.stride} tokens in a row.`));
    }
  }
  const drawn = along?.texts ? media(along, files) : [];
  return el("figure", { class: "card", id: "prompt-risks" }, ...content, says,
    drawn.length ? el("div", { class: "risk-media" }, ...drawn) : null);
}
