// Risk over a picture's grid and along time, each with a sentence for those who do not see it.
// The size of a mark says what its colour says.

import { el, number, svg } from "./dom.js";

const CELL = 20;

const placeOf = (values) => values.indexOf(Math.max(...values));

// A canvas, since the page's policy lets no image in from elsewhere than this server.
function under(file, width, height) {
  const canvas = el("canvas", { width: 480, height: Math.round(480 * height / width), "aria-hidden": true });
  if (file) {
    createImageBitmap(file)
      .then((found) => {
        canvas.height = Math.round(canvas.width * found.height / found.width);
        canvas.getContext("2d").drawImage(found, 0, 0, canvas.width, canvas.height);
      })
      .catch(() => {});
  }
  return canvas;
}

export function riskGrid(name, { rows, columns }, values, file) {
  const most = placeOf(values), row = Math.floor(most / columns), column = most % columns;
  const title = `${name}: ${rows} rows, ${columns} columns; highest risk ${number(values[most])} `
    + `in row ${row + 1}, column ${column + 1}`;
  const marks = values.map((risk, place) => {
    const x = (place % columns + 0.5) * CELL, y = (Math.floor(place / columns) + 0.5) * CELL;
    return svg("circle", { cx: x, cy: y, r: 1 + 8 * risk, class: "risk-mark" },
      svg("title", {}, `Row ${Math.floor(place / columns) + 1}, column ${place % columns + 1}: `
        + `risk ${number(risk)}`));
  });
  const frame = svg("rect", { x: column * CELL + 1, y: row * CELL + 1, width: CELL - 2, height: CELL - 2,
    class: "risk-frame" });
  const grid = svg("svg", { viewBox: `0 0 ${columns * CELL} ${rows * CELL}`, role: "img",
    "aria-label": title, preserveAspectRatio: "none" }, ...marks, frame);
  return { title, node: el("div", { class: "on-picture" }, under(file, columns, rows), grid) };
}

// A video's frames are told by their highest token; without a grid every token stands for itself.
function steps({ grid, seconds, modality }, values) {
  const count = modality === "video" && grid ? grid.frames : values.length;
  const size = values.length / count;
  const bars = Array.from({ length: count }, (_, step) =>
    Math.max(...values.slice(step * size, (step + 1) * size)));
  const unit = modality === "video" && grid ? "frame" : "token";
  const when = (step) => seconds === null
    ? `${unit} ${step + 1}` : `${number(step * seconds / count)} s`;
  return { bars, when, end: seconds === null ? `${unit} ${count}` : `${number(seconds)} s` };
}

export function riskLine(name, medium, values) {
  const width = 480, height = 90, bottom = 66;
  const { bars, when, end } = steps(medium, values), most = placeOf(bars);
  const title = `${name}: highest risk ${number(bars[most])} at ${when(most)}`;
  const step = width / bars.length, gap = Math.min(step / 5, 2);
  const marks = bars.map((risk, place) => {
    const tall = Math.max(52 * risk, 1);
    return svg("rect", { x: place * step, y: bottom - tall, width: step - gap, height: tall,
      class: place === most ? "risk-bar most" : "risk-bar" },
      svg("title", {}, `${when(place)}: risk ${number(risk)}`));
  });
  const middle = Math.min(Math.max((most + 0.5) * step, 6), width - 6);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": title },
    ...marks, svg("line", { x1: 0, x2: width, y1: bottom, y2: bottom, class: "grid" }),
    svg("text", { x: middle, y: bottom - 54, "text-anchor": "middle", class: "strong" }, "▼"),
    svg("text", { x: 0, y: 82 }, medium.seconds === null ? when(0) : "0 s"),
    svg("text", { x: width, y: 82, "text-anchor": "end" }, end));
  return { title, node };
}
