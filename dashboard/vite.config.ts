// One bundle for the first page, chunks for what only some pages need (terminal, editor, charts).
// Every text is packed beside itself, so that the server never compresses.
import { readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { defineConfig, type Plugin } from "vite";

function packed(): Plugin {
  let out = "";
  return {
    name: "packed",
    apply: "build",
    configResolved(config) {
      out = config.build.outDir;
    },
    closeBundle() {
      for (const folder of [out, join(out, "assets")])
        for (const name of readdirSync(folder)) {
          const path = join(folder, name);
          if (!/\.(html|js|css|svg)$/.test(name) || !statSync(path).isFile()) continue;
          const text = readFileSync(path);
          const small = gzipSync(text, { level: 9 });
          if (small.length < text.length) writeFileSync(`${path}.gz`, small);
        }
    },
  };
}

export default defineConfig({
  plugins: [packed()],
  oxc: { jsx: { runtime: "automatic", importSource: "preact" } },
  build: {
    target: "es2022",
    outDir: process.env["CAGED_DASHBOARD_OUT"] ?? "dist",
    emptyOutDir: true,
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 900,
  },
  // `npm run dev` beside a running server: CAGED_API_URL says where it is
  server: { proxy: { "/v1": { target: process.env["CAGED_API_URL"] ?? "http://127.0.0.1:7878", ws: true } } },
});
