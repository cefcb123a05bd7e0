// What the agent knows, read from its own answers every few seconds. Nothing is written, nothing comes from elsewhere, and
// what the mesh says is put into the page as text only.
import {bytes, perSecond, talk, total} from "./metrics.js";

const EVERY = 3000, PATIENCE = 20000;
const MOST = 500;
let before = null;
let shown = null;

// A value is text, or {text, mark, title, part}: a class, what it says in full, and a bar from 0 to 1.
function cell(value, column, kind = "td") {
  const found = document.createElement(kind);
  const {text, mark, title, part} = value !== null && typeof value === "object" ? value : {text: value};
  const inner = document.createElement("span");
  inner.textContent = text === undefined || text === null || text === "" ? "–" : String(text);
  if (mark) inner.className = mark;
  if (title) inner.title = title;
  found.append(inner);
  if (part !== undefined) {
    const bar = document.createElement("span"), filled = document.createElement("span");
    bar.className = "bar";
    filled.style.width = `${Math.round(Math.min(1, Math.max(0, part)) * 100)}%`;
    bar.append(filled);
    found.append(bar);
  }
  if (column.endsWith("#")) found.className = "number";
  found.dataset.title = column.replace("#", "");
  return found;
}

// `head` are titles, those of numbers end in #; `nothing` is what stands there if there are no rows.
function table(id, head, rows, nothing) {
  const wanted = document.getElementById("filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = row => row.map(v => v !== null && typeof v === "object" ? `${v.text} ${v.title || ""}` : v).join(" ").toLowerCase();
  const chosen = wanted.length ? rows.filter(row => wanted.every(word => text(row).includes(word))) : rows;
  const titles = document.createElement("tr");
  for (const title of head) {
    const found = cell(title.replace("#", ""), title, "th");
    found.scope = "col";
    titles.append(found);
  }
  const top = document.createElement("thead"), body = document.createElement("tbody");
  top.append(titles);
  for (const row of chosen.slice(0, MOST)) {
    const line = document.createElement("tr");
    row.forEach((value, index) => line.append(cell(value, head[index])));
    body.append(line);
  }
  const more = chosen.length > MOST ? `and ${chosen.length - MOST} more: narrow it down above` : "";
  const said = chosen.length ? more : rows.length ? "nothing with these words" : nothing;
  if (said) {
    const only = document.createElement("td");
    only.textContent = said;
    only.colSpan = head.length;
    only.className = "empty";
    const line = document.createElement("tr");
    line.append(only);
    body.append(line);
  }
  document.getElementById(id).replaceChildren(...(rows.length ? [top] : []), body);
}

function summary(values) {
  document.getElementById("summary").replaceChildren(...values.map(([title, text, mark]) => {
    const box = document.createElement("div"), name = document.createElement("dt"), value = document.createElement("dd");
    name.textContent = title;
    value.textContent = text;
    if (mark) value.className = mark;
    box.append(value, name);
    return box;
  }));
}

function left(seconds, lifetime) {
  if (seconds === null || Number.isNaN(seconds)) return {text: "none", mark: "bad"};
  if (seconds <= 0) return {text: "expired", mark: "bad", part: 0};
  const days = Math.floor(seconds / 86400), hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds % 3600 / 60);
  const text = days >= 3 ? `${days} days` : `${hours} h ${String(minutes).padStart(2, "0")} min`;
  return {text, mark: seconds < 3600 ? "odd" : "good", ...(lifetime ? {part: seconds / lifetime} : {})};
}

// An identity as people say it; the whole of it where the pointer rests.
function who(identity) {
  const parts = /^spiffe:\/\/[^/]+\/ns\/([^/]+)\/sa\/([^/]+)$/.exec(identity || "");
  return parts ? {text: `${parts[1]}/${parts[2]}`, title: identity} : {text: identity || "unknown", mark: "soft"};
}

function secured(policy) {
  return policy === "mutual_tls" ? {text: "mutual TLS", mark: "good"} : {text: policy === "none" ? "plaintext" : policy, mark: "odd"};
}

function match(value) {
  const [kind, text] = Object.entries(value)[0];
  return kind === "Exact" ? text : kind === "Prefix" ? `${text}*` : kind === "Suffix" ? `*${text}` : "*";
}

// Rules as the agent holds them: one of them has to fit, all of its parts, any match of a part.
function words(rules) {
  const name = key => key.replace(/([A-Z])/g, " $1").toLowerCase().replace(/ips$/, "addresses");
  const value = one => one !== null && typeof one === "object" ? match(one) : one;
  const clause = one => Object.entries(one).filter(([, all]) => all.length)
    .map(([key, all]) => `${name(key)} ${all.map(value).join(" or ")}`).join(", ");
  const rule = parts => parts.map(any => any.map(clause).filter(Boolean).join(" or ")).filter(Boolean).join("; ");
  return rules.map(rule).map(text => text || "everybody").join(" — or — ") || "nobody";
}

