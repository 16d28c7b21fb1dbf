// Real servers on the machine's loopback, and a virtual host that relays to them.

import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";

export const PASSWORD = "a password of tests";

const POSTGRESQL = "/usr/lib/postgresql";

/** The folder of PostgreSQL's programs, or undefined where it cannot be run. */
export function findPostgresql() {
  if (process.getuid?.() !== 0 || !existsSync(POSTGRESQL)) return undefined;
  const folders = readdirSync(POSTGRESQL).map((version) => join(POSTGRESQL, version, "bin"));
  return folders.find((folder) => existsSync(join(folder, "initdb")) && existsSync(join(folder, "postgres")));
}

export function findRedis() {
  return (process.env.PATH ?? "")
    .split(":")
    .map((folder) => join(folder, "redis-server"))
    .find(existsSync);
}

async function freePort() {
  const server = net.createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

function folder(owner) {
  const name = mkdtempSync(join(tmpdir(), "server-"));
  after(() => rmSync(name, { recursive: true, force: true }));
  if (owner) chownSync(name, owner.uid, owner.gid);
  return name;
}

/** Starts a server, and resolves when it has written `ready`; it ends with the tests. */
async function start(program, args, options, ready, signal) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  after(async () => {
    if (child.exitCode !== null || child.signalCode) return;
    child.kill(signal);
    await once(child, "exit");
  });
  let text = "";
  await new Promise((resolve, reject) => {
    const read = (chunk) => {
      text += chunk;
      if (text.includes(ready)) resolve();
    };
    child.stdout.on("data", read);
    child.stderr.on("data", read);
    child.on("error", reject);
    child.on("exit", (code) => reject(new Error(`${program} ended with ${code}: ${text}`)));
  });
}

/** Runs PostgreSQL for the user "us" with `PASSWORD`, and returns its port. */
export async function runPostgresql(programs) {
  const id = (flag) => Number(execFileSync("id", [flag, "postgres"], { encoding: "utf8" }));
  const owner = { uid: id("-u"), gid: id("-g") }; // it refuses to run as root
  const home = folder(owner);
  const file = join(home, "password");
  writeFileSync(file, PASSWORD, { mode: 0o644 });
  const data = join(home, "data");
  const options = { ...owner, cwd: home };
  const made = [
    "--no-sync",
    "--no-instructions",
    "--locale=C.UTF-8",
    "--auth=scram-sha-256",
    "--username=us",
    `--pwfile=${file}`,
    `--pgdata=${data}`,
  ];
  execFileSync(join(programs, "initdb"), made, { ...options, stdio: "pipe" });
  const port = await freePort();
  const settings = { port, listen_addresses: "127.0.0.1", unix_socket_directories: "", fsync: "off" };
  const given = Object.entries(settings).flatMap(([name, value]) => ["-c", `${name}=${value}`]);
  await start(join(programs, "postgres"), ["-D", data, ...given], options, "ready to accept connections", "SIGINT");
  return port;
}

/** Runs Redis, and returns its port. */
export async function runRedis(program) {
  const port = await freePort();
  const args = ["--port", String(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder()];
  await start(program, args, {}, "Ready to accept connections", "SIGTERM");
  return port;
}

/** Makes a virtual host pass on connections at one of its ports to a port of the machine. `of`: the host's `net`. */
export async function relay(of, port, target) {
  const server = of.createServer({ allowHalfOpen: true }, (socket) => {
    const real = net.connect({ host: "127.0.0.1", port: target, allowHalfOpen: true });
    socket.pipe(real).pipe(socket);
    socket.on("error", () => real.destroy());
    real.on("error", () => socket.destroy());
  });
  server.listen(port);
  await once(server, "listening");
}
