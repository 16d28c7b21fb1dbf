// The page with two virtual hosts, in Chromium: payloads, the capture, and timers of the page during a transfer.

import assert from "node:assert/strict";
import test from "node:test";
import { servePages } from "../../examples/serve.mjs";
import { missing, openPage } from "./chromium.mjs";

test("two hosts in a page: verified payloads, timers that fire, a capture", { skip: missing }, async (t) => {
  const { server, origin } = await servePages();
  t.after(() => server.close());
  const { page, errors } = await openPage(t);
  // When each slice of the stacks' work has begun: they ask for one by a posted task.
  await page.evaluateOnNewDocument(() => {
    window.slices = [];
    const post = scheduler.postTask.bind(scheduler);
    scheduler.postTask = (callback, ...options) =>
      post(
        () => {
          window.slices.push(performance.now());
          callback();
        },
        ...options,
      );
  });
  await page.goto(`${origin}/examples/hosts.html`);
  await page.waitForSelector("#fetch:enabled");

  const { outcome, slices, timers } = await page.evaluate(async () => {
    const status = document.getElementById("outcome");
    const timers = []; // slices of the stacks that began between the time at which each was due, and its callback
    document.getElementById("fetch").click();
    while (!status.textContent) {
      const due = performance.now() + 10;
      await new Promise((resolve) => setTimeout(resolve, 10));
      timers.push(window.slices.filter((begun) => begun > due).length);
    }
    return { outcome: status.textContent, slices: window.slices.length, timers };
  });
  assert.equal(outcome, `${16 * 1024 * 1024} bytes verified`);
  t.diagnostic(`${slices} slices, ${timers.length} timers, after at most ${Math.max(...timers)} slices`);
  // How late a timer is depends on the machine; how much goes before it does not.
  assert(slices > 10 && timers.length > 2, `${slices} slices, ${timers.length} timers`);
  assert(Math.max(...timers) <= 2, `a timer waited for ${Math.max(...timers)} slices of the stacks`);

  assert(
    await page.evaluate(() => document.styleSheets[0].cssRules.length > 0),
    "the pages' style sheet is not served",
  );
  const shown = await page.$eval("#figures", ({ innerText }) => innerText);
  assert.match(shown, /MiB received\s+16\.0/);
  assert(Number(shown.match(/sent by 10\.0\.0\.2\s+(\d+)/)[1]) > 10_000, shown);

  // The link's frames, whole: ARP first, then the request.
  const capture = await page.evaluate(async () => {
    const link = document.getElementById("pcap");
    link.addEventListener("click", (event) => event.preventDefault());
    link.click();
    return link.href.startsWith("blob:");
  });
  assert(capture);
  const encoded = await page.evaluate(
    () =>
      new Promise((resolve, reject) => {
        const request = new XMLHttpRequest();
        request.responseType = "arraybuffer";
        request.open("GET", document.getElementById("pcap").href);
        request.onload = () => {
          let text = "";
          for (const byte of new Uint8Array(request.response)) text += String.fromCharCode(byte);
          resolve(btoa(text));
        };
        request.onerror = () => reject(new Error("the capture cannot be read"));
        request.send();
      }),
  );
  const pcap = Buffer.from(encoded, "base64");
  assert.deepEqual([pcap.readUInt32LE(0), pcap.readUInt32LE(20)], [0xa1b2c3d4, 1]);
  const frames = [];
  for (let at = 24; at < pcap.length;) {
    const length = pcap.readUInt32LE(at + 8);
    frames.push(pcap.subarray(at + 16, at + 16 + length));
    at += 16 + length;
    assert(at <= pcap.length);
  }
  assert(frames.length > 1000);
  assert.equal(frames[0].readUInt16BE(12), 0x0806);
  assert(frames.some((frame) => frame.includes("GET /?bytes=16777216 HTTP/1.1\r\n")));
  assert(frames.some((frame) => frame.includes("HTTP/1.1 200 ")));
  assert.deepEqual(errors, []);
});