function showTraffic(pairs) {
  const order = [...pairs].sort(([a, x], [b, y]) => y.changed - x.changed || (a < b ? -1 : 1));
  const most = Math.max(1e-9, ...order.map(([, n]) => (n.sentRate || 0) + (n.receivedRate || 0)));
  table("traffic", ["Way", "From", "To", "Service", "Secured", "Connections#", "per second#", "Sent per s#", "Received per s#", "Failed"],
    order.map(([key, n]) => {
      const [reporter, source, target, service, policy] = JSON.parse(key);
      const reasons = [...n.reasons].map(([reason, count]) => `${count}\u00a0${reason}`).join(", ");
      return [{text: reporter === "source" ? "out" : "in", mark: "soft"}, who(source), who(target), service === "unknown" ? "" : service, secured(policy), n.opened, perSecond(n.openedRate),
        {text: bytes(n.sentRate), part: n.sentRate ? n.sentRate / most : undefined},
        {text: bytes(n.receivedRate), part: n.receivedRate ? n.receivedRate / most : undefined},
        n.failed ? {text: reasons || n.failed, mark: n.failedRate ? "bad words" : "odd words"} : 0];
    }), "nobody has called anybody since the agent started");
}

function showHost(status, dump) {
  const life = new Map(dump.certificates.map(c => [c.identity, c.certChain[0]]).filter(([, leaf]) => leaf)
    .map(([identity, leaf]) => [identity, (Date.parse(leaf.expirationTime) - Date.parse(leaf.validFrom)) / 1000]));
  table("workloads", ["Workload", "Unit", "Capture", "Identity", "Certificate ends in"], status.workloads.map(w => [
    `${w.namespace}/${w.name}`, w.unit, {text: w.capture, mark: w.capture === "captured" ? "good" : "odd"}, w.identity,
    left(w.certificate.expires === null ? null : w.certificate.expires - status.time, life.get(w.identity)),
  ]), "nothing of this host is in the mesh: hostmesh_workloads in the inventory, or a file in /etc/hostmesh/workloads.d, puts it there");

  const connections = [];
  for (const one of Object.values(dump.workloadState)) {
    for (const direction of ["inbound", "outbound"]) {
      for (const c of one.connections[direction]) {
        connections.push([`${one.info.namespace}/${one.info.name}`, direction, c.src, c.originalDst, c.actualDst, c.protocol]);
      }
    }
  }
  table("connections", ["Workload", "Direction", "From", "Asked for", "Dialled", "Protocol"], connections, "none at this moment");

  table("policies", ["Policy", "Action", "Scope", "Who and what"], dump.policies.map(p => [
    `${p.namespace}/${p.name}`, {text: p.dryRun ? `${p.action}, dry-run only` : p.action, mark: p.action === "Deny" ? "odd" : ""},
    p.scope, {text: words(p.rules), mark: "words"},
  ]), "none: everybody in the mesh may call everybody, and plaintext is let in");
  table("certificates", ["Identity", "State", "Serial", "Expires", "Ends in"], dump.certificates.map(c => {
    const leaf = c.certChain[0];
    return [c.identity, {text: c.state, mark: c.state === "Available" ? "good" : "bad"}, leaf && BigInt(leaf.serialNumber).toString(16),
      leaf && leaf.expirationTime, left(leaf ? Date.parse(leaf.expirationTime) / 1000 - status.time : null, life.get(c.identity))];
  }), "none yet");
  table("mesh", ["Workload", "Addresses", "Host", "Protocol", "Health"], dump.workloads.map(w => [
    `${w.namespace}/${w.name}`, w.workloadIps.join(", "), w.node, {text: w.protocol, mark: w.protocol === "HBONE" ? "good" : "odd"},
    {text: w.status, mark: w.status === "Healthy" ? "good" : "bad"},
  ]), "the control plane has not told of any workload");
  return connections.length;
}

function show({status, dump, pairs}) {
  document.getElementById("node").textContent = `${status.node} · hostmesh ${status.version}`;
  const state = document.getElementById("state");
  const told = status.meshFile || status.controlPlane.connected;
  const plane = status.meshFile ? `mesh file ${status.meshFile}`
    : told ? "control plane connected" : `no control plane: ${status.controlPlane.error}`;
  state.textContent = `${status.ready ? "ready" : `not ready: ${status.pending.join(", ")}`} · ${plane}`;
  state.className = status.ready && told ? "good" : "bad";
  showTraffic(pairs);
  const open = showHost(status, dump);
  const captured = status.workloads.filter(w => w.capture === "captured").length;
  const ends = status.workloads.map(w => w.certificate.expires).filter(Boolean);
  const next = ends.length ? left(Math.min(...ends) - status.time) : {text: "–"};
  const failed = total(pairs, "failedRate");
  summary([
    ["workloads captured", `${captured} of ${status.workloads.length}`, captured === status.workloads.length ? "" : "odd"],
    ["open connections", open],
    ["new connections per second", perSecond(total(pairs, "openedRate"))],
    ["failed per second", perSecond(failed), failed ? "bad" : ""],
    ["first certificate ends in", next.text, next.mark],
  ]);
}

// An agent that hangs, or that answers with an error, has not answered.
async function read(name) {
  const response = await fetch(name, {signal: AbortSignal.timeout(PATIENCE)});
  if (!response.ok) throw new Error(`${name}: ${response.status}`);
  return response;
}

async function look() {
  try {
    const [status, dump, metrics] = await Promise.all([
      read("status").then(r => r.json()), read("config_dump").then(r => r.json()), read("metrics").then(r => r.text()),
    ]);
    const now = Date.now(), pairs = talk(metrics, before, now);
    before = {now, pairs};
    shown = {status, dump, pairs};
    show(shown);
  } catch (error) {
    const state = document.getElementById("state");
    state.textContent = `the agent does not answer: ${error.message}`;
    state.className = "bad";
  }
  setTimeout(look, EVERY);
}

document.getElementById("filter").addEventListener("input", () => shown && show(shown));
look();
