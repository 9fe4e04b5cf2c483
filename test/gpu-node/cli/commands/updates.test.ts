import { expect, test } from 'vitest'
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const MESSAGE =
  "There are 3 samples of 'law', and 16 are needed: import texts with 'POST /admin/domains/law/texts', or ask for fewer."
const UPDATE: UpdateEntry = {
  id: 'upd_0123456789abcdef',
  model: 'tiny',
  domains: ['law', 'mail'],
  method: 'copal',
  pattern: '0.5',
  patterns: {},
  scope: 'row',
  state: 'failed',
  progress: 0.1,
  message: 'failed',
  mask_version: null,
  parent_version: null,
  candidate: 1,
  error: { code: 'insufficient_samples', message: MESSAGE },
  created_at: '2026-11-27T00:00:00.000Z',
  finished_at: '2026-11-27T00:01:00.000Z',
  job: null,
}
const TOLD = MESSAGE.replace('POST /admin/domains/law/texts', 'copal domains import law <file>')

test('one update is shown with its whole message, which names commands', async () => {
  const { stdout } = await copal(UPDATE, ['updates', UPDATE.id])
  expect(stdout).toContain(`\nstate    failed\n`)
  expect(stdout).toContain(`\nmessage  ${TOLD}\n`)
})

test('a table is cut only on a terminal, not in a pipe', async () => {
  const cut = await copal({ data: [UPDATE] }, ['updates'])
  expect(cut.stdout).toContain('…')
  expect(Math.max(...cut.stdout.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  const piped = await copal({ data: [UPDATE] }, ['updates'], { piped: true })
  expect(piped.stdout.trim().split('\n')).toHaveLength(2)
  expect(piped.stdout).toContain(`failed: ${TOLD}`)
})
