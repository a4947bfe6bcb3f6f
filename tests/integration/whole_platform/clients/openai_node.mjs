// The newest `openai` for Node.
import OpenAI, { APIError } from "openai";

const [baseURL, factsText] = process.argv.slice(2);
const facts = JSON.parse(factsText);
const client = new OpenAI({ baseURL, apiKey: facts.key, maxRetries: 0 });
const model = facts.model;
const messages = [{ role: "user", content: "Say hello." }];
const seen = {};

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    if (!(error instanceof APIError)) throw error;
    return { class: error.constructor.name, status: error.status, code: error.code, type: error.type, message: error.message };
  }
  return { class: null };
}

async function all(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const chat = (fields = {}, key = facts.key, url = baseURL) =>
  new OpenAI({ baseURL: url, apiKey: key, maxRetries: 0 }).chat.completions.create({ model, messages, max_tokens: 8, ...fields });

const troubled = (model) => errorOf(() => chat({ model }, facts.troubled_key, facts.troubled_url + "/v1"));

seen.chat = await chat();
seen.chat_stream = await all(await chat({ stream: true, stream_options: { include_usage: true } }));
seen.chat_stream_plain = await all(await chat({ stream: true }));
seen.completion = await client.completions.create({ model, prompt: ["Once", "Twice upon"], max_tokens: 5 });
seen.completion_stream = await all(await client.completions.create({ model, prompt: "Once", max_tokens: 5, stream: true }));
seen.models = await all(await client.models.list());
seen.model = await client.models.retrieve(model);
seen.errors = {
  wrong_key: await errorOf(() => chat({}, "sk-" + "x".repeat(43))),
  revoked_key: await errorOf(() => chat({}, facts.revoked_key)),
  without_scope: await errorOf(() => chat({}, facts.unscoped_key)),
  spend_limit: await errorOf(() => chat({}, facts.limited_key)),
  unknown_model: await errorOf(() => chat({ model: "public/no-such-model" })),
  deploying: await errorOf(() => chat({ model: facts.deploying_model })),
  wrong_type: await errorOf(() => chat({ messages: "hello" })),
  out_of_range: await errorOf(() => chat({ temperature: -1 })),
  silent_engine: await troubled(facts.silent_model),
  lost_engine: await troubled(facts.breaking_model),
  no_instance: await troubled(facts.gone_model),
};
console.log(JSON.stringify(seen));
