/** The response cache end to end: the real gateway and a real node with the tiny model. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { sumMetric } from '../support/processes/metrics.ts'
import { until } from '../support/processes/service.ts'

let fleet: TestFleet
let key: string

beforeAll(async () => {
  fleet = await startFleet()
  key = (await fleet.key()).key
  await fleet.start('node-a')
  await until('the node', async () => ((await fleet.alive()).length > 0 ? true : undefined))
})
afterAll(() => fleet?.stop())

test.each([false, true])(
  'concurrent equal requests of several clients share one generation, streamed: %s',
  async (stream) => {
    const before = await settled()
    const answers = await Promise.all(
      Array.from({ length: 4 }, () => ask('once', stream, { 'x-copal-cache': 'true' })),
    )
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
    const told = (cache: string) => answers.filter((answer) => answer.cache === cache).length
    expect([told('miss'), told('hit')]).toEqual([1, 3])
    await fleet.settled()
    expect(await settled()).toBe(before + 1)
  },
)

async function ask(prompt: string, stream: boolean, headers: Record<string, string>) {
  const response = await fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json', ...headers },
    body: JSON.stringify({
      model: 'tiny',
      prompt,
      // Long enough for the other requests to arrive meanwhile. It never ends by itself.
      max_tokens: 400,
      logit_bias: { 2: -100 },
      temperature: 0,
      stream,
    }),
  })
  const text = await response.text()
  if (!response.ok) throw new Error(`HTTP ${response.status}: ${text}`)
  return { text, cache: response.headers.get('x-copal-cache') }
}

/** Returns the number of settled requests. */
async function settled(): Promise<number> {
  return sumMetric(await fleet.admin<string>('GET', '/metrics'), 'copal_requests_total')
}
