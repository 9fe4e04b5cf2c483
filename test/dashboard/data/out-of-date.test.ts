import { expect, test } from 'vitest'
import { outOfDate } from '../../../gateway/dashboard/src/data/out-of-date.ts'
import { alertOf, nodeOf, overviewWith, updateOf } from '../../support/dashboard/reports.ts'

const before = overviewWith()

test('the first overview and one without news make nothing out of date', () => {
  expect(outOfDate(undefined, before)).toEqual([])
  expect(outOfDate(before, overviewWith({ at: '2026-11-28T12:00:02Z' }))).toEqual([])
})

test.each([
  ['another mask', overviewWith({ model: { ...before.model, active_version: 15 } }), '/admin/masks'],
  ['an update', overviewWith({ updates: [updateOf()] }), '/admin/updates'],
  [
    'a silent node',
    overviewWith({ nodes: [nodeOf('node-1', { alive: false }), nodeOf('node-2')] }),
    '/admin/nodes',
  ],
  ['an alert', overviewWith({ alerts: [alertOf('a')] }), '/admin/alerts'],
])('%s makes what shows it out of date', (_, after, path) => {
  expect(outOfDate(before, after)).toContain(path)
})
