// A finished sandbox whose record is large: a real one, made and destroyed, whose lines are then replaced by many
// more of the record's own writer. For tests and figures of what reads records.
import { spawnSync } from "node:child_process";
import { chownSync, mkdirSync, readdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { root } from "./lib.mjs";

const build = join(root, process.env.BUILD ?? "build");

function run(program, args) {
  const done = spawnSync(program, args, { encoding: "utf8" });
  if (done.status !== 0) throw new Error(`${program} ${args.join(" ")}: ${done.stdout}${done.stderr}`);
}

/** The id of a destroyed sandbox with so many events; the server is stopped meanwhile. */
export async function largeSandbox(server, events, body = {}) {
  const id = (await server.create({ name: "large", ...body })).id;
  await server.api("DELETE", `/v1/sandboxes/${id}`);
  server.stop();
  const maker = join(server.dir, "record_maker");
  const libraries = ["record", "base"].map((name) => join(build, `src/libcg_${name}.a`));
  run("cc", ["-std=c17", "-D_GNU_SOURCE", "-O2", `-I${join(root, "src")}`, join(root, "tests/bench/record_maker.c"), "-o", maker, ...libraries, "-lsodium", "-lzstd", "-lcrypto"]);
  const record = join(server.state, "archive", id, "record");
  const owner = statSync(record);
  rmSync(record, { recursive: true });
  rmSync(join(server.state, "index", id), { recursive: true, force: true });
  mkdirSync(record, { mode: owner.mode & 0o7777 });
  run(maker, [record, id, String(events)]);
  for (const path of [record, ...readdirSync(record, { recursive: true }).map((name) => join(record, name))]) chownSync(path, owner.uid, owner.gid);
  server.start();
  // connections that were kept lead to the server before
  for (let i = 0; !(await server.api("GET", `/v1/sandboxes/${id}`).catch(() => null)); i++) {
    if (i === 50) throw new Error("the server does not answer");
    await new Promise((done) => setTimeout(done, 100));
  }
  return id;
}
