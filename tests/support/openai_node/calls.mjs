// Calls a service with OpenAI's official client, as `calls.mjs BASE_URL CALL [KEY]` says; prints what came of it as JSON.
import OpenAI from "openai";

const [baseURL, wanted, apiKey = "none"] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0, timeout: 20_000 });
const messages = [{ role: "user", content: "hello" }];
const model = "gearshift";
const weather = {
  type: "function",
  function: {
    name: "weather",
    description: "The weather of a place.",
    parameters: { type: "object", properties: { place: { type: "string" } }, required: ["place"] },
    parse: JSON.parse,
    function: ({ place }) => `sun in ${place}`,
  },
};

const calls = {
  async whole() {
    const { data, request_id: id, response } = await client.chat.completions.create({ model, messages }).withResponse();
    return { text: data.choices[0].message.content, model: data.model, id, served: response.headers.get("x-gearshift-model") };
  },
  async streamed() {
    const stream = await client.chat.completions.create({ model, messages, stream: true, stream_options: { include_usage: true } });
    let text = "";
    let usage;
    let finish;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      finish = chunk.choices[0]?.finish_reason ?? finish;
      usage = chunk.usage ?? usage;
    }
    return { text, finish, total: usage?.total_tokens };
  },
  async tools() {
    const runner = client.chat.completions.runTools({ model, messages, tools: [weather] });
    const text = await runner.finalContent();
    return { text, results: runner.messages.filter(({ role }) => role === "tool").map(({ content }) => content) };
  },
  async schema() {
    const schema = { type: "object", properties: { item: { type: "string" }, count: { type: "integer" } }, required: ["item", "count"], additionalProperties: false };
    const answer = await client.chat.completions.parse({
      model, messages, response_format: { type: "json_schema", json_schema: { name: "order", strict: true, schema } },
    });
    return { order: JSON.parse(answer.choices[0].message.content), model: answer.model };
  },
  async vectors() {
    const { data } = await client.embeddings.create({ model, input: ["a", "b"] });
    return data.map(({ embedding }) => [...embedding]);
  },
  async models() {
    const names = [];
    for await (const each of client.models.list()) {
      names.push(each.id);
    }
    return { names, one: (await client.models.retrieve("chain:generate")).id };
  },
  async refused() {
    const told = [];
    for (const more of [{ n: 2 }, { logprobs: true }, { temprature: 1 }, { frequency_penalty: 1 }, { model: "gpt-9" }]) {
      told.push(await failing(() => client.chat.completions.create({ model, messages, ...more })));
    }
    return told;
  },
  async broken() {
    let text = "";
    const error = await failing(async () => {
      for await (const chunk of await client.chat.completions.create({ model, messages, stream: true })) {
        text += chunk.choices[0]?.delta.content ?? "";
      }
    });
    return { text, ...error };
  },
  async left() {
    const stream = await client.chat.completions.create({ model, messages, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) {
        break; // which aborts the request
      }
    }
    return {};
  },
};

async function failing(call) {
  try {
    await call();
  } catch (error) {
    return { kind: error.constructor.name, code: error.code, param: error.param, status: error.status ?? null };
  }
  return { kind: "none" };
}

console.log(JSON.stringify(await calls[wanted]()));
