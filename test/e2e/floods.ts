import type { Completion } from '@copal/shared/wire/completions.ts'
import { expect, test } from 'vitest'
import { MAX_CONCURRENT, type FaultFleet } from '../support/faults/fault-fleet.ts'
import { until } from '../support/processes/service.ts'

/** Requests that two nodes run at once: each runs eight, so none has to wait. */
const FEW = 8
/** Requests of a flood: two nodes take less than half of them, and the rest queue at the gateway. */
const MANY = 72

/**
 * Adds tests of many equal requests at once.
 *
 * @param shares whether nodes reuse the computed prefix of a prompt
 */
export function testHerds({ ask }: FaultFleet, shares: boolean): void {
  test('a thundering herd on one prefix is served by all nodes', async () => {
    const answers = await herd('the same long prefix of everybody, ', MAX_CONCURRENT, 8)
    expect(new Set(answers.map(({ node }) => node)).size).toBe(2)
  })

  test('a herd spreads before a node is full, and each node computes the prefix at most once', async () => {
    for (const mustCompute of [2, 0]) {
      const answers = await herd('a prefix of the few, ', FEW, 400)
      expect(new Set(answers.map(({ node }) => node)).size).toBe(2)
      expect(answers.filter(({ cached }) => cached === 0)).toHaveLength(shares ? mustCompute : FEW)
    }
  })

  async function herd(text: string, requests: number, maxTokens: number) {
    const prompt = text.repeat(40)
    const answers = await Promise.all(
      Array.from({ length: requests }, async () => {
        const answer = await ask({ prompt, max_tokens: maxTokens, stream: false })
        expect(answer.status).toBe(200)
        const { choices, usage } = (await answer.json()) as Completion
        const cached = usage?.prompt_tokens_details?.cached_tokens ?? 0
        return { node: answer.headers.get('x-copal-node'), text: choices[0]?.text, cached }
      }),
    )
    expect(new Set(answers.map(({ text: of }) => of)).size).toBe(1)
    return answers
  }
}

/** Adds tests of the order of requests during a flood. */
export function testFairness(faults: FaultFleet): void {
  const { ask } = faults
  const batch = { 'x-copal-priority': 'batch' }

  test.each([
    ['of another tenant', 'quiet', {}],
    ['of the tenant that floods, and of a higher class', 'flooding', batch],
  ])('a request %s is served long before the flood ends', async (_, tenant, headers) => {
    const flooding = (await faults.fleet.key({}, 'flooding')).key
    const { key } = await faults.fleet.key({}, tenant)
    const answered: string[] = []
    const send = async (who: string, options: { key: string; headers?: Record<string, string> }) => {
      const { status } = await ask({ max_tokens: 20, stream: false }, options)
      answered.push(who)
      return status
    }
    const queued = (requests: number) =>
      until(`${requests} requests to wait`, async () => {
        const metrics = await faults.fleet.admin<string>('GET', '/metrics')
        return metrics.includes(`\ncopal_dispatch_queue_length ${requests}\n`) || undefined
      })
    // All wait at the gateway until the last has arrived.
    const drain = async (method: 'PUT' | 'DELETE') => {
      for (const id of faults.nodes.keys()) await faults.fleet.admin(method, `/admin/nodes/${id}/drain`)
    }
    await drain('PUT')
    const flood = Array.from({ length: MANY }, () => send('flood', { key: flooding, headers }))
    await queued(MANY)
    const one = send('one', { key })
    await queued(MANY + 1)
    await drain('DELETE')
    expect(new Set(await Promise.all([...flood, one]))).toEqual(new Set([200]))
    // In order of arrival it would be the last. Requests that run when it arrives may end before it.
    expect(answered.slice(answered.indexOf('one') + 1).length).toBeGreaterThanOrEqual(MANY / 6)
  })
}
