// Every method of the TypeScript client, over a fetch that only writes down what it is asked for.
const { Customhouse } = await import(JSON.parse(process.argv[2]).client);

const asked = [];
let name = "";
const fetch = async (url, init) => {
  const { pathname, searchParams } = new URL(url);
  const isJson = typeof init.body === "string";
  asked.push({
    name,
    verb: init.method,
    path: pathname,
    query: [...searchParams.keys()],
    headers: Object.keys(init.headers).map((one) => one.toLowerCase()),
    json: isJson ? JSON.parse(init.body) : null,
    parts: init.body instanceof FormData ? [...init.body.keys()] : null,
  });
  const events = 'id: 1\ndata: {"status": "completed"}\n\n';
  return new Response(pathname.endsWith("/progress") ? events : "{}", { status: 200 });
};
const it = new Customhouse({ apiKey: "k", baseUrl: "http://box", fetch });
const bytes = new Uint8Array([1]);
const range = { from: "2026-05-01", to: new Date(0) };
const webhookUrl = "https://example.com/hook";
const state = { name: "n", system_prompt: "q", description: "d", enabled: true, applies_to: ["image"] };
const drained = async (pieces) => {
  for await (const _ of pieces);
};

const calls = {
  "jobs.text": () => it.jobs.text("t", { webhookUrl }),
  "jobs.image": () => it.jobs.image("https://example.com/a.jpg", { webhookUrl }),
  "jobs.image ": () => it.jobs.image(bytes, { webhookUrl }),
  "jobs.video": () => it.jobs.video(new URL("https://example.com/a.mp4")),
  "jobs.video ": () => it.jobs.video(new Blob([bytes])),
  "jobs.get": () => it.jobs.get({ job_id: "j" }),
  "jobs.list": () =>
    it.jobs.list({ ...range, limit: 1, offset: 1, type: "image", decision: "pass", status: ["queued"], search: "a" }),
  "jobs.export": () => drained(it.jobs.export(range.from, range.to)),
  "jobs.progress": () => drained(it.jobs.progress("j")),
  "batches.create": () => it.batches.create({ a: "t" }, { webhookUrl }),
  "batches.get": () => it.batches.get("b"),
  "moderations.create": () =>
    it.moderations.create("t", { policy: "p", language: "en", forceFresh: true, metadata: { external_id: "1" } }),
  "moderations.image": () => it.moderations.image(bytes, { policy: "p" }),
  "events.list": () =>
    it.events.list({
      ...range,
      limit: 1,
      cursor: "c",
      decision: "flag",
      policy: "p",
      externalId: "1",
      language: "en",
      origin: "omnimod",
    }),
  "events.get": () => it.events.get("mev_1"),
  "policies.list": () => it.policies.list(),
  "policies.get": () => it.policies.get("p"),
  "policies.versions": () => it.policies.versions("p"),
  "account.quota": () => it.account.quota(),
  "account.plans": () => it.account.plans(),
  "account.organisation": () => it.account.organisation(),
  "account.overview": () => it.account.overview(),
  "usage.moderations": () => it.usage.moderations("2026-05"),
  "usage.month": () => it.usage.month(new Date(0)),
  "usage.volume": () => it.usage.volume("day"),
  "usage.cost": () => it.usage.cost("day"),
  "usage.rejections": () => it.usage.rejections("day"),
  "config.get": () => it.config.get(),
  "config.set": () => it.config.set({ nsfw: false, ai_adult_general: false, underage: false, text: false }),
  "config.promptSteps": () => it.config.promptSteps(),
  "config.setPromptSteps": () => it.config.setPromptSteps({ spam: 0.8 }),
  "categories.defaults": () => it.categories.defaults(),
  "categories.list": () => it.categories.list(),
  "categories.create": () => it.categories.create({ ...state, slug: "s" }),
  "categories.change": () => it.categories.change("c", state),
  "categories.remove": () => it.categories.remove("c"),
  "categories.versions": () => it.categories.versions("c"),
  "categories.tryQuestion": () => it.categories.tryQuestion("q", { text: "t" }),
  "categories.tryQuestion ": () => it.categories.tryQuestion("q", { image: bytes }),
  "categories.tryCategory": () =>
    it.categories.tryCategory("c", { image: "https://example.com/a.jpg" }, { systemPrompt: "q" }),
  "webhooks.register": () => it.webhooks.register(webhookUrl),
  "webhooks.unregister": () => it.webhooks.unregister(),
  "webhooks.secrets": () => it.webhooks.secrets(),
  "webhooks.revealSecret": () => it.webhooks.revealSecret(),
  "webhooks.rotateSecret": () => it.webhooks.rotateSecret(),
  health: () => it.health(),
};
for (const [method, call] of Object.entries(calls)) {
  name = method.trim();
  await call();
}
const methods = Object.entries(it).flatMap(([room, one]) =>
  Object.getOwnPropertyNames(Object.getPrototypeOf(one))
    .filter((method) => !["constructor", "wait"].includes(method))
    .map((method) => `${room}.${method}`),
);
console.log(JSON.stringify({ asked, methods: [...methods, "health"] }));
