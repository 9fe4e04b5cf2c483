import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import type { NodeEntry } from '@copal/shared/wire/admin.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const NODE: NodeEntry = {
  id: 'node-1',
  url: 'http://127.0.0.1:8790',
  model: 'tiny',
  alive: true,
  draining: false,
  drained_by_operator: false,
  active_version: 4,
  weight_sets: [{ version: 4, state: 'ready', requests: 2 }],
  running: 2,
  waiting: 0,
  leases: 2,
  seen_ms_ago: 900,
}
const DRAINED = { ...NODE, draining: true, drained_by_operator: true }
const IDLE = { ...DRAINED, running: 0, leases: 0 }

let server: Server
let env: Record<string, string>
let calls: string[] = []
/** The nodes that each call of the list returns, in order. Further calls return the last entry. */
let lists: NodeEntry[][] = []

beforeAll(async () => {
  server = createServer((request, response) => {
    calls.push(`${request.method} ${request.url}`)
    const answers: Record<string, () => unknown> = {
      GET: () => ({ data: lists.length > 1 ? lists.shift() : lists[0] }),
      PUT: () => DRAINED,
      DELETE: () => NODE,
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify(answers[request.method ?? '']?.()))
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  env = { COPAL_BASE_URL: `http://127.0.0.1:${port}`, COPAL_ADMIN_KEY: 'a' }
})
afterAll(() => server.close())
beforeEach(() => {
  calls = []
})

async function copal(...args: string[]) {
  const terminal = recordedTerminal({ env })
  const code = await runCommand(args, terminal)
  return { code, stdout: terminal.output(), stderr: terminal.errors() }
}

test('nodes are listed with their state, and one without requests is drained', async () => {
  lists = [
    [NODE, { ...DRAINED, id: 'node-2' }, { ...IDLE, id: 'node-3' }, { ...IDLE, id: 'node-4', alive: false }],
  ]
  const { code, stdout } = await copal('nodes')
  expect(code).toBe(0)
  const states = stdout
    .trim()
    .split('\n')
    .slice(1)
    .map((line) => line.split(/\s+/).slice(0, 2))
  expect(states).toEqual([
    ['node-1', 'alive'],
    ['node-2', 'draining'],
    ['node-3', 'drained'],
    ['node-4', 'away'],
  ])
})

test('the last job that failed on a node is named with its age and reason, and where there is more', async () => {
  const at = new Date(Date.now() - 3 * 3_600_000 - 60_000).toISOString()
  const job = { at, job: 'upd_1-calibrate', code: 'internal_error' }
  lists = [
    [
      { ...NODE, last_failed_job: { ...job, reason: 'No disk space left in /home/copal/datasets.' } },
      { ...NODE, id: 'node-2', last_failed_job: null },
      { ...NODE, id: 'node-3', last_failed_job: { ...job, reason: `two\nlines ${'x'.repeat(500)}` } },
    ],
  ]
  const { stdout } = await copal('nodes')
  const [first, second, ...others] = stdout.trim().split('\n\n').at(-1)?.split('\n') ?? []
  expect(first).toBe('node-1 failed job upd_1-calibrate 3 h ago: No disk space left in /home/copal/datasets.')
  expect(second).toMatch(/^node-3 failed job upd_1-calibrate 3 h ago: two\?lines x{100,150}…$/)
  expect(others).toEqual(['See: npx copal audit list --target <node>'])
})

test('nodes that say how they store pruned weights have a line for each weight set, with the reason', async () => {
  const sets = [
    { version: 0, state: 'ready', requests: 0, form: null, form_reason: null },
    { version: 4, state: 'ready', requests: 2, form: 'both', form_reason: 'measured: packed runs 1.30 ×' },
  ]
  lists = [
    [
      { ...NODE, weight_sets: sets },
      { ...NODE, id: 'node-2' },
    ],
  ]
  const { stdout } = await copal('nodes')
  expect(stdout.split('\n\n')[1]).toBe('node-1 stores m4 packed and dense (measured: packed runs 1.30 ×)\n')
})

test('a node shows the memory of its weight sets, what has no room in it, and its device', async () => {
  const weight_memory = { budget_bytes: 2e9, free_bytes: 5e8, unheld: [{ version: 3, bytes: 7e8 }] }
  lists = [[{ ...NODE, weight_memory, device: 'NVIDIA L4, vulkan, gpu-bf16' }]]
  const { stdout } = await copal('nodes')
  expect(stdout).toContain('1.5 GB of 2.0 GB, no room for m3')
  expect(stdout).toContain('NVIDIA L4, vulkan, gpu-bf16')
})

test('draining waits until the node has no requests and prints how many are left', async () => {
  lists = [[{ ...DRAINED, running: 1, leases: 1 }], [IDLE]]
  const { code, stdout, stderr } = await copal('drain', 'node-1')
  expect(calls).toEqual(['PUT /admin/nodes/node-1/drain', 'GET /admin/nodes', 'GET /admin/nodes'])
  expect(stderr).toBe('node-1 still has 2 requests …\nnode-1 still has 1 request …\n')
  expect(stdout).toContain('gets no new requests and has none left, so it can be stopped')
  expect(code).toBe(0)
})

test('draining returns at once with --no-wait, and fails after --timeout', async () => {
  lists = [[DRAINED]]
  const { stdout } = await copal('drain', 'node-1', '--no-wait')
  expect(stdout).toContain('still has 2 requests')
  expect(calls).toEqual(['PUT /admin/nodes/node-1/drain'])
  const late = await copal('drain', 'node-1', '--timeout', '1')
  expect(late.code).toBe(1)
  expect(late.stderr).toContain('It stays drained')
})

test('a node that has left has no requests, and a node that was undrained meanwhile is an error', async () => {
  lists = [[]]
  expect((await copal('drain', 'node-1')).stdout).toContain('can be stopped')
  lists = [[NODE]]
  expect(await copal('drain', 'node-1')).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('undrained by another command') as string,
  })
})

test('undraining sends requests to a node again', async () => {
  const { stdout } = await copal('undrain', 'node-1')
  expect(calls).toEqual(['DELETE /admin/nodes/node-1/drain'])
  expect(stdout).toBe('node-1 takes requests again.\n')
})
