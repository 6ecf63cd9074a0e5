// The figures as SVG, each with a sentence for those who do not see it.

import { clock, number, svg } from "./dom.js";

const picture = (width, height, label, ...children) =>
  svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label }, ...children);

const write = (x, y, text, attributes = {}) => svg("text", { x, y, ...attributes }, text);

const LINES = ["first", "second", "third"];

// Lines over time, each with a name at its end; `most` is the top of the scale where there is one.
export function curves(times, lines, width, most, say) {
  const height = 170, left = 44, right = width - 12, top = 26, bottom = 142;
  const highest = most ?? Math.max(...lines.flatMap(({ values }) => values), 1);
  const first = times[0], span = Math.max(times.at(-1) - first, 1);
  const x = (place) => left + ((times[place] - first) / span) * (right - left);
  const y = (value) => bottom - (value / highest) * (bottom - top);
  const grid = [0, 0.5, 1].flatMap((share) => [
    svg("line", { x1: left, x2: right, y1: y(share * highest), y2: y(share * highest), class: "grid" }),
    write(left - 8, y(share * highest) + 4, most === 1 ? `${100 * share}%` : number(share * highest),
      { "text-anchor": "end" }),
  ]);
  const drawn = lines.flatMap(({ name, values }, line) => {
    let path = "", drawing = false;
    values.forEach((value, place) => {
      if (value !== null) path += `${drawing ? "L" : "M"}${x(place).toFixed(1)} ${y(value).toFixed(1)}`;
      drawing = value !== null;
    });
    const last = values.findLastIndex((value) => value !== null);
    const key = left + line * Math.min(130, (right - left) / lines.length);
    return [
      svg("path", { d: path, class: `curve ${LINES[line]}` }),
      last < 0 ? null : svg("circle", { cx: x(last), cy: y(values[last]), r: 4, class: `dot ${LINES[line]}` }),
      svg("line", { x1: key, x2: key + 18, y1: 9, y2: 9, class: `curve ${LINES[line]}` }),
      write(key + 24, 13, name),
    ];
  });
  const label = lines.map(({ name, values }) => {
    const last = values.at(-1);
    return `${name}: ${last === null ? "none" : say(last)}`;
  }).join("; ");
  return picture(width, height, `Now ${label}`, ...grid, ...drawn.filter((node) => node !== null),
    write(left, 162, clock(first)),
    write(right, 162, clock(times.at(-1)), { "text-anchor": "end" }));
}

// A bar for each entry, with its name above and what it says at the other end, or below where both
// do not fit into a line.
export function bars(entries, width) {
  const letter = 6.8;
  const narrow = entries.some(({ name, says }) => (name.length + says.length + 2) * letter > width);
  const row = narrow ? 60 : 44, low = narrow ? 16 : 0, label = entries.map(({ name, says }) => `${name}: ${says}`).join("; ");
  const drawn = entries.flatMap(({ name, share, says }, place) => [
    write(0, place * row + 14, name, { class: "strong" }),
    write(width, place * row + 14 + low, says, { "text-anchor": "end" }),
    svg("rect", { x: 0, y: place * row + 21 + low, width, height: 10, rx: 2, class: "track" }),
    svg("rect", { x: 0, y: place * row + 21 + low, width: width * share, height: 10, rx: 2, class: "refuse" }),
  ]);
  return picture(width, Math.max(entries.length * row - 8, 1), label, ...drawn);
}

export function bucketNames({ edges, counts }, whole) {
  return counts.map((_, place) => {
    if (place < edges.length) return `≤ ${number(edges[place])}`;
    return whole === null ? `> ${number(edges.at(-1))}` : `≤ ${whole}`;
  });
}

export function distributions(measured, whole, width) {
  const row = 92, bar = 48;
  const parts = measured.flatMap(({ name, edges, counts, mean }, place) => {
    const names = bucketNames({ edges, counts }, whole);
    const most = Math.max(...counts), step = width / counts.length, bottom = place * row + 20 + bar;
    const columns = counts.map((count, column) => {
      const height = count ? Math.max((bar * count) / most, 1.5) : 0;
      return svg("rect", { x: column * step + 1, y: bottom - height, width: step - 2, height,
        class: "measure" }, svg("title", {}, `${names[column]}: ${count}`));
    });
    const middle = Math.floor(edges.length / 2);
    return [
      write(0, place * row + 12, name, { class: "strong" }),
      write(width, place * row + 12, `mean ${number(mean)}`, { "text-anchor": "end" }),
      ...columns,
      svg("line", { x1: 0, x2: width, y1: bottom, y2: bottom, class: "grid" }),
      write(0, bottom + 15, names[0], { "text-anchor": "start" }),
      write((middle + 0.5) * step, bottom + 15, names[middle], { "text-anchor": "middle" }),
      write(width, bottom + 15, names.at(-1), { "text-anchor": "end" }),
    ];
  });
  const label = measured.map(({ name, mean }) => `${name}: mean ${number(mean)}`).join("; ");
  return picture(width, Math.max(measured.length * row - 4, 1), label, ...parts);
}

export function tokenBar(share, label) {
  const height = 46 * share;
  return svg("svg", { viewBox: "0 0 16 48", role: "img", "aria-label": label },
    svg("title", {}, label),
    svg("rect", { x: 1, y: 48 - height, width: 14, height, class: "measure" }));
}
