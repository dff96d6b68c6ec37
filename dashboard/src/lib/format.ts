// Numbers and times for people. Pure; times are shown local, UTC stands in the tooltip.

export function usd(v: number | null | undefined): string {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  if (v === 0) return "$0.00";
  const a = Math.abs(v);
  const digits = a >= 1 ? 2 : a >= 0.01 ? 3 : a >= 0.0001 ? 5 : 6;
  return `${v < 0 ? "−" : ""}$${a.toFixed(digits)}`;
}

/** Dollars at a glance: where the thousandth of a cent does not matter. */
export function price(v: number | null | undefined): string {
  if (v === null || v === undefined || Number.isNaN(v)) return "–";
  const a = Math.abs(v);
  if (a > 0 && a < 0.001) return "<$0.001";
  const text = a.toFixed(a >= 1 || a === 0 ? 2 : 3).replace(/(\.\d\d)0$/, "$1");
  return `${v < 0 ? "−" : ""}$${text}`;
}

export function nusd(v: number | null | undefined): string {
  return usd(v === null || v === undefined ? null : v / 1e9);
}

export function bytes(n: number): string {
  if (n < 1024) return `${n} B`;
  const units = ["KiB", "MiB", "GiB", "TiB"];
  let v = n;
  let i = -1;
  do {
    v /= 1024;
    i++;
  } while (v >= 1024 && i < units.length - 1);
  return `${v >= 100 ? v.toFixed(0) : v.toFixed(1)} ${units[i]}`;
}

export function count(n: number): string {
  return n.toLocaleString("en-US");
}

export function tokens(n: number): string {
  if (n < 1000) return String(n);
  if (n < 1e6) return `${(n / 1000).toFixed(n < 1e4 ? 1 : 0)}k`;
  return `${(n / 1e6).toFixed(2)}M`;
}

export function plural(n: number, one: string, many = `${one}s`): string {
  return `${count(n)} ${n === 1 ? one : many}`;
}

export function duration(ms: number): string {
  if (!Number.isFinite(ms) || ms < 0) return "–";
  if (ms < 1000) return `${Math.round(ms)} ms`;
  const s = ms / 1000;
  if (s < 60) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min ${String(Math.round(s % 60) % 60).padStart(2, "0")} s`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h} h ${String(m % 60).padStart(2, "0")} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}

/** 90061000 → "25:01:01", with tenths below an hour: "1:01.5". */
export function clock(ms: number): string {
  const t = Math.max(0, ms);
  const h = Math.floor(t / 3600000);
  const m = Math.floor(t / 60000) % 60;
  const s = Math.floor(t / 1000) % 60;
  const tenth = Math.floor(t / 100) % 10;
  const two = (n: number) => String(n).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}.${tenth}`;
}

export function ago(then: string | number | null | undefined, now = Date.now()): string {
  if (then === null || then === undefined) return "never";
  const at = typeof then === "number" ? then : Date.parse(then);
  if (Number.isNaN(at)) return "–";
  const s = Math.round((now - at) / 1000);
  if (s < -60) return `in ${span(-s)}`;
  if (s < 10) return "just now";
  return `${span(s)} ago`;
}

/** A length of time in one unit. */
export function span(s: number): string {
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min`;
  if (s < 86400) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export function utc(then: string | null | undefined): string {
  if (!then || Number.isNaN(Date.parse(then))) return "";
  return `${new Date(then).toISOString().replace("T", " ").slice(0, 19)} UTC`;
}

export function local(then: string | null | undefined): string {
  if (!then || Number.isNaN(Date.parse(then))) return "–";
  return new Date(then).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium" });
}

/** A path or name from the guest, with what could turn or hide text made visible. */
export function visible(s: string): string {
  return s.replace(/[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) => {
    const code = c.charCodeAt(0);
    return code < 0x20 ? String.fromCharCode(0x2400 + code) : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}
