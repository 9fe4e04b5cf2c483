import { createExecutionContext, waitOnExecutionContext } from 'cloudflare:test'
import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import { createApp } from '../../../../gateway/src/app.ts'
import { generateKey } from '../../../../gateway/src/keys/key-secret.ts'
import { createKey, ORIGIN, sendHeartbeat, until } from '../../support/requests/gateway-requests.ts'
import { createLimitedKey } from '../../support/requests/limited-requests.ts'
import { startNode } from '../../support/doubles/node-double.ts'

/** The node's time for a response. */
const RESPONSE_MS = 100
/** Requests of the good tenant, one after another. */
const REQUESTS = 15
const ATTACKERS = 16
/** `npm run bench -- neighbours` measures the factor; this only notices that a neighbour stalls others. */
const MAX_FACTOR = 3
/** Refusals a second that a client gets at once, and the shortest time for which others are held back. */
const AT_ONCE = 20
const MIN_HOLD_MS = 500

/** Sends requests one after another to an isolate. */
function startIsolate() {
  const app = createApp()
  const bindings = { ...env, COPAL_REFUSALS_PER_SECOND: String(AT_ONCE) }
  return async (key: string, address: string, path = '/v1/models', body?: object) => {
    const context = createExecutionContext()
    const request = new Request(ORIGIN + path, {
      method: body ? 'POST' : 'GET',
      headers: { authorization: `Bearer ${key}`, 'cf-connecting-ip': address },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
    const response = await app.fetch(request, bindings, context)
    await response.text()
    await waitOnExecutionContext(context)
    return response.status
  }
}

test('a tenant is served in time while others send made-up keys, go on at their limit and read lists', async () => {
  const ask = startIsolate()
  const good = await createKey({ tenant: 'good' })
  const limited = await createLimitedKey({ requests_per_minute: 1 })
  const lister = await createKey({ tenant: 'lister' })
  const node = await startNode('neighbour-1', [
    {
      kind: 'stream',
      headers: { 'content-type': 'application/json' },
      chunks: ['{"ok"', ':1}'],
      ending: 'end',
      pauseMs: RESPONSE_MS,
    },
  ])
  const generate = (key: string, address: string) =>
    ask(key, address, '/v1/completions', { model: 'neighbours', prompt: 'Once' })
  /** Returns the time of the third fastest request: a busy machine delays some, and a neighbour that stalls the tenant most of them. */
  const thirdFastest = async () => {
    await sendHeartbeat(node, 'neighbours')
    const times: number[] = []
    for (let requests = 0; requests < REQUESTS; requests += 1) {
      const startedMs = Date.now()
      expect(await generate(good.key, '192.0.2.1')).toBe(200)
      times.push(Date.now() - startedMs)
    }
    return times.toSorted((a, b) => a - b)[2] ?? Infinity
  }
  const idleMs = await thirdFastest()
  const attacks = {
    'made-up keys': () => ask(generateKey().key, '203.0.113.1'),
    'a key at its limit': () => generate(limited.key, '203.0.113.2'),
    lists: () => ask(lister.key, '203.0.113.3'),
  }
  for (const [name, attack] of Object.entries(attacks)) {
    let attacking = true
    const beganMs = Date.now()
    const statuses = new Map<number, number>()
    const repeat = async () => {
      while (attacking) {
        const status = await attack()
        statuses.set(status, (statuses.get(status) ?? 0) + 1)
        await new Promise((resolve) => setTimeout(resolve, 20))
      }
    }
    const attackers = Array.from({ length: ATTACKERS }, repeat)
    await until('the attackers to be refused', async () => statuses.has(429) || undefined)
    const attackedMs = await thirdFastest()
    attacking = false
    await Promise.all(attackers)
    expect.soft(attackedMs, name).toBeLessThan(MAX_FACTOR * Math.max(idleMs, RESPONSE_MS))
    const refused = [...statuses].reduce((sum, [status, count]) => (status < 400 ? sum : sum + count), 0)
    const seconds = (Date.now() - beganMs) / 1_000
    const held = ATTACKERS * (seconds / (MIN_HOLD_MS / 1_000) + 1)
    expect.soft(refused, name).toBeLessThanOrEqual(held + AT_ONCE * (seconds + 1))
  }
})
