import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { ReviewEntry } from '@copal/shared/wire/admin-review.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const ENTRY: ReviewEntry = {
  id: '3f9c'.repeat(16),
  key: 'key_spoiler',
  tenant: 'acme',
  side: 'pool',
  nll: 11.876,
  characters: 12_345,
  preview: `qzx\nwvu ${'random '.repeat(40)}`,
}

let server: Server
let env: Record<string, string>
let calls: string[] = []
let response: unknown

/** The gateway's side of HTTP. */
beforeAll(async () => {
  server = createServer((request, answer) => {
    calls.push(`${request.method} ${request.url}`)
    answer.writeHead(200, { 'content-type': 'application/json' })
    answer.end(JSON.stringify(response))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  env = { COPAL_BASE_URL: `http://127.0.0.1:${port}`, COPAL_ADMIN_KEY: 'a' }
})
afterAll(() => server.close())
beforeEach(() => {
  calls = []
})

async function run(...args: string[]): Promise<{ code: number; output: string; errors: string }> {
  const terminal = recordedTerminal({ env })
  const code = await runCommand(['domains', 'review', ...args], terminal)
  return { code, output: terminal.output(), errors: terminal.errors() }
}

test('review lists the texts that are set aside, with id, key, loss, length and beginning', async () => {
  response = { data: [ENTRY] }
  const { code, output } = await run('legal/2')
  expect(code).toBe(0)
  expect(calls).toEqual(['GET /admin/domains/legal%2F2/review'])
  expect(output.trim().split('\n')).toEqual([
    ENTRY.id,
    '  key_spoiler, loss 11.88, 12,345 characters',
    expect.stringMatching(/^ {2}qzx wvu random .*…$/u),
  ])
  for (const line of output.split('\n')) expect(line.length).toBeLessThanOrEqual(120)
  expect(JSON.parse((await run('legal', '--json')).output)).toEqual([ENTRY])
  response = { data: [] }
  expect((await run('legal')).output).toContain('No text of legal is set aside.')
})

test('--keep and --drop settle one text and say what became of it', async () => {
  for (const decision of ['keep', 'drop'] as const) {
    calls = []
    response = { domain: 'legal', id: ENTRY.id, decision }
    const { code, output } = await run('legal', `--${decision}`, ENTRY.id)
    expect(code).toBe(0)
    expect(calls).toEqual([`POST /admin/domains/legal/review/${ENTRY.id}/${decision}`])
    expect(output.trim()).toBe(`${decision === 'keep' ? 'Kept' : 'Deleted'} ${ENTRY.id}.`)
  }
  expect(JSON.parse((await run('legal', '--drop', ENTRY.id, '--json')).output)).toEqual(response)
})

test('a text cannot be kept and dropped at once, and nothing is sent', async () => {
  const { code, errors } = await run('legal', '--keep', 'a', '--drop', 'b')
  expect(code).not.toBe(0)
  expect(errors).toMatch(/--keep.*--drop|--drop.*--keep/u)
  expect(calls).toEqual([])
})
