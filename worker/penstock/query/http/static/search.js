const FIELDS = ["q", "instruction", "filter", "top_k", "candidates", "tenant"];
const KEPT = [...FIELDS, "mode", "rerank", "doc"]; // in the address, beside what narrows the search
let running = null, info = {}, facets = {}, narrowed = [], last = null;

class Refusal extends Error {
  constructor(answer, reply) {
    const wait = answer.headers.get("Retry-After");
    super((reply?.error?.message ?? answer.statusText) + (wait ? `; try again in ${wait} s` : ""));
    this.status = answer.status;
  }
}

function headers() {
  const key = $("key").value;
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
}

async function get(path) {
  const answer = await fetch(path, { headers: headers() });
  const reply = await answer.json();
  if (!answer.ok) throw new Refusal(answer, reply);
  return reply;
}

async function ask(body, signal) {
  const answer = await fetch("v1/search", { method: "POST", headers: headers(), body: JSON.stringify(body), signal });
  const reply = await answer.json();
  if (!answer.ok) throw new Refusal(answer, reply);
  return reply;
}

function say(text, bad = false, aloud = bad ? text : "") {
  $("status").textContent = text;
  $("status").className = bad ? "bad" : "";
  $("said").textContent = aloud;
}

function clear() {
  $("hits").replaceChildren();
  $("steps").replaceChildren();
  $("further").hidden = true;
}

/* What the address holds: everything that a search is made of, and the document that is open. */
function asItIs() {
  const given = new URLSearchParams(location.search), state = { narrowed: [] };
  for (const name of KEPT) if (given.has(name)) state[name] = given.get(name);
  for (const text of given.getAll("in")) {
    try {
      const one = JSON.parse(text);
      if (Array.isArray(one) && one.length === 2 && typeof one[0] === "string" && ["string", "number", "boolean"].includes(typeof one[1])) state.narrowed.push(one);
    } catch { /* not ours */ }
  }
  return state;
}

function addressOf(state) {
  const query = new URLSearchParams();
  for (const name of KEPT) if (state[name]) query.set(name, state[name]);
  for (const one of state.narrowed ?? []) query.append("in", JSON.stringify(one));
  return query.size ? `?${query}` : location.pathname;
}

function asTyped() {
  const state = { narrowed };
  for (const name of FIELDS) state[name] = $(name).value.trim();
  if (!$("rerank").checked && !$("rerank").disabled) state.rerank = "0";
  const mode = document.querySelector("input[name=mode]:checked");
  if (mode && !mode.defaultChecked) state.mode = mode.value;
  return state;
}

/* To another search or document; back and forward bring it again. */
function go(state) {
  const address = addressOf(state), now = location.search || location.pathname;
  if (address !== now) history.pushState(null, "", address);
  follow();
}

let followed = null;
function follow() {
  const state = asItIs();
  for (const name of FIELDS) $(name).value = state[name] ?? "";
  $("rerank").checked = !$("rerank").disabled && state.rerank !== "0";
  for (const way of document.getElementsByName("mode")) way.checked = state.mode ? way.value === state.mode : way.defaultChecked;
  narrowed = state.narrowed;
  if (["instruction", "filter", "tenant"].some((name) => $(name).value)) $("options").open = true;
  showFacets();
  if (($("tenant").value ?? "") !== counted) overview();
  const wanted = addressOf({ ...state, doc: "" });
  if (wanted !== followed) { followed = wanted; search(); }
  if (state.doc) showDocument(state.doc);
  else if ($("document").open) $("document").close();
}

function whose() {
  return $("tenant").value.trim() && !$("tenant-field").hidden ? { tenant: $("tenant").value.trim() } : {};
}

function conditions() {
  const all = $("filter").value.trim() ? [JSON.parse($("filter").value)] : [];
  for (const name of new Set(narrowed.map(([field]) => field))) {
    const any = narrowed.filter(([field]) => field === name).map(([, equals]) => ({ field: `metadata.${name}`, equals }));
    all.push(any.length > 1 ? { any } : any[0]);
  }
  return all.length > 1 ? { all } : all[0];
}

