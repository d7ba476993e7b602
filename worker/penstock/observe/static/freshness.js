"use strict";
const EVERY_MS = 2000, WINDOW_MS = 60_000, KEPT_MS = 600_000;
const $ = (id) => document.getElementById(id);
const seen = [];

/* Lines of Prometheus' text: name{label="value"} number. */
function parsed(text) {
  const series = [];
  for (const line of text.split("\n")) {
    const match = /^(\w+)(?:\{(.*)\})? (\S+)/.exec(line);
    if (!match || line.startsWith("#")) continue;
    const labels = Object.fromEntries([...(match[2] ?? "").matchAll(/(\w+)="((?:[^"\\]|\\.)*)"/g)].map(([, name, value]) => [name, value]));
    series.push({ name: match[1], labels, value: Number(match[3].replace("Inf", "Infinity")) });
  }
  return (name, also = () => true) => series.filter((one) => one.name === `penstock_index_${name}` && also(one.labels));
}

const sum = (series) => series.reduce((total, one) => total + one.value, 0);
const largest = (series) => series.reduce((most, one) => Math.max(most, one.value), -Infinity);

function lasted(seconds) {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds < 120) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  return seconds < 7200 ? `${Math.round(seconds / 60)} min` : `${(seconds / 3600).toFixed(1)} h`;
}

/* The smallest bound that so many records stayed below. */
function quantile(get, share) {
  const below = new Map();
  for (const { labels, value } of get("freshness_seconds_bucket")) below.set(labels.le, (below.get(labels.le) ?? 0) + value);
  const bounds = [...below].map(([le, value]) => [le === "+Inf" ? Infinity : Number(le), value]).sort((one, other) => one[0] - other[0]);
  const all = bounds.at(-1)?.[1] ?? 0;
  if (!all) return "–";
  const [bound] = bounds.find(([, value]) => value >= share * all);
  return bound === Infinity ? `over ${lasted(bounds.at(-2)[0])}` : `${lasted(bound)} or less`;
}

/* Documents a minute between the latest look and the first one of the minute before. */
function rate(now) {
  const last = seen.at(-1), first = seen.find((look) => now - look.at <= WINDOW_MS) ?? last;
  return last.at > first.at ? Math.max(0, (last.documents - first.documents) * 60_000 / (last.at - first.at)) : null;
}

function show(figures) {
  $("figures").replaceChildren(...figures.map(([name, value, id]) => {
    const box = document.createElement("div"), dt = document.createElement("dt"), dd = document.createElement("dd");
    dt.textContent = name; dd.textContent = value; dd.id = id;
    box.append(dt, dd);
    return box;
  }));
}

function draw() {
  const rates = seen.map((look) => look.rate ?? 0), most = Math.max(...rates, 1);
  const points = rates.map((one, i) => `${(300 * i / Math.max(1, rates.length - 1)).toFixed(1)},${(58 - 56 * one / most).toFixed(1)}`);
  document.querySelector("polyline").setAttribute("points", points.join(" "));
}

async function look() {
  try {
    const answer = await fetch("metrics", { cache: "no-store" });
    if (!answer.ok) throw new Error(`${answer.status} ${answer.statusText}`);
    const get = parsed(await answer.text()), now = Date.now(), clock = Date.parse(answer.headers.get("date") ?? "") || now;
    seen.push({ at: now, documents: sum(get("records_total")) });
    while (now - seen[0].at > KEPT_MS) seen.shift();
    seen.at(-1).rate = rate(now);
    const newest = largest(get("newest_record_timestamp_seconds"));
    show([
      ["documents a minute", seen.at(-1).rate === null ? "…" : Math.round(seen.at(-1).rate).toLocaleString(), "rate"],
      ["records to come (lag)", sum(get("lag_records")).toLocaleString(), "lag"],
      ["oldest of those read", lasted(Math.max(0, largest(get("lag_seconds")))), "oldest"],
      ["age of the newest document", lasted(Math.max(0, clock / 1000 - newest)), "newest"],
      ["searchable within, half of all", quantile(get, 0.5), "half"],
      ["searchable within, 99 %", quantile(get, 0.99), "most"],
      ["dead letters", sum(get("records_total", (labels) => labels.outcome === "dead_lettered")).toLocaleString(), "letters"],
    ]);
    draw();
    $("status").textContent = "";
    $("status").className = "";
  } catch (error) {
    $("status").textContent = `no answer: ${error.message}`;
    $("status").className = "bad";
  }
  setTimeout(look, EVERY_MS);
}
look();
