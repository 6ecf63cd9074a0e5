// Building blocks. Texts only ever become text nodes, never markup.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

export const byId = (id) => document.getElementById(id);

export const el = (tag, attributes = {}, ...children) =>
  fill(document.createElement(tag), attributes, children);

export const svg = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), attributes, children);

export function table(head, rows, numbersFrom = 1) {
  const kind = (column) => (column >= numbersFrom ? { class: "number" } : {});
  const cells = (row) =>
    row.map((cell, column) =>
      column === 0
        ? el("th", { scope: "row" }, String(cell))
        : el("td", kind(column), cell instanceof Node ? cell : String(cell)));
  return el("table", {},
    el("thead", {}, el("tr", {},
      ...head.map((name, column) => el("th", { scope: "col", ...kind(column) }, name)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...cells(row)))));
}

export const percent = (share) => (share == null ? "–" : `${(100 * share).toFixed(1)} %`);

export const number = (value) =>
  value == null ? "–" : Number(value.toPrecision(3)).toLocaleString("en");

export const seconds = (value) => {
  if (value === null) return "–";
  return value < 1 ? `${Math.round(1000 * value)} ms` : `${number(value)} s`;
};

export const clock = (seconds) =>
  new Date(1000 * seconds).toLocaleTimeString("en-GB");

export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

const token = document.querySelector("meta[name=csrf-token]").content;

let leaving = false;

// Goes to the login, once; whoever waits for an answer waits for the next page.
export function leave() {
  if (!leaving) location.assign("/console/login");
  leaving = true;
  return new Promise(() => {});
}

async function send(path, { method = "GET", body = null, version = null } = {}) {
  const headers = {};
  if (method !== "GET") headers["x-csrf-token"] = token;
  if (body !== null) headers["content-type"] = "application/json";
  if (version !== null) headers["if-match"] = `"${version}"`;
  const sent = body === null ? undefined : JSON.stringify(body);
  const answer = await fetch(`/console/${path}`, { method, headers, body: sent });
  if (answer.ok) return answer;
  if (answer.status === 401) return leave();
  const { error } = await answer.json();
  throw new Refused(answer.status, error.code, error.message);
}

export async function call(path, options = {}) {
  const answer = await send(path, options);
  return answer.status === 204 ? null : answer.json();
}

// The lines of JSON of an answer, each as soon as it has come.
export async function* lines(path, body) {
  const answer = await send(path, { method: "POST", body });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    for (const part of parts) yield JSON.parse(part);
  }
}
