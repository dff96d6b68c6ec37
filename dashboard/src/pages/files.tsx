// Files of a sandbox: a tree that opens folder by folder, a viewer that is the editor, upload,
// download, rename, delete. Paths come from the guest and are shown, never interpreted.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, getText, request, send } from "../lib/api";
import { bytes, visible } from "../lib/format";
import { place, setParams } from "../lib/router";
import { useStore } from "../lib/store";
import type { Entry, Sandbox } from "../lib/types";
import type { Editor } from "../lib/editor";
import { useLoad } from "../lib/use";
import { Icon } from "../ui/icons";
import { Button, confirmed, Dialog, Empty, Failure, Field, Loading, toast } from "../ui/parts";

const EDIT_MAX = 1 << 20;
const ROOT = "/workspace";

function join(folder: string, name: string): string {
  return folder === "/" ? `/${name}` : `${folder}/${name}`;
}
function parent(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}
function base(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1);
}
/** Pictures that no script can hide in, shown from a blob. */
const pictures: Record<string, string> = { png: "image/png", jpg: "image/jpeg", jpeg: "image/jpeg", gif: "image/gif", webp: "image/webp" };

interface TreeProps {
  id: string;
  folder: string;
  depth: number;
  open: string | null;
  round: number;
  choose: (e: Entry) => void;
}

function Folder({ id, folder, depth, open, round, choose }: TreeProps) {
  const loaded = useLoad((signal) => get<Entry[]>(`/v1/sandboxes/${id}/files`, { path: folder }, signal), [id, folder]);
  const [opened, setOpened] = useState<Set<string>>(() => new Set(open ? [...ancestors(open)] : []));
  useEffect(() => {
    if (round > 0) loaded.reload();
  }, [round]);
  useEffect(() => {
    if (open) setOpened((have) => new Set([...have, ...ancestors(open)]));
  }, [open]);
  const inset = { paddingLeft: `${depth * 14 + 8}px` };
  if (loaded.error && !loaded.data) return <li class="dim small" style={inset}>{visible(loaded.error.message)}</li>;
  if (!loaded.data) return <li class="dim small" style={inset}>…</li>;
  const sorted = [...loaded.data].sort((a, b) => (a.type === b.type ? (a.name < b.name ? -1 : 1) : a.type === "directory" ? -1 : 1));
  if (sorted.length === 0) return <li class="dim small" style={inset}>empty</li>;
  return (
    <>
      {sorted.map((e) => {
        const path = join(folder, e.name);
        const isOpen = opened.has(path);
        return (
          <li key={e.name}>
            <button
              type="button"
              class={`node ${open === path ? "on" : ""}`}
              style={inset}
              aria-expanded={e.type === "directory" ? isOpen : undefined}
              aria-current={open === path ? "true" : undefined}
              onClick={() => {
                if (e.type === "file") return choose({ ...e, path });
                const next = new Set(opened);
                if (isOpen) next.delete(path);
                else next.add(path);
                setOpened(next);
              }}
            >
              <Icon name={e.type === "directory" ? (isOpen ? "down" : "right") : "file"} size={14} />
              <span class="grow cut">{visible(e.name)}{e.target ? ` → ${visible(e.target)}` : ""}</span>
              {e.type === "file" && <span class="dim small num">{bytes(e.size)}</span>}
            </button>
            {e.type === "directory" && isOpen && (
              <ul>
                <Folder id={id} folder={path} depth={depth + 1} open={open} round={round} choose={choose} />
              </ul>
            )}
          </li>
        );
      })}
    </>
  );
}

function ancestors(path: string): string[] {
  const all: string[] = [];
  for (let p = parent(path); p !== "/" && p !== ROOT; p = parent(p)) all.push(p);
  return all;
}

async function download(id: string, path: string): Promise<void> {
  try {
    const blob = await (await request("GET", `/v1/sandboxes/${id}/files/raw`, { params: { path } })).blob();
    const url = URL.createObjectURL(blob);
    const a = document.createElement("a");
    a.href = url;
    a.download = base(path);
    a.click();
    setTimeout(() => URL.revokeObjectURL(url), 10_000);
  } catch (e) {
    toast((e as Error).message, "bad");
  }
}

