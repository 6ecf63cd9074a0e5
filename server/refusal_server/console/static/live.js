// Figures and recent requests, fetched again and again while the page is seen.

import { byId, call, clock, el, number, percent, table } from "./dom.js";
import { bucketNames, course, distributions, shares } from "./pictures.js";
import { noticeVersion } from "./policy.js";

const EVERY = 2000;
const NOTHING = "Nothing yet.";

const show = (id, node) => byId(id).replaceChildren(node);
const widthOf = (id) => Math.max(byId(id).clientWidth, 200);

function tiles({ minute, totals }) {
  const each = [
    ["refused, last minute", percent(minute.share), false],
    ["requests, last minute", number(minute.requests), false],
    ["requests since start", number(totals.requests), false],
    ["refused since start", number(totals.refusals), false],
    ["errors", number(totals.errors), totals.errors > 0],
    ["without proof of steering", number(totals.failures), totals.failures > 0],
    ["sent without proof", number(totals.fail_open), totals.fail_open > 0],
    ["denied asks", number(totals.denied), false],
  ];
  byId("tiles").replaceChildren(...each.map(([name, value, alarm]) =>
    el("div", alarm ? { class: "alarm" } : {}, el("dt", {}, name), el("dd", {}, value))));
}

function ready(reason) {
  const badge = byId("ready");
  badge.textContent = reason === null ? "ready" : reason.replaceAll("_", " ");
  badge.className = `badge ${reason === null ? "good" : "bad"}`;
}

function distribution(modalities, measure, whole) {
  const measured = modalities.filter((modality) => modality[measure].mean !== null);
  if (!measured.length) return show(measure, NOTHING);
  show(measure, distributions(modalities, measure, whole, widthOf(measure)));
  const names = bucketNames(measured[0][measure], whole);
  show(`${measure}-table`, table(["modality", "mean", ...names], measured.map((modality) =>
    [modality.name, number(modality[measure].mean), ...modality[measure].counts])));
}

function figures(found) {
  ready(found.not_ready);
  byId("now").textContent = found.version;
  noticeVersion(found.version);
  tiles(found);
  show("course", course(found.timeline, widthOf("course")));
  const minutes = found.timeline.filter((_, place, all) => (all.length - 1 - place) % 15 === 0);
  show("course-table", table(["minute until", "requests", "judged", "refused"],
    minutes.map(({ at, requests, judged, share }) => [clock(at), requests, judged, percent(share)])));
  const { modalities } = found;
  show("modalities", modalities.length ? shares(modalities, widthOf("modalities")) : NOTHING);
  show("modalities-table", table(["modality", "requests", "judged", "refused"],
    modalities.map(({ name, requests, judged, refusals }) => [name, requests, judged, refusals])));
  distribution(modalities, "risk", 1);
  distribution(modalities, "coefficient", null);
}

function recent({ requests }) {
  if (!requests.length) return show("recent", NOTHING);
  const outcome = (name) =>
    el("span", { class: `badge ${{ refusal: "refused", broken: "bad", error: "bad" }[name] ?? ""}` }, name);
  const head = ["time", "outcome", "modality", "policy", "mode", "key", "risk", "coefficient", "rows verified",
    "seconds", "request"];
  const rows = requests.map((request) => [
    new Date(request.time).toLocaleTimeString("en-GB"),
    outcome(request.outcome),
    request.modality,
    request.arm === null ? request.policy : `${request.policy} (${request.arm})`,
    request.mode,
    request.key ?? "",
    number(request.risk),
    number(request.coefficient),
    request.rows_verified,
    request.seconds.toFixed(2),
    request.request_id,
  ]);
  const box = byId("recent");
  const place = box.scrollLeft;
  show("recent", table(head, rows, 99));
  box.scrollLeft = place;
}

async function look() {
  const trouble = byId("trouble");
  try {
    const [found, requests] = await Promise.all([call("data/live"), call("data/recent")]);
    figures(found);
    recent(requests);
    trouble.hidden = true;
  } catch (error) {
    trouble.textContent = `The server does not answer: ${error.message}`;
    trouble.hidden = false;
    ready("unreachable");
  }
}

export async function watch() {
  if (!document.hidden) await look();
  setTimeout(watch, EVERY);
}
