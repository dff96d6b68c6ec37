// Pages and parts that come as a chunk of their own when they are first shown.
import type { ComponentType } from "preact";
import { useEffect, useState } from "preact/hooks";
import { Failure, Loading } from "./parts";

export function lazy<P extends object>(load: () => Promise<ComponentType<P>>, what: string): ComponentType<P> {
  let loaded: ComponentType<P> | null = null;
  return function Lazy(props: P) {
    const [, again] = useState(0);
    const [error, setError] = useState<Error | null>(null);
    const fetchIt = () => {
      setError(null);
      load().then(
        (c) => {
          loaded = c;
          again((n) => n + 1);
        },
        () => setError(new Error("This part of the page could not be fetched: the server is away, or was updated. Reload the page.")),
      );
    };
    useEffect(() => {
      if (!loaded) fetchIt();
    }, []);
    if (error) return <Failure error={error} retry={() => location.reload()} />;
    if (!loaded) return <Loading what={what} />;
    const Loaded = loaded;
    return <Loaded {...props} />;
  };
}
