// What sandboxes can be made of: those that are built, and those that the operator could build.
import { get } from "../lib/api";
import { bytes, visible } from "../lib/format";
import type { Template } from "../lib/types";
import { useLoad } from "../lib/use";
import { CopyButton, Failure, Loading } from "../ui/parts";
import { Table } from "../ui/table";

export function TemplatesTab() {
  const loaded = useLoad((signal) => get<Template[]>("/v1/templates", undefined, signal), []);
  if (loaded.error) return <Failure error={loaded.error} retry={loaded.reload} />;
  if (!loaded.data) return <Loading what="templates" />;
  const list = [...loaded.data].sort((a, b) => Number(b.state === "ready") - Number(a.state === "ready") || (a.name < b.name ? -1 : 1));
  return (
    <div class="stack">
      <p class="dim">Sandboxes are made of these. The operator builds them on the machine of the server; a template is a recipe and an image made of it.</p>
      <Table
        label="Templates"
        rows={list}
        keyOf={(t) => t.name}
        columns={[
          {
            title: "Template",
            as: "wrap",
            cell: (t) => (
              <>
                <strong>{visible(t.name)}</strong>
                {t.description && <span class="sub">{visible(t.description)}</span>}
              </>
            ),
          },
          { title: "Also called", as: "wrap", hide: "m", cell: (t) => (t.aliases ?? []).map(visible).join(", ") },
          { title: "State", cell: (t) => <span class={`chip ${t.state === "ready" ? "ok" : t.state === "absent" ? "" : "warn"}`}>{visible(t.state)}</span> },
          { title: "Size", as: "number", hide: "s", cell: (t) => (t.size_bytes ? bytes(t.size_bytes) : "–") },
          {
            title: "How it is built",
            as: "wrap",
            hide: "s",
            cell: (t) =>
              t.state === "ready" ? (
                ""
              ) : t.reason ? (
                <span class="dim small">{visible(t.reason)}</span>
              ) : (
                <span class="row">
                  <code class="small">caged image build {visible(t.name)}</code>
                  <CopyButton text={`caged image build ${t.name}`} label={`Copy the command for ${visible(t.name)}`} />
                </span>
              ),
          },
        ]}
      />
    </div>
  );
}
