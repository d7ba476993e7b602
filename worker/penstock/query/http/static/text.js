"use strict";
const $ = (id) => document.getElementById(id);
const CLIPPED = 420, BEFORE = 80, TO_A_SPACE = 30;

function made(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/* Spans are in code points, as the server counts; strings here are in UTF-16. */
function marked(points, spans, from = 0, to = points.length) {
  const parts = [];
  let at = from;
  for (const [start, end] of spans ?? []) {
    const first = Math.max(start, at), last = Math.min(end, to);
    if (first >= last) continue;
    if (first > at) parts.push(points.slice(at, first).join(""));
    parts.push(made("mark", { textContent: points.slice(first, last).join("") }));
    at = last;
  }
  if (at < to) parts.push(points.slice(at, to).join(""));
  return parts;
}

/* Around the first word that was found; at a space, where the script has them. */
function clipped(points, spans) {
  if (points.length <= CLIPPED) return marked(points, spans);
  const first = spans?.length ? spans[0][0] : 0;
  let from = Math.max(0, Math.min(first - BEFORE, points.length - CLIPPED));
  if (from > 0) {
    const space = points.slice(from, from + TO_A_SPACE).findIndex((point) => /\s/u.test(point));
    if (space >= 0) from += space + 1;
  }
  const to = Math.min(points.length, from + CLIPPED);
  return [from > 0 ? "… " : "", ...marked(points, spans, from, to), to < points.length ? " …" : ""];
}

function isLink(value) {
  if (typeof value !== "string" || !/^https?:\/\/\S+$/i.test(value)) return false;
  return URL.canParse(value);
}

function worded(value) {
  if (isLink(value)) return made("a", { href: value, target: "_blank", rel: "noopener noreferrer", textContent: value });
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

/* What the metadata says, a chip for each field; addresses lead somewhere. */
function chips(metadata) {
  return Object.entries(metadata ?? {}).map(([name, value]) => {
    const values = Array.isArray(value) && value.some(isLink) ? value : [value];
    const chip = made("span", { className: "chip", dir: "auto" }, `${name}: `);
    values.forEach((one, i) => chip.append(i ? ", " : "", worded(one)));
    return chip;
  });
}

function count(number, what) {
  return number === 1 ? `1 ${what}` : `${number.toLocaleString()} ${what}s`;
}
