import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { SamplingPolicy } from '@copal/shared/wire/admin-keys.ts'
import type { ChatCall } from '@copal/shared/wire/node-calls.ts'
import { sendHeartbeat, createKey, post, until } from '../../support/requests/gateway-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'

const reservoir = (domain: string) => env.RESERVOIR.get(env.RESERVOIR.idFromName(domain))

test('text is stored redacted in its domain if and only if key and request consent, and the node gets the same decision', async () => {
  const node = await startNode('sampling-1', [{ kind: 'answer', body: '{}' }])
  await sendHeartbeat(node, 'sampling')
  const cases: [SamplingPolicy, string | undefined, boolean][] = [
    ['never', undefined, false],
    ['never', 'true', false],
    ['opt_in', undefined, false],
    ['opt_in', 'true', true],
    ['opt_in', 'false', false],
    ['always', undefined, true],
    ['always', 'false', false],
  ]
  for (const [sampling, header] of cases) {
    const { key } = await createKey({ sampling, defaultDomain: 'consent' })
    const content = `Asked under ${sampling} with the header ${header} by jane@example.org.`
    const headers: Record<string, string> = header === undefined ? {} : { 'x-copal-sample': header }
    const response = await post(
      key,
      '/v1/chat/completions',
      { model: 'sampling', messages: [{ role: 'user', content }] },
      { headers },
    )
    expect(response.status).toBe(200)
  }
  const told = (await node.calls()).map(({ body }) => (JSON.parse(body) as ChatCall).sample)
  expect(told).toEqual(cases.map(([, , sampled]) => sampled))
  const expected = [
    'Asked under always with the header undefined by [email].',
    'Asked under opt_in with the header true by [email].',
  ]
  const stored = await until('both samples', async () => {
    const { seen } = await reservoir('consent').stats()
    if (seen < expected.length) return undefined
    const kept = [...(await reservoir('consent').texts(1e6)), ...(await reservoir('consent').holdout())]
    const texts: string[] = kept.map(({ text }) => text)
    return texts.sort()
  })
  expect(stored).toEqual(expected)
})