function asked() {
  const body = { query: $("q").value, highlight: true, offset: 0, ...whose() };
  if ($("instruction").value.trim()) body.instruction = $("instruction").value.trim();
  for (const name of ["top_k", "candidates"]) if ($(name).value) body[name] = Number($(name).value);
  const filter = conditions();
  if (filter) body.filter = filter;
  if (!$("rerank").disabled) body.rerank = $("rerank").checked;
  const mode = document.querySelector("input[name=mode]:checked");
  if (mode && !$("modes").hidden) body.mode = mode.value;
  return body;
}

async function search(more = false) {
  if (running) running.abort();
  const blank = !$("q").value.trim();
  $("start").hidden = !blank || !info.overview;
  if (blank && !more) { clear(); say(""); return; }
  try {
    last = more ? { ...last, offset: $("hits").children.length } : asked();
  } catch (error) { clear(); say(`filter: ${error.message}`, true); $("options").open = true; return; }
  running = new AbortController();
  const own = running, started = performance.now();
  say("searching …");
  try {
    const reply = await ask(last, own.signal);
    if (own === running) show(reply, performance.now() - started, more);
  } catch (error) {
    if (error.name === "AbortError" || own !== running) return;
    if (!more) clear();
    say(error instanceof Refusal ? error.message : `no answer: ${error.message}`, true);
    if (error.status === 401) { askForKey(error.message); $("key").focus(); }
  }
}

function show(reply, took, more) {
  if (!more) clear();
  const before = $("hits").children.length, size = last.top_k || info.top_k;
  const added = reply.hits.map((hit, i) => shown(hit, before + i + 1, reply));
  $("hits").append(...added);
  $("steps").replaceChildren();
  const steps = Object.entries(reply.timings_ms);
  for (const [step, ms] of steps) {
    const part = made("span", { title: `${step} ${ms.toFixed(1)} ms` });
    part.dataset.step = step;
    part.style.flexGrow = String(Math.max(ms, 0.01));
    $("steps").append(part);
  }
  const all = $("hits").children.length, amount = all ? count(all, "document") : "nothing found";
  const why = reply.reranked ? "reranked" : `not reranked: ${reply.not_reranked}`;
  const times = steps.map(([step, ms]) => `${step} ${ms.toFixed(1)} ms`).join(", ");
  say(`${amount} · ${why} · ${times}, in all ${took.toFixed(0)} ms`, false, amount);
  $("further").hidden = reply.hits.length < size || all + size > info.max_candidates;
  if (more && added.length) added[0].focus();
}

function showFacets() {
  const rows = Object.entries(facets).map(([name, values]) => {
    const known = values.map(({ value }) => JSON.stringify([name, value]));
    const others = narrowed.filter((one) => one[0] === name && !known.includes(JSON.stringify(one))).map(([, value]) => ({ value }));
    return made("div", { className: "facet" }, `${name}:`, ...[...values, ...others].map((one) => {
      const own = JSON.stringify([name, one.value]), on = narrowed.some((chosen) => JSON.stringify(chosen) === own);
      const amount = one.documents == null ? [] : [" ", made("small", { textContent: one.documents.toLocaleString() })];
      const button = made("button", { type: "button", dir: "auto" }, String(one.value), ...amount);
      button.setAttribute("aria-pressed", String(on));
      button.addEventListener("click", () => {
        narrowed = on ? narrowed.filter((chosen) => JSON.stringify(chosen) !== own) : [...narrowed, [name, one.value]];
        go(asTyped());
        [...document.querySelectorAll(".facet button")].find((other) => other.textContent === button.textContent)?.focus();
      });
      return button;
    }));
  });
  $("facets").replaceChildren(...rows);
  $("facets").hidden = !rows.length;
}
