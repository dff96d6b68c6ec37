// The editor, a chunk of its own. Languages come one by one, when a file needs them.
import { defaultKeymap, history, historyKeymap, indentWithTab } from "@codemirror/commands";
import { bracketMatching, defaultHighlightStyle, indentOnInput, LanguageDescription, syntaxHighlighting } from "@codemirror/language";
import { highlightSelectionMatches, search, searchKeymap } from "@codemirror/search";
import { Compartment, EditorState } from "@codemirror/state";
import { oneDarkHighlightStyle } from "@codemirror/theme-one-dark";
import { drawSelection, EditorView, highlightActiveLine, highlightSpecialChars, keymap, lineNumbers } from "@codemirror/view";
import { languages } from "./languages";
import { ownSheets } from "./sheets";
import { shown } from "./theme";

export interface Editor {
  text(): string;
  destroy(): void;
}

function look() {
  return syntaxHighlighting(shown.value === "dark" ? oneDarkHighlightStyle : defaultHighlightStyle, { fallback: true });
}

export function edit(into: HTMLElement, name: string, text: string, on: { change: () => void; save: () => void }): Editor {
  const language = new Compartment();
  const style = new Compartment();
  const state = EditorState.create({
    doc: text,
    extensions: [
      lineNumbers(),
      history(),
      drawSelection(),
      highlightSpecialChars({ addSpecialChars: /[\u200b-\u200f\u202a-\u202e\u2060-\u2069]/g }),
      highlightActiveLine(),
      highlightSelectionMatches(),
      bracketMatching(),
      indentOnInput(),
      search({ top: true }),
      EditorView.lineWrapping,
      EditorView.contentAttributes.of({ "aria-label": `Text of ${name}` }),
      style.of(look()),
      language.of([]),
      keymap.of([{ key: "Mod-s", preventDefault: true, run: () => (on.save(), true) }, ...defaultKeymap, ...historyKeymap, ...searchKeymap, indentWithTab]),
      EditorView.updateListener.of((u) => {
        if (u.docChanged) on.change();
      }),
      EditorView.theme({
        "&": { height: "100%", backgroundColor: "transparent", color: "var(--text)" },
        ".cm-scroller": { fontFamily: "var(--mono)", fontSize: "13px", lineHeight: "1.5" },
        ".cm-gutters": { backgroundColor: "transparent", color: "var(--dim)", border: "0" },
        ".cm-activeLine": { backgroundColor: "color-mix(in srgb, var(--sunk) 60%, transparent)" },
        "&.cm-focused": { outline: "none" },
        ".cm-cursor": { borderLeftColor: "var(--accent)" },
        "&.cm-focused .cm-selectionBackground, .cm-selectionBackground": { backgroundColor: "color-mix(in srgb, var(--accent) 25%, transparent) !important" },
        ".cm-panels": { backgroundColor: "var(--card)", color: "var(--text)", borderColor: "var(--line)" },
      }),
    ],
  });
  const view = ownSheets(() => new EditorView({ parent: into, state }));
  const off = shown.watch(() => view.dispatch({ effects: style.reconfigure(look()) }));
  const found = LanguageDescription.matchFilename(languages, name.split("/").pop() ?? name);
  void found?.load().then((support) => view.dispatch({ effects: language.reconfigure(support) }));
  return {
    text: () => view.state.doc.toString(),
    destroy: () => {
      off();
      view.destroy();
    },
  };
}
