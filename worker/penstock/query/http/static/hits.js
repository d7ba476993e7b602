function score(name, value, share, kind) {
  const fill = made("i", { className: kind });
  fill.style.width = `${Math.round(100 * Math.max(0, Math.min(1, share)))}%`;
  return made("span", { className: "score" }, `${name} ${value.toFixed(3)}`, made("span", { className: "bar" }, fill));
}

function found(way, side) {
  const place = side?.rank ? `found at ${side.rank}` : side ? "not among the first" : "none of them";
  return made("span", { className: "found", title: `${way}: ${place}`, textContent:
    side ? `${way} ${side.score.toFixed(2)}${side.rank ? ` (${side.rank}.)` : ""}` : `no ${way}` });
}

function moved(hit, rank) {
  const by = hit.retrieval_rank - rank;
  if (by === 0) return made("span", { className: "stayed", textContent: "= stayed", title: "it stayed where the search had it" });
  const text = by > 0 ? `▲ ${by} up` : `▼ ${-by} down`;
  return made("span", { className: by > 0 ? "up" : "down", textContent: text, title: `was ${hit.retrieval_rank} by retrieval` });
}

function facts(hit, rank, reply) {
  const told = made("div", { className: "facts" });
  if (reply.reranked) told.append(score("score", hit.score, hit.score, "rerank"));
  if (hit.rerank_score != null) told.append(score("reranker", hit.rerank_score, hit.rerank_score, "rerank"));
  told.append(score("retrieval", hit.retrieval_score, hit.retrieval_score, ""));
  if (reply.mode === "hybrid") told.append(found("vectors", hit.dense), found("words", hit.sparse));
  if (reply.reranked) told.append(moved(hit, rank));
  told.append(made("span", { className: "chip", dir: "auto", textContent: hit.document }), ...chips(hit.metadata));
  return told;
}

function shown(hit, rank, reply) {
  const points = Array.from(hit.text), spans = hit.highlights?.text;
  const body = made("p", { dir: "auto" }, ...clipped(points, spans));
  const title = made("a", { href: addressOf({ ...asItIs(), doc: hit.document }), dir: "auto" });
  title.append(...(hit.title ? marked(Array.from(hit.title), hit.highlights?.title) : [hit.document]));
  title.addEventListener("click", (event) => {
    if (event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go({ ...asItIs(), doc: hit.document });
  });
  const told = facts(hit, rank, reply);
  if (points.length > CLIPPED) {
    const more = made("button", { className: "more", type: "button", textContent: "the whole text" });
    more.addEventListener("click", () => { body.replaceChildren(...marked(points, spans)); more.remove(); });
    told.append(more);
  }
  return made("li", { tabIndex: -1 },
    made("h2", {}, made("span", { className: "rank", textContent: `${rank}.` }), title), ...pathOf(hit), body, told);
}

function pathOf(hit) {
  return hit.headings?.length ? [made("p", { className: "place", dir: "auto", textContent: hit.headings.join(" › ") })] : [];
}

/* A document by its chunks, which a search for them alone finds; each where it lies in the text. */
async function chunksOf(name) {
  const size = Math.min(100, info.max_top_k ?? 100), most = info.max_candidates ?? 500;
  const body = { query: $("q").value.trim() || name, filter: { field: "document", equals: name }, mode: "dense", rerank: false,
    highlight: true, chunks_per_document: most, candidates: most, top_k: size, offset: 0, ...whose() };
  const hits = [];
  let whole = false;
  while (!whole && body.offset < most) {
    body.top_k = Math.min(size, most - body.offset);
    const reply = await ask(body);
    hits.push(...reply.hits);
    whole = reply.hits.length < body.top_k;
    body.offset += body.top_k;
  }
  return { hits: hits.sort((one, other) => one.chunk - other.chunk), whole };
}

let opening = 0;
async function showDocument(name) {
  const own = ++opening;
  $("document-title").textContent = name;
  $("chunks").replaceChildren();
  $("strip").replaceChildren();
  $("document-facts").replaceChildren();
  $("document-said").textContent = "reading …";
  if (!$("document").open) $("document").showModal();
  try {
    const { hits, whole } = await chunksOf(name);
    if (own !== opening) return;
    if (!hits.length) { $("document-said").textContent = "There is no such document, or none that you may see."; return; }
    const [first] = hits, length = Math.max(...hits.map((hit) => hit.end), 1);
    const best = hits.reduce((one, other) => (other.score > one.score ? other : one));
    const low = Math.min(...hits.map((hit) => hit.score)), spread = best.score - low || 1;
    $("document-title").textContent = first.title || name;
    $("document-facts").append(made("span", { className: "chip", dir: "auto", textContent: name }), ...chips(first.metadata));
    if (first.timestamp) $("document-facts").append(made("span", { className: "chip", textContent: first.timestamp }));
    const nearest = $("q").value.trim() ? `; the ${hits.length > 1 ? "darkest is the one" : "score is how it lies"} nearest to the query` : "";
    $("document-said").textContent = (whole ? `${count(hits.length, "chunk")}, ${count(length, "character")}` :
      `its best ${count(hits.length, "chunk")}: more are not shown`) + nearest;
    let reached = 0;
    for (const hit of hits) {
      const piece = made("i", { title: `chunk ${hit.chunk}` });
      piece.style.left = `${100 * hit.start / length}%`;
      piece.style.width = `${100 * (hit.end - hit.start) / length}%`;
      piece.style.opacity = String(0.25 + 0.75 * (hit.score - low) / spread);
      $("strip").append(piece);
      $("chunks").append(chunkShown(hit, reached, hit === best && hits.length > 1));
      reached = Math.max(reached, hit.end);
    }
  } catch (error) { if (own === opening) $("document-said").textContent = error.message; }
}

function chunkShown(hit, reached, isBest) {
  const points = Array.from(hit.text), again = Math.max(0, Math.min(points.length, reached - hit.start));
  const text = made("p", { dir: "auto" });
  if (again) text.append(made("span", { className: "again", title: "also in the chunk before" }, ...marked(points, hit.highlights?.text, 0, again)));
  text.append(...marked(points, hit.highlights?.text, again));
  const place = `chunk ${hit.chunk} · characters ${hit.start.toLocaleString()} to ${hit.end.toLocaleString()} · ${hit.score.toFixed(3)}`;
  return made("li", { className: isBest ? "found" : "" }, made("div", { className: "place", textContent: place }), ...pathOf(hit), text);
}