function Picture({ id, path, type }: { id: string; path: string; type: string }) {
  const [url, setUrl] = useState<string | null>(null);
  const [error, setError] = useState<Error | null>(null);
  useEffect(() => {
    let made: string | null = null;
    request("GET", `/v1/sandboxes/${id}/files/raw`, { params: { path } })
      .then((r) => r.arrayBuffer())
      .then((b) => setUrl((made = URL.createObjectURL(new Blob([b], { type })))), setError);
    return () => {
      if (made) URL.revokeObjectURL(made);
    };
  }, [id, path]);
  if (error) return <Failure error={error} />;
  return url ? <div class="picture"><img src={url} alt={visible(base(path))} /></div> : <Loading what="the picture" />;
}

interface OpenFile {
  path: string;
  text: string | null;
  error: Error | null;
}

function FileView({ id, path, onGone }: { id: string; path: string; onGone: () => void }) {
  const [file, setFile] = useState<OpenFile | null>(null);
  const [dirty, setDirty] = useState(false);
  const [saving, setSaving] = useState(false);
  const [renaming, setRenaming] = useState<string | null>(null);
  const box = useRef<HTMLDivElement>(null);
  const editor = useRef<Editor | null>(null);
  const picture = pictures[path.split(".").pop()?.toLowerCase() ?? ""];

  const load = () => {
    setFile(null);
    setDirty(false);
    if (picture) return;
    getText(`/v1/sandboxes/${id}/files/content`, { path }).then(
      (text) => setFile({ path, text, error: null }),
      (error: Error) => setFile({ path, text: null, error }),
    );
  };
  useEffect(load, [id, path]);

  const save = async () => {
    if (!editor.current) return;
    setSaving(true);
    try {
      await send("PUT", `/v1/sandboxes/${id}/files/content`, { path, content: editor.current.text() });
      setDirty(false);
      toast(`${visible(base(path))} saved`);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
    setSaving(false);
  };

  useEffect(() => {
    if (!file || file.text === null || file.text.length > EDIT_MAX || !box.current) return;
    let gone = false;
    void import("../lib/editor").then(({ edit }) => {
      if (!gone) editor.current = edit(box.current!, path, file.text!, { change: () => setDirty(true), save: () => void save() });
    });
    return () => {
      gone = true;
      editor.current?.destroy();
      editor.current = null;
    };
  }, [file]);

  useEffect(() => {
    if (!dirty) return;
    const warn = (e: BeforeUnloadEvent) => e.preventDefault();
    addEventListener("beforeunload", warn);
    return () => removeEventListener("beforeunload", warn);
  }, [dirty]);

  const remove = async () => {
    if (!(await confirmed(`Delete ${base(path)}?`, path, "Delete", true))) return;
    try {
      await send("DELETE", `/v1/sandboxes/${id}/files`, undefined, { path });
      onGone();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  const rename = async () => {
    try {
      await send("POST", `/v1/sandboxes/${id}/files/rename`, { from: path, to: renaming });
      setParams({ open: renaming });
      setRenaming(null);
      onGone();
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  return (
    <div class="file-view">
      <header class="row">
        <code class="grow cut" title={visible(path)}>
          {visible(path)}
        </code>
        {dirty && <span class="chip warn">not saved</span>}
        {file?.text !== null && !picture && (
          <Button kind={dirty ? "primary" : undefined} busy={saving} disabled={!dirty} onClick={() => void save()}>
            Save
          </Button>
        )}
        <Button kind="quiet" class="icon-only" icon="refresh" aria-label="Read it again" title="Read it again" onClick={load} />
        <Button kind="quiet" class="icon-only" icon="save" aria-label="Download" title="Download" onClick={() => void download(id, path)} />
        <Button kind="quiet" onClick={() => setRenaming(path)}>
          Rename
        </Button>
        <Button kind="quiet" class="icon-only danger-hover" icon="trash" aria-label="Delete" title="Delete" onClick={() => void remove()} />
      </header>
      {picture ? (
        <Picture id={id} path={path} type={picture} />
      ) : !file ? (
        <Loading what="the file" />
      ) : file.error ? (
        <Empty icon="file" title="This file is not shown">
          <p>{visible(file.error.message)}</p>
          <Button icon="save" onClick={() => void download(id, path)}>
            Download it
          </Button>
        </Empty>
      ) : (
        <div class="editor" ref={box} />
      )}
      {renaming !== null && (
        <Dialog title="Rename or move" onClose={() => setRenaming(null)}>
          <Field label="New path">{(f) => <input id={f} value={renaming} onInput={(e) => setRenaming(e.currentTarget.value)} />}</Field>
          <footer>
            <Button onClick={() => setRenaming(null)}>Cancel</Button>
            <Button kind="primary" disabled={!renaming || renaming === path} onClick={() => void rename()}>
              Rename
            </Button>
          </footer>
        </Dialog>
      )}
    </div>
  );
}

export function FilesPanel({ s }: { s: Sandbox }) {
  const open = useStore(place).params.get("open");
  const [round, setRound] = useState(0);
  const [adding, setAdding] = useState<string | null>(null);
  const [drag, setDrag] = useState(false);
  const picker = useRef<HTMLInputElement>(null);
  if (s.status !== "running")
    return (
      <Empty icon="folder" title="Only a running sandbox has files to look into">
        <p>Which files were touched, and when, stands in the timeline.</p>
      </Empty>
    );
  const folder = open ? parent(open) : ROOT;
  const upload = async (files: FileList | null | undefined) => {
    for (const f of files ?? []) {
      try {
        await request("PUT", `/v1/sandboxes/${s.id}/files/raw`, { params: { path: join(folder, f.name) }, body: f });
        toast(`${visible(f.name)} uploaded to ${visible(folder)}`);
      } catch (e) {
        toast(`${visible(f.name)}: ${(e as Error).message}`, "bad");
      }
    }
    setRound(round + 1);
  };
  const add = async (isFolder: boolean) => {
    const path = adding!.startsWith("/") ? adding! : join(folder, adding!);
    try {
      if (isFolder) await send("POST", `/v1/sandboxes/${s.id}/files/mkdir`, { path });
      else await send("PUT", `/v1/sandboxes/${s.id}/files/content`, { path, content: "" });
      if (!isFolder) setParams({ open: path });
      setAdding(null);
      setRound(round + 1);
    } catch (e) {
      toast((e as Error).message, "bad");
    }
  };
  return (
    <div
      class={`files card ${open ? "has-open" : ""} ${drag ? "drag" : ""}`}
      onDragOver={(e) => {
        e.preventDefault();
        setDrag(true);
      }}
      onDragLeave={() => setDrag(false)}
      onDrop={(e) => {
        e.preventDefault();
        setDrag(false);
        void upload(e.dataTransfer?.files);
      }}
    >
      <div class="tree">
        <header class="row">
          <strong class="grow">{ROOT}</strong>
          <Button kind="quiet" class="icon-only" icon="plus" aria-label="New file or folder" title="New file or folder" onClick={() => setAdding("")} />
          <Button kind="quiet" class="icon-only" icon="up" aria-label="Upload files" title={`Upload to ${visible(folder)}`} onClick={() => picker.current?.click()} />
          <Button kind="quiet" class="icon-only" icon="refresh" aria-label="Look again" title="Look again" onClick={() => setRound(round + 1)} />
          <input ref={picker} type="file" multiple hidden onChange={(e) => void upload(e.currentTarget.files)} />
        </header>
        <ul>
          <Folder id={s.id} folder={ROOT} depth={0} open={open} round={round} choose={(e) => setParams({ open: e.path })} />
        </ul>
      </div>
      <div class="pane">
        {open ? (
          <>
            <button type="button" class="btn quiet back" onClick={() => setParams({ open: null })}>
              <Icon name="left" /> All files
            </button>
            <FileView
              key={open}
              id={s.id}
              path={open}
              onGone={() => {
                if (open === new URLSearchParams(location.search).get("open")) setParams({ open: null });
                setRound(round + 1);
              }}
            />
          </>
        ) : (
          <Empty icon="file" title="Choose a file">
            <p>Or drop some here to put them into {ROOT}.</p>
          </Empty>
        )}
      </div>
      {adding !== null && (
        <Dialog title="New file or folder" onClose={() => setAdding(null)}>
          <Field label="Name" hint={`In ${visible(folder)}, or a whole path`}>
            {(f) => <input id={f} value={adding} onInput={(e) => setAdding(e.currentTarget.value)} />}
          </Field>
          <footer>
            <Button disabled={!adding} onClick={() => void add(true)}>
              Make a folder
            </Button>
            <Button kind="primary" disabled={!adding} onClick={() => void add(false)}>
              Make a file
            </Button>
          </footer>
        </Dialog>
      )}
    </div>
  );
}
