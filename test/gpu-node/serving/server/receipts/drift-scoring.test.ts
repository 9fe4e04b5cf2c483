import { expect, test } from 'vitest'
import type { WeightSet } from '../../../../../gpu-node/src/serving/contract/backend.ts'
import { createPolicy } from '../../../../../gpu-node/src/serving/engine/engine-policy.ts'
import { createLog } from '../../../../../gpu-node/src/platform/log.ts'
import { scoreDrift } from '../../../../../gpu-node/src/serving/server/receipts/drift-scoring.ts'

const setOf = (version: number): WeightSet => ({ version }) as WeightSet
const dense = setOf(0)
const text = Array.from({ length: 20 }, (_, token) => token)

/** An engine that scores every token with `masked`, and with 1 under dense: no test model gives such scores. */
async function driftOf(masked: number) {
  const lines: string[] = []
  const drift = await scoreDrift(
    {
      engine: {
        policy: createPolicy(64),
        score: async ({ weights, tokens }) =>
          new Float32Array(tokens.length - 1).fill(weights === dense ? 1 : masked),
      },
      denseWeights: () => dense,
      log: createLog({ format: 'json', write: (line) => lines.push(line) }),
      scoreTimeoutMs: 1_000,
    },
    setOf(3),
    () => text,
  )
  return { drift, lines }
}

test('both sums cover the same tokens, all but the first', async () => {
  expect(await driftOf(2)).toEqual({ drift: { tokens: 19, nllMasked: 38, nllDense: 19 }, lines: [] })
})

test.each([Number.NaN, Number.POSITIVE_INFINITY])(
  'a score of %s leaves drift empty and is logged, since the gateway would reject the receipt and lose its usage',
  async (masked) => {
    const { drift, lines } = await driftOf(masked)
    expect(drift).toBeNull()
    expect(lines).toEqual([expect.stringContaining('was not scored')])
  },
)
