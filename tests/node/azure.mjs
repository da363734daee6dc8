// Azure AI Content Safety's own REST client, as it comes: texts, pictures, blocklists in pages, and errors.
import ContentSafety, { isUnexpected, paginate } from "@azure-rest/ai-content-safety";

const given = JSON.parse(process.argv[2]);
const plain = { allowInsecureConnection: true };
const client = ContentSafety(given.base, { key: given.key }, plain);
const refused = async (asked) => {
  const answer = await asked;
  return isUnexpected(answer)
    ? [answer.status, answer.body.error.code, answer.headers["x-ms-error-code"], answer.body.error.target ?? null]
    : null;
};
const severities = (answer) =>
  isUnexpected(answer)
    ? answer.body
    : Object.fromEntries(answer.body.categoriesAnalysis.map((one) => [one.category, one.severity ?? null]));
const analyzed = (body) => client.path("/text:analyze").post({ body });
const list = client.path("/text/blocklists/{blocklistName}", "node-shops");

const made = await list.patch({
  contentType: "application/merge-patch+json",
  body: { description: "from Node" },
});
const changed = await list.patch({ contentType: "application/merge-patch+json", body: { description: "again" } });
const added = await client
  .path("/text/blocklists/{blocklistName}:addOrUpdateBlocklistItems", "node-shops")
  .post({ body: { blocklistItems: [{ text: "flibberstore" }, { text: "corner market" }, { text: "quincery" }] } });
const items = [];
const first = await client
  .path("/text/blocklists/{blocklistName}/blocklistItems", "node-shops")
  .get({ queryParameters: { maxpagesize: 2 } });
for await (const one of paginate(client, first)) items.push(one.text);
const matched = await analyzed({ text: "At the c.o.r.n.e.r market.", blocklistNames: ["node-shops"] });
const removed = await client
  .path("/text/blocklists/{blocklistName}:removeBlocklistItems", "node-shops")
  .post({ body: { blocklistItemIds: added.body.blocklistItems.map((one) => one.blocklistItemId) } });
const gone = await list.delete();

console.log(
  JSON.stringify({
    violent: severities(await analyzed({ text: given.violent, outputType: "EightSeverityLevels" })),
    kind: severities(await analyzed({ text: given.kind })),
    picture: severities(await client.path("/image:analyze").post({ body: { image: { content: given.picture } } })),
    statuses: [made.status, changed.status, added.status, removed.status, gone.status],
    items,
    pages: first.body.nextLink !== undefined,
    matched: matched.body.blocklistsMatch.map((one) => one.blocklistItemText),
    no_text: await refused(analyzed({})),
    no_list: await refused(client.path("/text/blocklists/{blocklistName}", "nowhere").get()),
    wrong_key: await refused(
      ContentSafety(given.base, { key: "wrong" }, plain).path("/text:analyze").post({ body: { text: "a" } }),
    ),
    wrong_version: await refused(
      ContentSafety(given.base, { key: given.key }, { ...plain, apiVersion: "2019-01-01" })
        .path("/text:analyze")
        .post({ body: { text: "a" } }),
    ),
  }),
);
