import { describe, expect, test } from 'vitest'
import {
  chooseHoldouts,
  type HoldoutChoice,
} from '../../../../gateway/src/adaptation/holdouts/choose-holdouts.ts'
import { GENERAL_HOLDOUT } from '../../../../gateway/src/storage/db/schema/domains.ts'

const holdout = (domain: string) => ({ sha256: domain.padEnd(64, '0'), domain, samples: 1 })
const name = (index: number) => `d${String(index).padStart(2, '0')}`
/** 50 domains, the first ones with most traffic, and the general holdout. */
const HOLDOUTS = [GENERAL_HOLDOUT, ...Array.from({ length: 50 }, (_, index) => name(index))].map(holdout)
const TOKENS = new Map(Array.from({ length: 40 }, (_, index) => [name(index), 1_000 - index]))

function choose(changes: Partial<HoldoutChoice> = {}): string[] {
  const choice = { updated: [], maxHoldouts: 16, tokens: TOKENS, evaluatedMs: new Map(), ...changes }
  return chooseHoldouts(HOLDOUTS, choice).map(({ domain }) => domain)
}

describe('the holdouts that an update evaluates', () => {
  test('are all of them while the policy allows as many', () => {
    expect(choose({ maxHoldouts: 50 })).toEqual(HOLDOUTS.map(({ domain }) => domain))
    expect(choose({ maxHoldouts: 49 })).toHaveLength(1 + 49)
  })

  test('are at most as many, three in four by traffic and one in four in turn', () => {
    expect(choose()).toEqual([GENERAL_HOLDOUT, ...Array.from({ length: 16 }, (_, index) => name(index))])
    const evaluatedMs = new Map(Array.from({ length: 45 }, (_, index) => [name(index), 100]))
    const chosen = choose({ evaluatedMs })
    expect(chosen).toEqual([
      GENERAL_HOLDOUT,
      ...Array.from({ length: 12 }, (_, index) => name(index)),
      ...[45, 46, 47, 48].map(name),
    ])
  })

  test('always include those of the update and the general one, even beyond the maximum', () => {
    const updated = [name(30), name(49)]
    expect(choose({ updated, maxHoldouts: 1 })).toEqual([GENERAL_HOLDOUT, ...updated])
    expect(choose({ updated, maxHoldouts: 3 })).toEqual([GENERAL_HOLDOUT, name(0), ...updated])
  })

  test('come round: each of 50 domains is evaluated within 13 updates, in an order that a restart keeps', () => {
    const evaluatedMs = new Map<string, number>()
    const often = new Map<string, number>()
    for (let update = 1; update <= 13; update += 1) {
      const chosen = choose({ evaluatedMs, updated: [name(49)] }).filter(
        (domain) => domain !== GENERAL_HOLDOUT,
      )
      expect(chosen).toHaveLength(16)
      // The same once more, as after a restart.
      expect(choose({ evaluatedMs: new Map(evaluatedMs), updated: [name(49)] })).toEqual([
        GENERAL_HOLDOUT,
        ...chosen,
      ])
      for (const domain of chosen) {
        evaluatedMs.set(domain, update)
        often.set(domain, (often.get(domain) ?? 0) + 1)
      }
    }
    expect(often.size).toBe(50)
    expect(often.get(name(0))).toBe(13)
  })

  test('without traffic come in turn alone', () => {
    const first = choose({ tokens: new Map(), maxHoldouts: 2 })
    const second = choose({
      tokens: new Map(),
      maxHoldouts: 2,
      evaluatedMs: new Map(first.map((each) => [each, 1])),
    })
    expect([first, second]).toEqual([
      [GENERAL_HOLDOUT, name(0), name(1)],
      [GENERAL_HOLDOUT, name(2), name(3)],
    ])
  })
})
