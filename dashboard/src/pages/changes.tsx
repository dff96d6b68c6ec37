// What git says of the workspace: files at the left, their differences at the right.
import { useState } from "preact/hooks";
import { get } from "../lib/api";
import { parseDiff, type FileDiff } from "../lib/diff";
import { plural, visible } from "../lib/format";
import type { Sandbox } from "../lib/types";
import { useLoad } from "../lib/use";
import { Icon } from "../ui/icons";
import { Button, Empty, Failure, Loading } from "../ui/parts";

interface Answer {
  files: { path: string; status: string }[];
  diff: string;
  staged_diff: string;
  truncated?: boolean;
}

const LINES_MAX = 3000;
const letters: Record<string, string> = { modified: "M", added: "A", deleted: "D", renamed: "R", untracked: "?" };

/** Tabs and all, but no character that turns or hides the text around it. */
function lineText(s: string): string {
  return s.replaceAll("\t", "\u0001").replace(/\u0001/g, "    ").replace(/[\u0000-\u0008\u000b-\u001f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g, (c) => visible(c));
}

export function DiffView({ file }: { file: FileDiff }) {
  const [open, setOpen] = useState(file.added + file.removed < LINES_MAX);
  return (
    <section class="diff card" id={`diff-${file.path}`} aria-label={visible(file.path)}>
      <header>
        <button type="button" class="btn quiet icon-only" aria-expanded={open} aria-label={open ? "Close" : "Open"} onClick={() => setOpen(!open)}>
          <Icon name={open ? "down" : "right"} />
        </button>
        <span class={`letter ${file.status}`}>{letters[file.status]}</span>
        <code class="grow path">
          {file.status === "renamed" && file.from ? `${visible(file.from)} → ` : ""}
          {visible(file.path)}
        </code>
        <span class="num plus">+{file.added}</span>
        <span class="num minus">−{file.removed}</span>
      </header>
      {open && file.binary && <p class="dim pad">A binary file.</p>}
      {open && !file.binary && (
        <div class="diff-in" tabIndex={0} role="group" aria-label={`Differences of ${visible(file.path)}`}>
          <table>
            <tbody>
              {file.hunks.map((h) => [
                <tr class="hunk" key={h.head}>
                  <td colSpan={3}>{visible(h.head)}</td>
                </tr>,
                ...h.lines.map((l, i) => (
                  <tr class={l.kind} key={`${h.head}${i}`}>
                    <td class="no">{l.old ?? ""}</td>
                    <td class="no">{l.now ?? ""}</td>
                    <td class="text">
                      <span class="sr">{l.kind === "add" ? "added " : l.kind === "del" ? "removed " : ""}</span>
                      {lineText(l.text) || " "}
                    </td>
                  </tr>
                )),
              ])}
            </tbody>
          </table>
        </div>
      )}
    </section>
  );
}

export function ChangesPanel({ s }: { s: Sandbox }) {
  const usable = s.status === "running";
  const loaded = useLoad((signal) => get<Answer>(`/v1/sandboxes/${s.id}/git/diff`, { path: "/workspace" }, signal), [s.id, usable]);
  if (!usable)
    return (
      <Empty icon="diff" title="Only a running sandbox can be asked">
        <p>Which files were touched, and when, stands in the timeline.</p>
      </Empty>
    );
  if (loaded.error)
    return /not a git|no git|repository/i.test(loaded.error.message) ? (
      <Empty icon="diff" title="/workspace is no git repository">
        <p>{visible(loaded.error.message)}</p>
        <Button icon="refresh" onClick={loaded.reload}>
          Look again
        </Button>
      </Empty>
    ) : (
      <Failure error={loaded.error} retry={loaded.reload} />
    );
  if (!loaded.data) return <Loading what="changes" />;
  const { files, diff, staged_diff, truncated } = loaded.data;
  const parts = [
    { title: "Changed", diffs: parseDiff(diff) },
    { title: "Staged", diffs: parseDiff(staged_diff) },
  ].filter((p) => p.diffs.length);
  const untracked = files.filter((f) => f.status === "untracked");
  if (files.length === 0)
    return (
      <Empty icon="check" title="Nothing has changed">
        <p>The working tree is as it was committed.</p>
        <Button icon="refresh" onClick={loaded.reload}>
          Look again
        </Button>
      </Empty>
    );
  return (
    <div class="changes">
      <div class="row">
        <strong>{plural(files.length, "file")}</strong>
        <span class="grow" />
        <Button icon="refresh" busy={loaded.busy} onClick={loaded.reload}>
          Look again
        </Button>
      </div>
      {truncated && <p class="note warn">The differences are larger than what is sent at once: the end is missing here.</p>}
      {parts.map((p) => (
        <div class="stack" key={p.title}>
          <h2>{p.title}</h2>
          {p.diffs.map((f) => (
            <DiffView key={f.path} file={f} />
          ))}
        </div>
      ))}
      {untracked.length > 0 && (
        <div class="stack">
          <h2>New, and unknown to git</h2>
          <ul class="card plain-list">
            {untracked.map((f) => (
              <li key={f.path}>
                <span class="letter untracked">?</span>
                <a href={`/sandboxes/${s.id}/files?open=${encodeURIComponent(`/workspace/${f.path}`)}`}>
                  <code>{visible(f.path)}</code>
                </a>
              </li>
            ))}
          </ul>
        </div>
      )}
    </div>
  );
}
