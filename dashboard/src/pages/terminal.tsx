// Terminals of one sandbox, as tabs.
import { useEffect, useRef, useState } from "preact/hooks";
import { useStore } from "../lib/store";
import { addShell, dropShell, openShells, shellsOf, type Shell } from "../lib/terminals";
import type { Sandbox } from "../lib/types";
import { visible } from "../lib/format";
import { Icon } from "../ui/icons";
import { Button, confirmed, Empty } from "../ui/parts";

const PASTE_SHOWN = 600;

async function askPaste(lines: number, text: string): Promise<boolean> {
  const head = text.length > PASTE_SHOWN ? `${text.slice(0, PASTE_SHOWN)}…` : text;
  return confirmed(lines > 1 ? `Paste ${lines} lines?` : "Paste a long text?", head.split(/\r\n|\r|\n/).map(visible).join("\n"), "Paste");
}

function View({ shell }: { shell: Shell }) {
  const ref = useRef<HTMLDivElement>(null);
  const state = useStore(shell.state);
  const words = useStore(shell.words);
  useEffect(() => {
    shell.askPaste = askPaste;
    shell.show(ref.current!);
    shell.focus();
    const watch = new ResizeObserver(() => shell.resize());
    watch.observe(ref.current!);
    return () => {
      watch.disconnect();
      shell.box.remove();
    };
  }, [shell]);
  return (
    <div class="term-view">
      <div class="term-in" ref={ref} role="tabpanel" aria-label={shell.title} />
      {(state === "exited" || state === "lost" || state === "elsewhere") && (
        <div class="term-over" role="status">
          <span>{visible(words)}</span>
          <Button kind="primary" onClick={() => shell.again()}>
            {state === "exited" || shell.exec === null ? "New shell" : state === "elsewhere" ? "Take it back" : "Try now"}
          </Button>
        </div>
      )}
      {state === "connecting" && (
        <div class="term-over" role="status">
          <span class="spinner" aria-hidden="true" /> {shell.exec === null ? "Opening a shell…" : "Coming back to the shell…"}
        </div>
      )}
    </div>
  );
}

export function TerminalPanel({ s }: { s: Sandbox }) {
  const store = shellsOf(s.id);
  const shells = useStore(store);
  const [chosen, setChosen] = useState(0);
  const usable = s.status === "running";
  const add = () => {
    addShell(s.id);
    setChosen(store.value.length - 1);
  };
  useEffect(() => {
    if (usable) void openShells(s.id);
  }, [s.id, usable]);
  const at = Math.min(chosen, shells.length - 1);
  const current = shells[at];
  if (!usable && !current)
    return (
      <Empty icon="term" title={s.status === "pending" ? "It is still starting" : "No shell without a running sandbox"}>
        <p>{s.status === "pending" ? "The terminal opens as soon as it runs." : "What its terminals showed can be replayed in the timeline."}</p>
      </Empty>
    );
  const drop = async (shell: Shell, i: number) => {
    if (shell.state.value === "open" && !(await confirmed("Close this terminal?", "The shell and what runs in its foreground end.", "Close"))) return;
    dropShell(shell);
    setChosen(Math.max(0, i - 1));
  };
  return (
    <div class="terms card">
      <div class="term-tabs">
        <div role="tablist" aria-label="Terminals">
          {shells.map((shell, i) => (
            <button
              key={shell.title}
              type="button"
              role="tab"
              aria-selected={i === at}
              tabIndex={i === at ? 0 : -1}
              onClick={() => setChosen(i)}
              onKeyDown={(e) => {
                if (e.key === "ArrowRight") setChosen((at + 1) % shells.length);
                else if (e.key === "ArrowLeft") setChosen((at + shells.length - 1) % shells.length);
                else if (e.key === "Delete") void drop(shell, i);
              }}
            >
              <Icon name="term" size={14} /> {shell.title}
            </button>
          ))}
        </div>
        <button type="button" class="btn quiet icon-only" aria-label="New terminal" title="New terminal" onClick={add} disabled={!usable}>
          <Icon name="plus" />
        </button>
        <span class="grow" />
        {current && (
          <button type="button" class="btn quiet icon-only" aria-label="Close this terminal" title="Close this terminal" onClick={() => void drop(current, at)}>
            <Icon name="x" />
          </button>
        )}
      </div>
      {current ? (
        <View key={current.title} shell={current} />
      ) : (
        <Empty icon="term" title="No terminal is open">
          <Button kind="primary" icon="plus" onClick={add}>
            New terminal
          </Button>
        </Empty>
      )}
    </div>
  );
}
