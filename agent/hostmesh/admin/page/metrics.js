// What the metrics say of who talks to whom; plain functions, no page.

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

const known = text => text && text !== "unknown";

// Sums by who, whom, service and how it is secured; each with when it last changed, which puts what goes on first.
export function talk(text, before, now) {
  const pairs = new Map();
  for (const line of text.split("\n")) {
    const sample = parse(line);
    if (!sample || !SUMS[sample.name]) continue;
    const l = sample.labels;
    const source = known(l.source_principal) ? l.source_principal : l.source_workload;
    const target = known(l.destination_principal) ? l.destination_principal : l.destination_workload;
    const key = JSON.stringify([l.reporter, source, target, l.destination_service, l.connection_security_policy]);
    const found = pairs.get(key) || {opened: 0, failed: 0, sent: 0, received: 0, reasons: new Map()};
    found[SUMS[sample.name]] += sample.value;
    if (l.reason && sample.value) found.reasons.set(l.reason, (found.reasons.get(l.reason) || 0) + sample.value);
    pairs.set(key, found);
  }
  for (const [key, found] of pairs) {
    const old = before && before.pairs.get(key);
    const same = old && ["opened", "failed", "sent", "received"].every(name => old[name] === found[name]);
    found.changed = same ? old.changed : before ? now : 0;
    const seconds = before ? (now - before.now) / 1000 : 0;
    for (const name of ["opened", "failed", "sent", "received"]) {
      found[`${name}Rate`] = seconds > 0 ? Math.max(0, found[name] - (old ? old[name] : 0)) / seconds : null;
    }
  }
  return pairs;
}

const UNITS = ["B", "kB", "MB", "GB", "TB"];

export function perSecond(value) {
  if (value === null) return "…";
  return value === 0 ? "0" : value >= 10 ? value.toFixed(0) : value.toFixed(1);
}

export function bytes(value) {
  if (value === null) return "…";
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) { value /= 1000; unit += 1; }
  return `${value >= 10 || unit === 0 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`;
}

// The sum of one rate, or null while there is none.
export function total(pairs, name) {
  let sum = 0;
  for (const one of pairs.values()) {
    if (one[name] === null) return null;
    sum += one[name];
  }
  return sum;
}
