// The languages that the editor knows, each fetched when a file of it is opened.
import { LanguageDescription, LanguageSupport, StreamLanguage } from "@codemirror/language";

const one = (name: string, extensions: string[], load: () => Promise<LanguageSupport>, filename?: RegExp) =>
  LanguageDescription.of({ name, extensions, load, filename });

export const languages = [
  one("JavaScript", ["js", "mjs", "cjs", "jsx"], async () => (await import("@codemirror/lang-javascript")).javascript({ jsx: true })),
  one("TypeScript", ["ts", "mts", "tsx"], async () => (await import("@codemirror/lang-javascript")).javascript({ typescript: true, jsx: true })),
  one("Python", ["py", "pyi"], async () => (await import("@codemirror/lang-python")).python()),
  one("Go", ["go"], async () => (await import("@codemirror/lang-go")).go()),
  one("Rust", ["rs"], async () => (await import("@codemirror/lang-rust")).rust()),
  one("C", ["c", "h", "cc", "cpp", "hpp", "ino"], async () => (await import("@codemirror/lang-cpp")).cpp()),
  one("JSON", ["json", "jsonl"], async () => (await import("@codemirror/lang-json")).json()),
  one("YAML", ["yaml", "yml"], async () => (await import("@codemirror/lang-yaml")).yaml()),
  one("Markdown", ["md", "markdown"], async () => (await import("@codemirror/lang-markdown")).markdown()),
  one("HTML", ["html", "htm", "vue", "svelte"], async () => (await import("@codemirror/lang-html")).html()),
  one("CSS", ["css"], async () => (await import("@codemirror/lang-css")).css()),
  one("Shell", ["sh", "bash", "zsh", "bats"], async () => new LanguageSupport(StreamLanguage.define((await import("@codemirror/legacy-modes/mode/shell")).shell))),
  one("TOML", ["toml"], async () => new LanguageSupport(StreamLanguage.define((await import("@codemirror/legacy-modes/mode/toml")).toml))),
  one("Ruby", ["rb"], async () => new LanguageSupport(StreamLanguage.define((await import("@codemirror/legacy-modes/mode/ruby")).ruby))),
  one("Dockerfile", [], async () => new LanguageSupport(StreamLanguage.define((await import("@codemirror/legacy-modes/mode/dockerfile")).dockerFile)), /^Dockerfile/),
];
