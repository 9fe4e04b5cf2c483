import { expect, test } from 'vitest'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import { copal } from '../../../support/doubles/copal-command.ts'

const ENTRY: ReviewEntry = {
  id: '3f9c'.repeat(16),
  key: 'key_spoiler',
  tenant: 'acme',
  side: 'pool',
  nll: 11.876,
  characters: 12_345,
  preview: `qzx\nwvu ${'random '.repeat(40)}`,
}

async function run(response: object, ...args: string[]) {
  const { code, stdout, stderr, calls } = await copal(response, ['domains', 'review', ...args])
  return { code, output: stdout, errors: stderr, calls: calls.map(({ call }) => call) }
}

test('review lists the texts that are set aside, with id, key, loss, length and beginning', async () => {
  const listed = { data: [ENTRY] }
  const { code, output, calls } = await run(listed, 'legal/2')
  expect(code).toBe(0)
  expect(calls).toEqual(['GET /admin/domains/legal%2F2/review'])
  expect(output.trim().split('\n')).toEqual([
    ENTRY.id,
    '  key_spoiler, loss 11.88, 12,345 characters',
    expect.stringMatching(/^ {2}qzx wvu random .*…$/u),
  ])
  for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
  expect(JSON.parse((await run(listed, 'legal', '--json')).output)).toEqual([ENTRY])
  expect((await run({ data: [] }, 'legal')).output).toContain('No text of legal is set aside.')
})

test('--keep and --drop settle one text and say what became of it', async () => {
  for (const decision of ['keep', 'drop'] as const) {
    const response = { domain: 'legal', id: ENTRY.id, decision }
    const { code, output, calls } = await run(response, 'legal', `--${decision}`, ENTRY.id, '--yes')
    expect(code).toBe(0)
    expect(calls).toEqual([`POST /admin/domains/legal/review/${ENTRY.id}/${decision}`])
    expect(output.trim()).toBe(`${decision === 'keep' ? 'Kept' : 'Deleted'} ${ENTRY.id}.`)
  }
  const dropped = { domain: 'legal', id: ENTRY.id, decision: 'drop' }
  const { output } = await run(dropped, 'legal', '--drop', ENTRY.id, '--yes', '--json')
  expect(JSON.parse(output)).toEqual(dropped)
})

test('a text cannot be kept and dropped at once, and nothing is sent', async () => {
  const { code, errors, calls } = await run({}, 'legal', '--keep', 'a', '--drop', 'b')
  expect(code).not.toBe(0)
  expect(errors).toMatch(/--keep.*--drop|--drop.*--keep/u)
  expect(calls).toEqual([])
})
