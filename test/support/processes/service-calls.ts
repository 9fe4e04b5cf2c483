import type { DomainEntry } from '@copal/shared/wire/admin-domains.ts'
import type OpenAI from 'openai'
import { until, type Service } from './service.ts'

/** Calls the API with the service's key. Sends a string body as it is. */
export function post(service: Service, path: string, body: unknown): Promise<Response> {
  return fetch(`${service.baseUrl}${path}`, {
    method: 'POST',
    headers: { authorization: `Bearer ${service.apiKey}`, 'content-type': 'application/json' },
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

/** Imports texts into a domain. */
export async function importTexts(
  service: Pick<Service, 'admin'>,
  domain: string,
  texts: readonly string[],
): Promise<void> {
  await service.admin('POST', `/admin/domains/${domain}/texts`, { texts })
}

/** Waits until the domains have so many texts, held-out ones included. Returns all domains. */
export function untilSampled(
  service: Pick<Service, 'admin'>,
  counts: Record<string, number>,
): Promise<DomainEntry[]> {
  return until(`the texts of ${Object.keys(counts).join(' and ')}`, async () => {
    const { data } = await service.admin<{ data: DomainEntry[] }>('GET', '/admin/domains')
    const hasAll = Object.entries(counts).every(([name, count]) =>
      data.some((domain) => domain.name === name && domain.samples + domain.holdout_samples === count),
    )
    return hasAll ? data : undefined
  })
}
