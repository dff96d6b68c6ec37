// A value that components watch.
import { useEffect, useState } from "preact/hooks";

export class Store<T> {
  private watchers = new Set<() => void>();
  constructor(private current: T) {}

  get value(): T {
    return this.current;
  }
  set value(next: T) {
    if (Object.is(next, this.current)) return;
    this.current = next;
    for (const tell of [...this.watchers]) tell();
  }
  watch(tell: () => void): () => void {
    this.watchers.add(tell);
    return () => this.watchers.delete(tell);
  }
}

export function useStore<T>(store: Store<T>): T {
  const [, again] = useState(0);
  const rendered = store.value;
  useEffect(() => {
    const off = store.watch(() => again((n) => n + 1));
    if (rendered !== store.value) again((n) => n + 1); // it changed between rendering and watching
    return off;
  }, [store]);
  return rendered;
}
