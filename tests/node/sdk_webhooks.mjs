// verifyWebhook on each delivery that is given: what it says, or why it refuses.
const { client, deliveries } = JSON.parse(process.argv[2]);
const { verifyWebhook } = await import(client);
const said = [];
for (const { body, headers, secret, as } of deliveries) {
  try {
    const given = as === "bytes" ? new TextEncoder().encode(body) : body;
    said.push((await verifyWebhook(given, as === "bytes" ? new Headers(headers) : headers, secret)).delivery_id);
  } catch (error) {
    said.push(error.name);
  }
}
console.log(JSON.stringify(said));
