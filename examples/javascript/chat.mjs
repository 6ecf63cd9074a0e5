// A chat with OpenAI's JavaScript SDK: whole, streamed with its report, and with a picture.
//
//   cd examples/javascript && npm install
//   node chat.mjs [http://127.0.0.1:8000/v1]
//
// REFUSAL_SERVER_API_KEY holds the key where the server needs one.

import OpenAI from "openai";

const client = new OpenAI({
  baseURL: process.argv[2] ?? "http://127.0.0.1:8000/v1",
  apiKey: process.env.REFUSAL_SERVER_API_KEY ?? "none",
});
const [model] = (await client.models.list()).data;
// `steering` is one more field of the request; the SDK passes on what it does not know.
const asked = (content) => ({
  model: model.id,
  messages: [{ role: "user", content }],
  max_tokens: 32,
  temperature: 0,
  steering: { report: true },
});
const told = ({ policy, mode, coefficient, rows_verified: rows }) =>
  `${mode} ${policy}: coefficient ${coefficient}, ${rows} rows verified`;

const { data: whole, response } = await client.chat.completions
  .create(asked("What is the capital of France?")).withResponse();
console.log("whole:", whole.choices[0].message.content);
console.log("report:", told(whole.steering));
console.log("header:", response.headers.get("x-steering"));

let text = "", report = null;
for await (const chunk of await client.chat.completions
  .create({ ...asked("What is the capital of France?"), stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
  report = chunk.steering ?? report;
}
console.log("streamed:", text);
console.log("report:", told(report));

// A red pixel, as a data URL; files and addresses go the same way.
const pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==";
if (model.modalities?.includes("image")) {
  const seen = await client.chat.completions.create(asked([
    { type: "image_url", image_url: { url: `data:image/png;base64,${pixel}` } },
    { type: "text", text: "What is this?" },
  ]));
  console.log("picture:", seen.choices[0].message.content);
}

try {
  await client.chat.completions.create({ ...asked("Hi"), steering: { policy: "nobody's" } });
} catch (error) {
  console.log("refused:", error.status, error.code, error.message);
}
