import type { Completion } from '@copal/shared/wire/completions.ts'
import { expect, test } from 'vitest'
import { MAX_CONCURRENT, type FaultFleet } from '../support/faults/fault-fleet.ts'

/** Of two nodes, each of which runs eight requests at once, so that none of these has to wait. */
const FEW = 8
/** Of which two nodes take less than a half before others have to wait at the gateway. */
const MANY = 72

/**
 * Many that ask for the same at once.
 *
 * @param shares whether nodes keep what they computed of a prompt
 */
export function testHerds({ ask }: FaultFleet, shares: boolean): void {
  test('a thundering herd on one prefix is answered, by all nodes', async () => {
    const answers = await herd('the same long prefix of everybody, ', MAX_CONCURRENT, 8)
    expect(new Set(answers.map(({ node }) => node)).size).toBe(2)
  })

  test('a herd is spread before a node is full, and its prefix is computed no more often than must be', async () => {
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

/** Who is answered before whom, where one floods. */
export function testFairness(faults: FaultFleet): void {
  const { ask } = faults
  const batch = { 'x-copal-priority': 'batch' }

  test.each([
    ['of another tenant', 'quiet', {}],
    ['of the tenant that floods, and of a higher class', 'flooding', batch],
  ])('a request %s is answered long before a flood is', async (_, tenant, headers) => {
    const flooding = (await faults.fleet.key({}, 'flooding')).key
    const { key } = await faults.fleet.key({}, tenant)
    const answered: string[] = []
    const first = Promise.withResolvers<void>()
    const send = async (who: string, options: { key: string; headers?: Record<string, string> }) => {
      const { status } = await ask({ max_tokens: 20, stream: false }, options)
      answered.push(who)
      first.resolve()
      return status
    }
    const flood = Array.from({ length: MANY }, () => send('flood', { key: flooding, headers }))
    await first.promise
    const one = send('one', { key })
    expect(new Set(await Promise.all([...flood, one]))).toEqual(new Set([200]))
    // In turn it would be the last one; all that the nodes have when it comes may be answered before it.
    expect(answered.slice(answered.indexOf('one') + 1).length).toBeGreaterThanOrEqual(MANY / 6)
  })
}
