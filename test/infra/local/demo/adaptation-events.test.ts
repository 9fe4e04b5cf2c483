import { expect, test } from 'vitest'
import { describeOutcome } from '../../../../infra/local/demo/adaptation-events.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'

test('the demo says that a mask is live, or why none is, by commands instead of calls of the API', () => {
  expect(describeOutcome(updateOf({ state: 'promoted', mask_version: 3 }))).toBe('m3 is live.')
  const message = "Mask m2 is rejected. 'GET /admin/updates/upd_1' shows what was measured."
  expect(describeOutcome(updateOf({ state: 'failed', error: { code: 'gate_failed', message } }))).toBe(
    "Mask m2 is rejected. 'npx copal updates upd_1' shows what was measured.",
  )
})
