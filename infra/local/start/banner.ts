/** What a newcomer needs to make the first call. */
export interface Banner {
  /** `http://127.0.0.1:8787` */
  origin: string
  apiKey: string
  adminKey: string
  model: string
  /** `dense`, or the mask that serves. */
  serving: string
  credentialsPath: string
}

/** How to call the service, as text whose commands work as pasted. */
export function renderBanner({ origin, apiKey, adminKey, model, serving, credentialsPath }: Banner): string {
  const question = 'What is the capital of France?'
  return `
copal serves ${model} (${serving})

  Base URL   ${origin}  (for OpenAI clients: ${origin}/v1)
  API key    ${apiKey}
  Admin key  ${adminKey}
  (also in ${credentialsPath})

Try it with curl:

curl -s ${origin}/v1/chat/completions -H 'Authorization: Bearer ${apiKey}' -H 'Content-Type: application/json' -d '{"model":"${model}","messages":[{"role":"user","content":"${question}"}],"max_tokens":64,"temperature":0}'

Or with the openai client, here in the checkout:

node --input-type=module <<'END'
import OpenAI from 'openai'
const client = new OpenAI({ baseURL: '${origin}/v1', apiKey: '${apiKey}' })
const stream = await client.chat.completions.create({ model: '${model}', messages: [{ role: 'user', content: '${question}' }], max_tokens: 64, temperature: 0, stream: true })
for await (const chunk of stream) process.stdout.write(chunk.choices[0]?.delta?.content ?? '')
console.log()
END

In a second terminal: npx copal status, npx copal --help, npm run demo. Ctrl-C stops the service; keys, masks and domains stay.
`
}
