import { expect, test } from 'vitest'
import { describeOutcome, describeUnread } from '../../../../infra/local/demo/adaptation-events.ts'
import { updateOf } from '../../../support/dashboard/reports.ts'

test('the demo says that a mask is live, or why none is, by commands instead of calls of the API', () => {
  expect(describeOutcome(updateOf({ state: 'promoted', mask_version: 3 }))).toBe('m3 is live.')
  const message = "Mask m2 is rejected. 'GET /admin/updates/upd_1' shows what was measured."
  expect(describeOutcome(updateOf({ state: 'failed', error: { code: 'gate_failed', message } }))).toBe(
    "Mask m2 is rejected. 'npx copal updates upd_1' shows what was measured.",
  )
})

test('a demo in which nothing adapted says how many texts a busy node has still to read', () => {
  expect(describeUnread({ texts: 144, read: 96 })).toBe(
    ' A node has read 96 of 144 texts; domains are found when it has read all.',
  )
  expect(describeUnread({ texts: 144, read: 144 })).toBe('')
  expect(describeUnread(undefined)).toBe('')
})
