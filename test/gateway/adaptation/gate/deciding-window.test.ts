import { describe, expect, test } from 'vitest'
import { gateVerdict } from '../../../../gateway/src/adaptation/gate/gate-verdict.ts'
import { gateInput } from './gate-holdouts.ts'

describe('a mask that is better but not proven so', () => {
  /** A holdout on which the candidate is better, but on its third window much worse. */
  const withOneWorse = (worse: number, ratio = 0.9) => {
    const input = gateInput([{ domain: 'speech', candidate: 1.3 * ratio, parent: 1.3, windows: 40 }])
    const holdouts = input.holdouts.map(({ candidate, ...holdout }) => {
      const windowNll = candidate.windowNll?.map((loss, window) => (loss ?? 0) + (window === 2 ? worse : 0))
      return { ...holdout, candidate: { ...candidate, windowNll: windowNll ?? null } }
    })
    return gateVerdict({ ...input, holdouts })
  }

  test('because of one window of text is rejected with the name of that window', () => {
    const { verdict, reason } = withOneWorse(2.33)
    expect(verdict).toBe('failed')
    expect(reason).toMatch(
      / Without window 3 of the 40 of held-out text of 'speech', which costs 2\.2[0-9] nats a token more than under the active mask, it would pass\.$/,
    )
  })

  test('and worse on the whole, or fails otherwise, gets no such sentence', () => {
    expect(withOneWorse(2.33, 1.1).reason).not.toContain('Without window')
    expect(withOneWorse(2.33, 1).verdict).toBe('failed')
    expect(withOneWorse(0).verdict).toBe('passed')
  })
})
