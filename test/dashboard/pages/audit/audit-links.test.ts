import { expect, test } from 'vitest'
import {
  actorPath,
  changesOf,
  outcomeOf,
  targetPath,
} from '../../../../gateway/dashboard/src/pages/audit/audit-links.ts'

test.each([
  ['PATCH /admin/keys/:id', 'key_1', '/keys?q=key_1'],
  ['POST /admin/updates/:id/force', 'upd_1', '/updates/upd_1'],
  ['decision.promote', 'smollm/m14', '/masks/14'],
  ['PUT /admin/domains/:domain', 'a/b', '/domains/a%2Fb'],
  ['node.restarted', 'node-1', '/nodes?q=node-1'],
  ['PUT /admin/tenants/:tenant', 'acme', '/keys?view=tenants&q=acme'],
  ['PUT /admin/policy', '', undefined],
])('%s of %s links to %s', (action, target, path) => {
  expect(targetPath({ action, target })).toBe(path)
})

test('actors that are keys or nodes link to them', () => {
  expect(actorPath('key:key_1')).toBe('/keys?q=key_1')
  expect(actorPath('node:node-1')).toBe('/nodes?q=node-1')
  expect(actorPath('copal')).toBeUndefined()
  expect(actorPath('admin-12345678')).toBeUndefined()
})

test('the outcome is the error, the verdict or the status', () => {
  expect(outcomeOf({ status: 409, error: 'conflict' })).toBe('conflict')
  expect(outcomeOf({ verdict: 'dry_run' })).toBe('dry run')
  expect(outcomeOf({ status: 201 })).toBe('done')
  expect(outcomeOf({ status: 404 })).toBe('404')
  expect(outcomeOf(null)).toBe('')
})

test('what an admin call changed is told field by field', () => {
  const before = { sampling: 'never', limits: {} }
  const after = { status: 200, state: { sampling: 'always', limits: {} } }
  expect(changesOf({ before, after })).toEqual(['sampling: "never" → "always"'])
  expect(changesOf({ before: null, after: { verdict: 'passed' } })).toEqual([])
  expect(changesOf({ before: { name: 'a' }, after: null })).toEqual(['name: "a" → removed'])
})
