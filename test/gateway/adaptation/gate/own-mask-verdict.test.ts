import { expect, test } from 'vitest'
import { ownMaskVerdict } from '../../../../gateway/src/adaptation/gate/own-mask-verdict.ts'
import { GENERAL_HOLDOUT } from '../../../../gateway/src/storage/db/schema/domains.ts'
import { SOUND_GENERATION } from '../../support/doubles/simulated-node.ts'
import { gateInput, type HoldoutSketch } from './gate-holdouts.ts'

const judge = (sketches: HoldoutSketch[], changes: Parameters<typeof gateInput>[1] = {}) =>
  ownMaskVerdict(gateInput(sketches, changes), { domain: 'legal', minGain: 1.03 })
const legal = (candidate: number | null, rest: Partial<HoldoutSketch> = {}) => ({
  domain: 'legal',
  candidate,
  parent: 1.2,
  ...rest,
})
const general = (candidate: number) => ({ domain: GENERAL_HOLDOUT, candidate, parent: 1.2 })

test('a domain gains enough by its own mask when the bound of the gain does, not its estimate alone', () => {
  // 5 % better: the bound is about 4 %.
  const passed = judge([legal(1.2 / 1.05)])
  expect(passed.verdict).toBe('passed')
  expect(passed.reason).toMatch(
    /is 1\.050 × that under its own, and with 96\.8 % confidence at least 1\.039 ×/,
  )
  // The estimate of 3.5 % is enough, and its bound is not.
  const { verdict, reason, violations } = judge([legal(1.2 / 1.035)])
  expect([verdict, violations]).toEqual(['failed', []])
  expect(reason).toMatch(/on 'legal' is 0\.966 × that of the shared mask, with an upper bound of 0\.97\d ×/)
  expect(judge([legal(1.2 * 1.01)]).verdict).toBe('failed')
})

test('one window of held-out text proves nothing, and no held-out text neither', () => {
  expect(judge([legal(0.8, { windows: 1 })])).toMatchObject({ verdict: 'failed' })
  expect(judge([general(1.1)]).verdict).toBe('failed')
})

test('a mask of one domain may cost general text only what the policy allows beside the dense model', () => {
  expect(judge([legal(1), general(1.49)]).verdict).toBe('passed')
  const { verdict, reason } = judge([legal(1), general(1.51)])
  expect(verdict).toBe('failed')
  expect(reason).toContain('1.510 × that of the dense model')
})

test('a mask that was measured with other numerics than the shared one is rejected, whatever it gains', () => {
  const otherNumerics = { candidate: 'bf16, head int8', version: 3, domain: 'legal', numerics: null }
  const { verdict, reason } = judge([legal(1)], { otherNumerics })
  expect(verdict).toBe('failed')
  expect(reason).toBe(
    "It cannot be compared: it was measured in 'bf16, head int8', but m3 on 'legal' in a precision that its node does not name, " +
      'and no node could measure both alike.',
  )
})

test('a mask of one domain must be sound, and cannot be compared with a shared one that is not', () => {
  expect(judge([legal(null)]).reason).toContain('not finite')
  const candidate = { ...SOUND_GENERATION, finite: false }
  const generation = { candidate, dense: SOUND_GENERATION }
  expect(judge([legal(1)], { generation }).verdict).toBe('failed')
  const { parent: _, ...alone } = legal(1)
  expect(judge([alone]).reason).toContain('no finite loss to compare with')
})
