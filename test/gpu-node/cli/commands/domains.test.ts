import { expect, test } from 'vitest'
import { copal } from '../../../support/doubles/copal-command.ts'

test('deleting texts of a key without texts says so, because the id may be mistyped', async () => {
  const args = ['domains', 'delete', 'general', '--key', 'key_1']
  const none = { domain: 'general', deleted: 0, deleted_frozen: 0 }
  expect((await copal(none, args)).stdout).toMatch(/^No texts of key_1 were found in general\./)
  expect((await copal({ ...none, deleted: 1, deleted_frozen: 2 }, args)).stdout).toBe(
    'Deleted 1 sampled text and 2 frozen texts of key_1 from general.\n',
  )
})

test('texts of a tenant and of a request are deleted, and the domain stays', async () => {
  const calls: string[] = []
  const gone = (call: string) => {
    calls.push(call)
    return { domain: 'general', deleted: 1, deleted_frozen: 0 }
  }
  const { stdout } = await copal(gone, [
    'domains',
    'delete',
    'general',
    '--tenant',
    'a b',
    '--request',
    'req_1',
  ])
  expect(stdout).toBe('Deleted 1 sampled text and 0 frozen texts of a b and req_1 from general.\n')
  expect(calls).toEqual(['DELETE /admin/domains/general/samples?tenant=a%20b&request=req_1'])
})
