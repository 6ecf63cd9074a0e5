// The figures of a stretch of time, fetched again and again while the page is seen and not paused.

import { byId, call, clock, el, number, percent, seconds, table } from "./dom.js";
import { bars, curves, bucketNames, distributions } from "./pictures.js";
import { noticeVersion } from "./policy.js";
import { denials, requests } from "./recent.js";

const EVERY = 2000;
const NOTHING = "Nothing in this time.";
const MODES = ["enforce", "shadow", "off"];
let paused = false;

const show = (id, node) => byId(id).replaceChildren(node);
const widthOf = (id) => Math.max(byId(id).clientWidth, 200);
const filters = () => [...document.querySelectorAll("[data-filter]")];

function query() {
  const chosen = new URLSearchParams({ range: byId("range").value });
  for (const select of filters()) if (select.value) chosen.set(select.dataset.filter, select.value);
  return chosen;
}

function offer(choices) {
  for (const select of filters()) {
    const values = ["", ...choices[select.dataset.filter]];
    if (select.value && !values.includes(select.value)) values.push(select.value);
    const known = [...select.options].map((option) => option.value);
    if (values.join("\n") === known.join("\n")) continue;
    const chosen = select.value;
    select.replaceChildren(...values.map((value) => el("option", { value }, value || "all")));
    select.value = chosen;
  }
}

function tiles({ minute, window, since_start: whole, range }) {
  const each = [
    ["requests, last minute", number(minute.requests), false],
    [`requests, ${range}`, number(window.requests), false],
    [`errors, ${range}`, number(window.errors), window.errors > 0],
    [`callers who left, ${range}`, number(window.aborted), false],
    [`denied, ${range}`, number(window.denied), false],
    ["requests since start", number(whole.requests), false],
    ["without proof of steering", number(whole.failures), whole.failures > 0],
    ["sent without proof", number(whole.fail_open), whole.fail_open > 0],
  ];
  byId("tiles").replaceChildren(...each.map(([name, value, alarm]) =>
    el("div", alarm ? { class: "alarm" } : {}, el("dt", {}, name), el("dd", {}, value))));
}

function ready(reason) {
  const badge = byId("ready");
  badge.textContent = reason === null ? "ready" : reason.replaceAll("_", " ");
  badge.className = `badge ${reason === null ? "good" : "bad"}`;
}

function distribution(id, found, whole) {
  if (!found.length) {
    show(`${id}-table`, NOTHING);
    return show(id, NOTHING);
  }
  show(id, distributions(found, whole, widthOf(id)));
  const names = bucketNames(found[0], whole);
  show(`${id}-table`, table(["strategy", "mean", ...names], found.map((each) =>
    [each.name, number(each.mean), ...each.counts])));
}

function course({ course: points, queue }) {
  const modes = MODES.filter((mode) => points.some((point) => point.shares[mode] != null));
  const shares = modes.map((mode) => ({ name: mode, values: points.map(({ shares }) => shares[mode] ?? null) }));
  const times = points.map(({ at }) => at);
  show("shares", modes.length ? curves(times, shares, widthOf("shares"), 1, percent) : NOTHING);
  show("shares-table", table(["minute until", ...modes], points.map(({ at, shares: each }) =>
    [clock(at), ...modes.map((mode) => percent(each[mode] ?? null))])));
  const rates = ["requests", "errors"].map((name) => ({ name, values: points.map((point) => point[name]) }));
  show("rates", points.length ? curves(times, rates, widthOf("rates"), null, number) : NOTHING);
  show("rates-table", table(["minute until", "requests", "errors"], points.map(({ at, requests: count, errors }) =>
    [clock(at), number(count), number(errors)])));
  const lengths = ["running", "waiting"].map((name) => ({ name, values: queue.map((point) => point[name]) }));
  const when = queue.map(({ at }) => at);
  show("queue", queue.length ? curves(when, lengths, widthOf("queue"), null, number) : "The engine tells nothing.");
  show("queue-table", table(["time", "running", "waiting", "KV cache"], queue.map((each) =>
    [clock(each.at), each.running, each.waiting, percent(each.cache)])));
}

function tables(found) {
  const none = (rows, head, row, from) => rows.length ? table(head, rows.map(row), from) : NOTHING;
  show("groups", none(found.groups,
    ["policy", "strategy", "mode", "requests", "judged", "refused", "errors", "mean coefficient", "mean dose", "mean risk"],
    (each) => [each.policy, each.strategy, each.mode, each.requests, each.judged, percent(each.share), each.errors,
      number(each.coefficient), percent(each.dose), number(each.risk)], 3));
  show("http", none(found.http, ["route", "status", "requests"],
    ({ route, status, count }) => [route, status, count]));
  show("reasons", none(found.denied, ["reason", "tenant", "requests"],
    ({ reason, tenant, count }) => [reason, tenant, count], 2));
}

function figures(found) {
  ready(found.not_ready);
  byId("now").textContent = found.version;
  noticeVersion(found.version);
  offer(found.choices);
  byId("span").textContent = `${clock(found.at - found.seconds)} to ${clock(found.at)}. `
    + "Counts of errors without a policy (HTTP, denied) are of all requests.";
  tiles(found);
  course(found);
  tables(found);
  const { modalities, latencies } = found;
  show("modalities", modalities.length ? bars(modalities.map(({ modality, mode, judged, refusals, share }) => ({
    name: `${modality}, ${mode}`, share: share ?? 0,
    says: judged ? `${refusals} of ${judged} (${percent(share)})` : "none judged" })), widthOf("modalities")) : NOTHING);
  show("modalities-table", table(["modality", "mode", "requests", "judged", "refused"], modalities.map((each) =>
    [each.modality, each.mode, each.requests, each.judged, each.refusals]), 2));
  const slowest = Math.max(...latencies.map(({ p95 }) => p95), 1e-9);
  show("latencies", latencies.length ? bars(latencies.map(({ policy, mode, arm, median, p95 }) => ({
    name: `${policy}, ${mode}${arm === "none" ? "" : `, ${arm}`}`, share: p95 / slowest,
    says: `${seconds(median)}, 95 %: ${seconds(p95)}` })), widthOf("latencies")) : NOTHING);
  show("latencies-table", table(["policy", "mode", "side", "answers", "median", "95 %", "first token, 95 %"],
    latencies.map((each) => [each.policy, each.mode, each.arm, each.count, seconds(each.median), seconds(each.p95),
      seconds(each.first)]), 3));
  distribution("risks", found.risks, 1);
  distribution("coefficients", found.coefficients, null);
}

async function look() {
  const trouble = byId("trouble");
  try {
    const [found, recent] = await Promise.all([call(`data/live?${query()}`), call("data/recent")]);
    if (paused) return;
    figures(found);
    requests(recent.requests);
    denials(recent.denied);
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `The server does not answer: ${error.message}`;
    trouble.hidden = false;
    ready("unreachable");
  }
}

function pause() {
  paused = !paused;
  byId("pause").textContent = paused ? "Go on" : "Pause";
  byId("pause").setAttribute("aria-pressed", paused);
  byId("span").textContent = paused ? "Paused: nothing on this page moves until you go on." : "";
  if (!paused) look();
}

async function again() {
  if (!document.hidden && !paused) await look();
  setTimeout(again, EVERY);
}

export async function watch() {
  byId("pause").addEventListener("click", pause);
  byId("filters").addEventListener("change", () => { if (!paused) look(); });
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  await again();
}
