// A file as it was at a moment: its text then, and what the change before that moment did to it.
import { useState } from "preact/hooks";
import { ApiError, getText } from "../lib/api";
import { clock, visible } from "../lib/format";
import { diffTexts } from "../lib/linediff";
import type { Version } from "../lib/sums";
import { useLoad } from "../lib/use";
import { Dialog, Empty, Failure, Loading } from "../ui/parts";
import { DiffView } from "./changes";

const LINES_MAX = 4000;

interface Props {
  sandbox: string;
  path: string;
  /** Up to the moment, oldest first. */
  versions: Version[];
  close: () => void;
}

async function textOf(sandbox: string, v: Version | undefined, signal: AbortSignal): Promise<string | null> {
  if (!v) return "";
  if (!v.blob) return null;
  try {
    return await getText(`/v1/sandboxes/${sandbox}/blobs/${v.blob}`, undefined, signal);
  } catch (e) {
    if (e instanceof ApiError && e.status === 404) return null; // thinned: the record says so
    throw e;
  }
}

export function FileThen({ sandbox, path, versions, close }: Props) {
  const last = versions.length - 1;
  const [at, setAt] = useState(last);
  const [against, setAgainst] = useState<"before" | "first">("before");
  const [whole, setWhole] = useState(false);
  const now = versions[at];
  const base = against === "first" ? (at === 0 ? undefined : versions[0]) : versions[at - 1];
  const loaded = useLoad((signal) => Promise.all([textOf(sandbox, now, signal), textOf(sandbox, base, signal)]), [at, against]);
  const [text, before] = loaded.data ?? [null, null];
  return (
    <Dialog wide title={visible(path)} onClose={close}>
      <div class="row wrap-row">
        <div class="segments" role="group" aria-label="What is shown of the file">
          <button type="button" aria-pressed={!whole} onClick={() => setWhole(false)}>
            Difference
          </button>
          <button type="button" aria-pressed={whole} onClick={() => setWhole(true)}>
            Whole text
          </button>
        </div>
        <label class="row small">
          <span class="dim">Version</span>
          <select class="tight" value={String(at)} onChange={(e) => setAt(Number(e.currentTarget.value))}>
            {versions.map((v, i) => (
              <option key={i} value={String(i)}>
                {clock(v.ms)}
              </option>
            ))}
          </select>
        </label>
        {!whole && (
          <label class="row small">
            <span class="dim">against</span>
            <select class="tight" value={against} onChange={(e) => setAgainst(e.currentTarget.value as "before" | "first")}>
              <option value="before">the version before</option>
              <option value="first">the first one kept</option>
            </select>
          </label>
        )}
      </div>
      {loaded.error ? (
        <Failure error={loaded.error} retry={loaded.reload} />
      ) : !loaded.data ? (
        <Loading what="the file" />
      ) : text === null ? (
        <Empty icon="file" title="Its text was not kept">
          <p>{now?.skipped === "large" ? "It was too large then." : now?.skipped === "binary" ? "It was no text then." : "The record's quota for contents made room."}</p>
        </Empty>
      ) : whole ? (
        <pre class="value whole" tabIndex={0}>
          {text.split("\n").slice(0, LINES_MAX).map(visible).join("\n")}
        </pre>
      ) : before === null ? (
        <Empty icon="file" title="The text before it was not kept" />
      ) : (
        <div class="then-diff">
          <DiffView file={diffTexts(path, before, text)} />
        </div>
      )}
    </Dialog>
  );
}
