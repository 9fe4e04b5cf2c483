import type OpenAI from 'openai'
import type { Service } from './service.ts'

/** Calls the API with the service's key. Sends a string body as it is. */
export function post(
  service: Service,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
): Promise<Response> {
  return fetch(`${service.baseUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.apiKey}`, 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })
}

/** Returns the completion tokens of finished requests, which the node counts from its first finished request on. */
export async function completionTokens(service: Service): Promise<number> {
  const text = await (await fetch(`http://127.0.0.1:${service.nodePort}/metrics`)).text()
  return Number(/^copal_node_tokens_total\{kind="completion"\} (\d+)/m.exec(text)?.[1] ?? 0)
}

/** Sends prompts of a domain, four at a time, each for two tokens. */
export async function sendTraffic(
  client: OpenAI,
  model: string,
  domain: string,
  prompts: string[],
  consent: boolean,
): Promise<void> {
  const queue = [...prompts]
  const worker = async () => {
    for (let prompt = queue.shift(); prompt !== undefined; prompt = queue.shift()) {
      await client.completions.create(
        { model, prompt, max_tokens: 2, temperature: 0 },
        { headers: { 'x-copal-domain': domain, 'x-copal-sample': String(consent) } },
      )
    }
  }
  await Promise.all([worker(), worker(), worker(), worker()])
}
