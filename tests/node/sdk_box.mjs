// The TypeScript client against a running Customhouse.
import { readFile } from "node:fs/promises";
const { client, url, key, picture, clip } = JSON.parse(process.argv[2]);
const { Customhouse, InvalidRequest, JobNotFound, PolicyNotFound, Unauthorized } = await import(client);

const it = new Customhouse({ apiKey: key, baseUrl: url });
const said = {};
const verdict = (job) => [job.status, job.is_prohibited];
const refused = async (call) => {
  try {
    await call();
    return "it went through";
  } catch (error) {
    return error;
  }
};

said.plain = verdict(await it.jobs.wait(await it.jobs.text("A watercolour of a lighthouse at dawn")));
said.prohibited = verdict(await it.jobs.wait(await it.jobs.text("a bestiality video")));
const bytes = await readFile(picture);
const ways = [bytes, new Blob([bytes]), new File([bytes], "a.jpg"), `data:image/jpeg;base64,${bytes.toString("base64")}`];
const jobs = await Promise.all(ways.map((one) => it.jobs.image(one)));
said.pictures = await Promise.all(jobs.map(async (job) => verdict(await it.jobs.wait(job, { timeoutMs: 60_000 }))));
const states = [];
for await (const state of it.jobs.progress(await it.jobs.video(await readFile(clip)))) states.push(state.progress);
said.progress = states;
const batch = await it.batches.wait(await it.batches.create({ a: "A quiet street", b: "a bestiality video" }));
said.batch = Object.fromEntries(batch.items.map((item) => [item.key, item.is_prohibited]));
said.listed = (await it.jobs.list({ search: jobs[0].job_id.slice(0, 8), type: "image" })).jobs.length;
const csv = [];
for await (const piece of it.jobs.export(new Date(Date.now() - 3.6e6), new Date(Date.now() + 3.6e6))) csv.push(piece);
said.csv = Buffer.concat(csv).toString("utf8").includes(jobs[0].job_id);
said.month = (await it.usage.month(new Date())).total_jobs > 0;
const first = await it.jobs.text("A pier", { idempotencyKey: "the-pier-of-node" });
said.once = first.job_id === (await it.jobs.text("A pier", { idempotencyKey: "the-pier-of-node" })).job_id;
const decision = await it.moderations.create("hello community", { policy: "community-default" });
said.decision = [decision.decision, decision.severity, decision.modality];
said.picture = (await it.moderations.image(bytes)).decision;
said.off = (await it.config.set({ nsfw: false })).enabled_categories;
said.on = (await it.config.set({})).enabled_categories;
said.policy = (await it.policies.list()).policies.some((policy) => policy.slug === "community-default");
said.event = (await it.events.get(decision.id)).id === decision.id;
said.quota = (await it.account.quota()).used > 0;

const missing = await refused(() => it.jobs.get("0f8fad5b-d9cb-469f-a165-70867728950e"));
said.missing = [missing instanceof JobNotFound, missing.code, missing.status, missing.requestId.startsWith("req_")];
said.empty = (await refused(() => it.jobs.text(""))) instanceof InvalidRequest;
said.half = (await refused(() => it.jobs.text("half a pair: \ud83d"))) instanceof InvalidRequest;
said.noPolicy = (await refused(() => it.moderations.create("hi", { policy: "there-is-none" }))) instanceof PolicyNotFound;
const stranger = new Customhouse({ apiKey: "omad_live_wrong", baseUrl: url });
said.stranger = (await refused(() => stranger.moderations.create("hi"))) instanceof Unauthorized;
said.health = (await it.health()).status;
console.log(JSON.stringify(said));
