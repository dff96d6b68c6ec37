// Unified diffs as git writes them, read into files, hunks and numbered lines. Pure. A diff comes from
// a guest: whatever does not fit is shown as it is, and nothing is counted twice.

export interface DiffLine {
  kind: "add" | "del" | "same" | "note";
  text: string;
  old: number | null;
  now: number | null;
}

export interface Hunk {
  head: string;
  lines: DiffLine[];
}

export interface FileDiff {
  path: string;
  from: string | null;
  status: "modified" | "added" | "deleted" | "renamed";
  binary: boolean;
  added: number;
  removed: number;
  hunks: Hunk[];
}

/** A name as git quotes it ("a\\303\\274") or plain. */
export function unquote(name: string): string {
  if (!name.startsWith('"') || !name.endsWith('"')) return name;
  const bytes: number[] = [];
  const body = name.slice(1, -1);
  const plain: Record<string, number> = { n: 10, t: 9, r: 13, '"': 34, "\\": 92, a: 7, b: 8, f: 12, v: 11 };
  const encoder = new TextEncoder();
  for (let i = 0; i < body.length; ) {
    if (body[i] === "\\") {
      const octal = /^[0-3][0-7]{2}/.exec(body.slice(i + 1));
      if (octal) {
        bytes.push(parseInt(octal[0], 8));
        i += 4;
        continue;
      }
      bytes.push(plain[body[i + 1] ?? ""] ?? 63);
      i += 2;
      continue;
    }
    const c = String.fromCodePoint(body.codePointAt(i)!);
    bytes.push(...encoder.encode(c));
    i += c.length;
  }
  return new TextDecoder().decode(new Uint8Array(bytes));
}

function side(text: string): string | null {
  const name = unquote(text.replace(/\t.*$/, ""));
  return name === "/dev/null" ? null : name.replace(/^[ab]\//, "");
}

const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$/;

export function parseDiff(text: string): FileDiff[] {
  const files: FileDiff[] = [];
  let file: FileDiff | null = null;
  let hunk: Hunk | null = null;
  let oldLeft = 0;
  let newLeft = 0;
  let oldNo = 0;
  let newNo = 0;
  const lines = text.split("\n");
  if (lines[lines.length - 1] === "") lines.pop();
  for (const line of lines) {
    if (hunk && (oldLeft > 0 || newLeft > 0)) {
      const c = line[0];
      if (c === "+") {
        hunk.lines.push({ kind: "add", text: line.slice(1), old: null, now: newNo++ });
        newLeft--;
        file!.added++;
        continue;
      }
      if (c === "-") {
        hunk.lines.push({ kind: "del", text: line.slice(1), old: oldNo++, now: null });
        oldLeft--;
        file!.removed++;
        continue;
      }
      if (c === " " || line === "") {
        hunk.lines.push({ kind: "same", text: line.slice(1), old: oldNo++, now: newNo++ });
        oldLeft--;
        newLeft--;
        continue;
      }
    }
    if (line.startsWith("\\") && hunk) {
      hunk.lines.push({ kind: "note", text: line.slice(2), old: null, now: null });
      continue;
    }
    if (line.startsWith("diff --git ")) {
      const rest = line.slice(11);
      const half = /^("?)a\/(.*)\1 \1b\/\2\1$/.exec(rest);
      file = { path: half ? unquote(`${half[1]}${half[2]}${half[1]}`) : rest, from: null, status: "modified", binary: false, added: 0, removed: 0, hunks: [] };
      files.push(file);
      hunk = null;
      continue;
    }
    if (!file) continue;
    const head = HUNK.exec(line);
    if (head) {
      oldNo = Number(head[1]);
      oldLeft = head[2] === undefined ? 1 : Number(head[2]);
      newNo = Number(head[3]);
      newLeft = head[4] === undefined ? 1 : Number(head[4]);
      hunk = { head: line, lines: [] };
      file.hunks.push(hunk);
    } else if (line.startsWith("--- ")) file.from = side(line.slice(4));
    else if (line.startsWith("+++ ")) file.path = side(line.slice(4)) ?? file.from ?? file.path;
    else if (line.startsWith("new file")) file.status = "added";
    else if (line.startsWith("deleted file")) file.status = "deleted";
    else if (line.startsWith("rename from ")) {
      file.status = "renamed";
      file.from = unquote(line.slice(12));
    } else if (line.startsWith("rename to ")) file.path = unquote(line.slice(10));
    else if (line.startsWith("Binary files ") || line.startsWith("GIT binary patch")) file.binary = true;
  }
  return files;
}
