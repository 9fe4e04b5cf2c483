import { describe, expect, test } from 'vitest'
import { isAssigned } from '../../../../gateway/src/fleet/object/trial-assignment.ts'
import { trialsInForce } from '../../../../gateway/src/storage/db/trials-in-force.ts'
import type { StoredTrial } from '../../../../gateway/src/contracts/trial.ts'

const IDS = Array.from({ length: 20_000 }, (_, index) => `id_${index.toString(16).padStart(32, '0')}`)
const chosen = (version: number, share: number, kind: 'canary' | 'shadow' = 'canary', model = 'm') =>
  new Set(IDS.filter((id) => isAssigned(kind, { version, share }, model, id)))

describe('a share', () => {
  test.each([0.01, 0.1, 0.5, 0.9])(
    'of %f contains that share of the conversations, within chance',
    (share) => {
      const expected = share * IDS.length
      const deviation = Math.sqrt(IDS.length * share * (1 - share))
      expect(Math.abs(chosen(5, share).size - expected)).toBeLessThan(4 * deviation)
    },
  )

  test('of 1 contains all conversations', () => {
    expect(chosen(5, 1).size).toBe(IDS.length)
  })

  test('that grows keeps its conversations', () => {
    const [some, more] = [chosen(5, 0.1), chosen(5, 0.3)]
    expect([...some].filter((id) => !more.has(id))).toEqual([])
  })

  test('contains other conversations for another mask, model or kind, independently', () => {
    const some = chosen(5, 0.2)
    for (const other of [chosen(6, 0.2), chosen(5, 0.2, 'canary', 'n'), chosen(5, 0.2, 'shadow')])
      expect([...some].filter((id) => other.has(id)).length / some.size).toBeCloseTo(0.2, 1)
  })
})

test('a trial ends when another mask becomes active', () => {
  const trial: StoredTrial = { version: 5, share: 0.1, beside: 4, sinceMs: 1 }
  const model = { canary: trial, shadow: null }
  expect(trialsInForce({ ...model, activeVersion: 4 })).toEqual({ canary: trial })
  expect(trialsInForce({ ...model, activeVersion: 5 })).toEqual({})
  expect(trialsInForce({ ...model, activeVersion: 3 })).toEqual({})
  expect(trialsInForce({ canary: null, shadow: trial, activeVersion: 4 })).toEqual({ shadow: trial })
})
