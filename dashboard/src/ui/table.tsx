// Tables, tiles and forms in dialogs: one of each for all pages.
import type { ComponentChildren } from "preact";
import { Button, Dialog } from "./parts";

export interface Column<T> {
  title: string;
  cell: (row: T) => ComponentChildren;
  /** Gone on screens narrower than small, or than medium. */
  hide?: "s" | "m";
  /** What the cell holds: a number stands right, a text may break, acts are buttons. */
  as?: "number" | "wrap" | "acts";
}

const cells = { number: "right num", wrap: "wrap", acts: "acts" };

interface TableProps<T> {
  label: string;
  columns: (Column<T> | false | null | undefined)[];
  rows: T[];
  keyOf: (row: T) => string | number;
  tight?: boolean;
  rowClass?: (row: T) => string;
  children?: ComponentChildren;
}

export function Table<T>(p: TableProps<T>) {
  const columns = p.columns.filter((c): c is Column<T> => !!c);
  const hidden = (c: Column<T>) => (c.hide ? `hide-${c.hide}` : "");
  return (
    <div class="table-wrap" tabIndex={0} role="group" aria-label={p.label}>
      <table class={`table ${p.tight ? "tight" : ""}`}>
        <thead>
          <tr>
            {columns.map((c) => (
              <th key={c.title} class={`${c.as === "number" ? "right" : ""} ${hidden(c)}`}>
                {c.as === "acts" ? <span class="sr">{c.title}</span> : c.title}
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {p.rows.map((row) => (
            <tr key={p.keyOf(row)} class={p.rowClass?.(row)}>
              {columns.map((c) => (
                <td key={c.title} class={`${c.as ? cells[c.as] : ""} ${hidden(c)}`}>
                  {c.cell(row)}
                </td>
              ))}
            </tr>
          ))}
        </tbody>
      </table>
      {p.children}
    </div>
  );
}

/** Figures side by side: a name and what stands under it. */
export function Tiles({ items, class: cls }: { items: ([name: string, value: ComponentChildren] | false | null | undefined)[]; class?: string }) {
  return (
    <dl class={`tiles ${cls ?? ""}`}>
      {items.map(
        (item) =>
          item && (
            <div key={item[0]}>
              <dt>{item[0]}</dt>
              <dd class="num">{item[1]}</dd>
            </div>
          ),
      )}
    </dl>
  );
}

export function Pager({ page, pages, all, newer, older }: { page?: number; pages?: number; all?: string; newer: (() => void) | null; older: (() => void) | null }) {
  return (
    <footer class="pager">
      <Button kind="quiet" icon="left" disabled={!newer} onClick={() => newer?.()}>
        Newer
      </Button>
      <span class="dim small num">{[page && pages ? `${page} of ${pages}` : "", all ?? ""].filter(Boolean).join(", ")}</span>
      <Button kind="quiet" icon="right" disabled={!older} onClick={() => older?.()}>
        Older
      </Button>
    </footer>
  );
}

interface FormProps {
  title: string;
  submit: string;
  icon?: string;
  busy?: boolean;
  disabled?: boolean;
  onSubmit: () => void;
  onClose: () => void;
  children: ComponentChildren;
}

export function FormDialog(p: FormProps) {
  return (
    <Dialog title={p.title} onClose={p.onClose}>
      <form
        class="stack"
        autocomplete="off"
        onSubmit={(e) => {
          e.preventDefault();
          if (!p.disabled && !p.busy) p.onSubmit();
        }}
      >
        {p.children}
        <footer>
          <Button onClick={p.onClose}>Cancel</Button>
          <Button kind="primary" type="submit" icon={p.icon} busy={p.busy} disabled={p.disabled}>
            {p.submit}
          </Button>
        </footer>
      </form>
    </Dialog>
  );
}
