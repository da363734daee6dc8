// The TypeScript client against a server that fails on purpose: which calls it makes, the test's script decides.
const { client, url, act, retries = 3 } = JSON.parse(process.argv[2]);
const { Customhouse } = await import(client);
const it = new Customhouse({ apiKey: "k", baseUrl: url, retries });

const acts = {
  text: () => it.jobs.text("hello"),
  picture: () => it.jobs.image(new File([new Uint8Array(100_000).fill(65)], "a.png")),
  rotate: () => it.webhooks.rotateSecret(),
  list: () => it.jobs.list(),
  moderate: () => it.moderations.create("hello"),
  wait: () => it.jobs.wait("j", { timeoutMs: 300 }),
  abort: () => it.jobs.wait("j", { signal: AbortSignal.timeout(300) }),
  async progress() {
    const shown = [];
    for await (const state of it.jobs.progress("j")) shown.push(state.progress);
    return shown;
  },
};
try {
  console.log(JSON.stringify({ answer: await acts[act]() }));
} catch (error) {
  const { name, message, code, status, retryAfterSeconds, idempotencyKey } = error;
  console.log(JSON.stringify({ name, message, code, status, retryAfterSeconds, idempotencyKey }));
}
