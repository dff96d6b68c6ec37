// Style sheets of libraries under the page's policy. xterm and CodeMirror write their rules into style
// elements, and xterm colours into style attributes of spans; the policy refuses both. Style elements
// made inside of ownSheets are stand-ins that keep their rules in constructed sheets, and spans set
// their style through the object model. The policy allows both, for neither can come out of text that
// was put into the page.
const create = Document.prototype.createElement.bind(document) as (name: string, options?: ElementCreationOptions) => HTMLElement;

function standIn(): HTMLElement {
  const el = create("template");
  const sheet = new CSSStyleSheet();
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
  Object.defineProperty(el, "textContent", { set: (text: string) => sheet.replaceSync(text), get: () => "" });
  const remove = el.remove.bind(el);
  el.remove = () => {
    document.adoptedStyleSheets = document.adoptedStyleSheets.filter((s) => s !== sheet);
    remove();
  };
  return el;
}

HTMLSpanElement.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else Element.prototype.setAttribute.call(this, name, value);
};

/** Runs what makes style elements: synchronous, and nothing that it makes is a style element. */
export function ownSheets<T>(run: () => T): T {
  document.createElement = ((name: string, options?: ElementCreationOptions) => (name === "style" ? standIn() : create(name, options))) as typeof document.createElement;
  try {
    return run();
  } finally {
    delete (document as { createElement?: unknown }).createElement; // the prototype's own again
  }
}
