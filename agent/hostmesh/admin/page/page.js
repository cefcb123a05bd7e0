// What the agent knows, read from its own answers every few seconds. Nothing is written, nothing comes from elsewhere, and
// what the mesh says is put into the page as text only.
"use strict";

const EVERY = 3000;
let before = null;

function cell(value, kind) {
  const found = document.createElement(kind || "td");
  const [text, mark] = Array.isArray(value) ? value : [value, ""];
  found.textContent = text === undefined || text === null || text === "" ? "–" : String(text);
  if (mark) found.className = mark;
  return found;
}

function table(id, head, rows) {
  const target = document.getElementById(id);
  const fresh = document.createElement("tbody");
  const titles = document.createElement("tr");
  for (const title of head) titles.append(cell(title, "th"));
  fresh.append(titles);
  for (const row of rows) {
    const line = document.createElement("tr");
    for (const value of row) line.append(cell(value));
    fresh.append(line);
  }
  if (rows.length === 0) {
    const line = document.createElement("tr");
    const only = cell("none", "td");
    only.colSpan = head.length;
    only.className = "empty";
    line.append(only);
    fresh.append(line);
  }
  target.replaceChildren(fresh);
}

function left(seconds) {
  if (seconds === null || seconds === undefined || Number.isNaN(seconds)) return ["none", "bad"];
  if (seconds <= 0) return ["expired", "bad"];
  const hours = Math.floor(seconds / 3600), minutes = Math.floor(seconds % 3600 / 60);
  return [`${hours} h ${String(minutes).padStart(2, "0")} min`, seconds < 3600 ? "odd" : "good"];
}

// One line of the text format: name, labels, value. Label values may hold any character, escaped.
function parse(line) {
  const open = line.indexOf("{");
  if (line.startsWith("#") || open < 0) return null;
  const labels = {};
  const pattern = /([a-z_]+)="((?:[^"\\]|\\.)*)"/g;
  const close = line.lastIndexOf("}");
  for (const [, name, value] of line.slice(open, close).matchAll(pattern)) {
    labels[name] = value.replace(/\\(.)/g, (_, c) => c === "n" ? "\n" : c);
  }
  return {name: line.slice(0, open), labels, value: Number(line.slice(close + 1).trim().split(" ")[0])};
}

const SUMS = {
  istio_tcp_connections_opened_total: "opened",
  istio_tcp_connections_failed_total: "failed",
  istio_tcp_sent_bytes_total: "sent",
  istio_tcp_received_bytes_total: "received",
};

function talk(text) {
  const pairs = new Map();
  for (const line of text.split("\n")) {
    const sample = parse(line);
    if (!sample || !SUMS[sample.name]) continue;
    const l = sample.labels;
    const source = l.source_principal !== "unknown" ? l.source_principal : l.source_workload;
    const target = l.destination_principal !== "unknown" ? l.destination_principal : l.destination_workload;
    const key = JSON.stringify([l.reporter, source, target, l.destination_service, l.connection_security_policy]);
    const found = pairs.get(key) || {opened: 0, failed: 0, sent: 0, received: 0, reasons: new Set()};
    found[SUMS[sample.name]] += sample.value;
    if (l.reason) found.reasons.add(l.reason);
    pairs.set(key, found);
  }
  return pairs;
}

function rate(now, old, seconds) {
  if (old === undefined || seconds <= 0) return "";
  const value = Math.max(0, now - old) / seconds;
  return value >= 100 ? value.toFixed(0) : value.toFixed(1);
}

function show(status, dump, metrics, now) {
  document.getElementById("node").textContent = `${status.node} · hostmesh ${status.version}`;
  const state = document.getElementById("state");
  const plane = status.controlPlane.connected ? "control plane connected" : `no control plane: ${status.controlPlane.error}`;
  state.textContent = `${status.ready ? "ready" : `not ready: ${status.pending.join(", ")}`} · ${plane}`;
  state.className = status.ready && status.controlPlane.connected ? "good" : "bad";

  table("workloads", ["Workload", "Unit", "Capture", "Identity", "Certificate"], status.workloads.map(w => [
    `${w.namespace}/${w.name}`, w.unit, [w.capture, w.capture === "captured" ? "good" : "odd"], w.identity,
    left(w.certificate.expires === null ? null : w.certificate.expires - status.time),
  ]));

  const pairs = talk(metrics);
  const seconds = before ? (now - before.now) / 1000 : 0;
  table("traffic", ["Seen as", "From", "To", "Service", "Secured", "Connections", "per s", "Failed", "Bytes/s sent", "Bytes/s received"],
    [...pairs].sort().map(([key, n]) => {
      const [reporter, source, target, service, secured] = JSON.parse(key);
      const old = before && before.pairs.get(key) || {};
      const failed = n.failed ? [`${n.failed}: ${[...n.reasons].join(", ")}`, "bad"] : 0;
      return [reporter, source, target, service, [secured, secured === "mutual_tls" ? "good" : "odd"], n.opened,
        rate(n.opened, old.opened, seconds), failed, rate(n.sent, old.sent, seconds), rate(n.received, old.received, seconds)];
    }));
  before = {now, pairs};

  const connections = [];
  for (const one of Object.values(dump.workloadState)) {
    for (const direction of ["inbound", "outbound"]) {
      for (const c of one.connections[direction].slice(0, 200)) {
        connections.push([`${one.info.namespace}/${one.info.name}`, direction, c.src, c.originalDst, c.actualDst, c.protocol]);
      }
    }
  }
  table("connections", ["Workload", "Direction", "From", "Asked for", "Dialled", "Protocol"], connections.slice(0, 500));

  table("policies", ["Policy", "Action", "Scope", "Rules"], dump.policies.map(p => [
    `${p.namespace}/${p.name}`, [p.dryRun ? `${p.action} (dry-run)` : p.action, p.action === "Deny" ? "odd" : ""], p.scope,
    JSON.stringify(p.rules),
  ]));
  table("certificates", ["Identity", "State", "Serial", "Expires", "In"], dump.certificates.map(c => {
    const leaf = c.certChain[0];
    return [c.identity, [c.state, c.state === "Available" ? "good" : "bad"], leaf && BigInt(leaf.serialNumber).toString(16),
      leaf && leaf.expirationTime, left(leaf ? Date.parse(leaf.expirationTime) / 1000 - status.time : null)];
  }));
  table("mesh", ["Workload", "Addresses", "Host", "Protocol", "Health"], dump.workloads.slice(0, 1000).map(w => [
    `${w.namespace}/${w.name}`, w.workloadIps.join(", "), w.node, [w.protocol, w.protocol === "HBONE" ? "good" : "odd"],
    [w.status, w.status === "Healthy" ? "good" : "bad"],
  ]));
}

async function look() {
  try {
    const [status, dump, metrics] = await Promise.all([
      fetch("status").then(r => r.json()), fetch("config_dump").then(r => r.json()), fetch("metrics").then(r => r.text()),
    ]);
    show(status, dump, metrics, Date.now());
  } catch (error) {
    const state = document.getElementById("state");
    state.textContent = `the agent does not answer: ${error.message}`;
    state.className = "bad";
  }
  setTimeout(look, EVERY);
}

look();
