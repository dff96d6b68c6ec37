// Every key that does something.
import { useTitle } from "../lib/use";

const groups: { title: string; keys: [string[], string][] }[] = [
  {
    title: "Everywhere",
    keys: [
      [["Ctrl", "K"], "Command palette: pages, sandboxes, actions"],
      [["n"], "New sandbox"],
      [["/"], "Find on this page"],
      [["g", "s"], "Sandboxes"],
      [["g", "e"], "Sessions"],
      [["g", "c"], "Cost"],
      [["g", "t"], "Trust"],
      [["g", "a"], "Account"],
      [["?"], "This page"],
      [["Esc"], "Close a dialog"],
    ],
  },
  {
    title: "Terminal",
    keys: [
      [["Ctrl", "Shift", "C"], "Copy what is selected"],
      [["Ctrl", "Shift", "V"], "Paste; more than one line is asked about first"],
      [["Ctrl", "Shift", "F6"], "Leave the terminal with the keyboard"],
    ],
  },
  {
    title: "Timeline and replay",
    keys: [
      [["Space"], "Play or stop"],
      [["←"], "Five seconds back"],
      [["→"], "Five seconds on"],
      [["j"], "Next event of the kinds shown"],
      [["k"], "Event before"],
      [["Shift", "C"], "Next command"],
      [["Shift", "F"], "Next file change"],
      [["Shift", "M"], "Next model call"],
      [["Shift", "D"], "Next deduction of trust"],
    ],
  },
  {
    title: "Editor",
    keys: [
      [["Ctrl", "S"], "Save into the sandbox"],
      [["Ctrl", "F"], "Find in the file"],
    ],
  },
];

export function ShortcutsPage() {
  useTitle("Shortcuts");
  return (
    <section class="page">
      <h1>Keyboard shortcuts</h1>
      <div class="cards">
        {groups.map((g) => (
          <div class="card" key={g.title}>
            <header>
              <h2>{g.title}</h2>
            </header>
            <dl class="in keys">
              {g.keys.map(([keys, what]) => (
                <div key={what}>
                  <dt>
                    {keys.map((k) => (
                      <kbd key={k}>{k}</kbd>
                    ))}
                  </dt>
                  <dd>{what}</dd>
                </div>
              ))}
            </dl>
          </div>
        ))}
      </div>
    </section>
  );
}
