// OpenAI's own SDK, as it comes: verdicts and errors, as it hands them on.
import OpenAI from "openai";

const given = JSON.parse(process.argv[2]);
const client = new OpenAI({ apiKey: given.key, baseURL: given.base, maxRetries: 0 });
const other = (apiKey, baseURL = given.base) => new OpenAI({ apiKey, baseURL, maxRetries: 0 });
const flags = async (input) => (await client.moderations.create({ input })).results.map((one) => one.flagged);
const refused = async (asked) => {
  try {
    await asked;
    return null;
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
};

const parts = await client.moderations.create({
  model: "omni-moderation-latest",
  input: [
    { type: "text", text: given.insult },
    { type: "image_url", image_url: { url: given.picture } },
  ],
});
const models = [];
for await (const model of client.models.list()) models.push(model.id);

console.log(
  JSON.stringify({
    flagged: [...(await flags(given.kind)), ...(await flags(given.insult))],
    list: await flags([given.insult, given.kind]),
    parts: {
      results: parts.results.length,
      flagged: parts.results[0].flagged,
      sexual: parts.results[0].category_applied_input_types.sexual,
    },
    models,
    wrong_key: await refused(other("sk-nobody").moderations.create({ input: given.kind })),
    no_input: await refused(client.moderations.create({ input: "" })),
    no_model: await refused(client.moderations.create({ model: "customhouse/nobody", input: given.kind })),
    no_quota: await refused(other(given.poor).moderations.create({ input: given.kind })),
    down: await refused(other(given.bare_key, given.bare).moderations.create({ input: given.kind })),
  }),
);
