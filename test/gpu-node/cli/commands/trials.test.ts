import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import {
  startCanary,
  type CanaryReport,
  type ShadowReport,
  type VersionTraffic,
} from '@copal/shared/wire/admin-trials.ts'
import type { StatusReport } from '@copal/shared/wire/admin.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const TRAFFIC: VersionTraffic = {
  mask_version: 4,
  requests: 1_200,
  failed: 0,
  prompt_tokens: 5,
  completion_tokens: 30_000,
  time_to_first_token_ms: 120.4,
  total_ms: 900,
  scored_tokens: 5_000,
  nll_masked: 3.2,
  nll_dense: 3,
}
const REPORT: CanaryReport = {
  model: 'tiny',
  active_version: 4,
  canary: {
    mask_version: 5,
    share: 0.125,
    since: '2026-11-25T00:00:00.000Z',
    update_id: null,
    evidence: null,
  },
  nodes: { ready: 1, alive: 2, errors: [{ node: 'node-2', message: 'out of memory' }] },
  versions: [
    TRAFFIC,
    { ...TRAFFIC, mask_version: 5, time_to_first_token_ms: null, scored_tokens: 0, nll_masked: null },
  ],
}

let server: Server
let env: Record<string, string>
let calls: { call: string; body: unknown }[] = []
let answer: unknown = REPORT

beforeAll(async () => {
  server = createServer((request, response) => {
    let text = ''
    request.on('data', (chunk) => (text += String(chunk)))
    request.on('end', () => {
      calls.push({ call: `${request.method} ${request.url}`, body: text === '' ? null : JSON.parse(text) })
      response.writeHead(200, { 'content-type': 'application/json' })
      response.end(JSON.stringify(answer))
    })
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  env = { COPAL_BASE_URL: `http://127.0.0.1:${port}`, COPAL_ADMIN_KEY: 'a' }
})
afterAll(() => server.close())

async function run(...args: string[]): Promise<string> {
  calls = []
  const terminal = recordedTerminal({ env })
  expect(await runCommand(args, terminal)).toBe(0)
  return terminal.output()
}

test('a canary starts with a share like 12.5% and is shown with the active mask', async () => {
  for (const [text, share] of [
    ['12.5%', 0.125],
    ['0.125', 0.125],
    ['90%', 0.9],
  ] as const) {
    answer = REPORT
    const output = await run('canary', 'm5', '--share', text)
    expect(calls).toEqual([{ call: 'PUT /admin/canary', body: { mask_version: 5, share } }])
    expect(startCanary.safeParse(calls[0]?.body).success).toBe(true)
    expect(output).toContain('m5 serves 12.5 % of the conversations of tiny; m4 serves the others.')
    expect(output).toContain('1 of 2 nodes have loaded it.')
    expect(output).toContain("Node 'node-2' cannot load it: out of memory")
    expect(output).toMatch(/m4 +1,200 +0 +30,000 +120 ms +5,000 +3\.200 +3\.000 +0\.200/)
    expect(output).toMatch(/m5 +1,200 +0 +30,000 +- +0 +- +3\.000 +-/)
    expect(Math.max(...output.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  }
})

test('a canary leaves some conversations to the active mask, and a shadow may score all requests', async () => {
  const terminal = recordedTerminal({ env })
  expect(await runCommand(['canary', 'm5', '--share', '100%'], terminal)).toBe(2)
  expect(terminal.errors()).toContain('above 0 and at most 90%: a canary is compared with the conversations')
  answer = { model: 'tiny', active_version: 4, shadow: null, nodes: null, domains: [] }
  await run('shadow', 'm5', '--share', '100%')
  expect(calls).toEqual([{ call: 'PUT /admin/shadow', body: { mask_version: 5, share: 1 } }])
})

test('a canary that got no conversation yet is reported', async () => {
  answer = { ...REPORT, versions: [TRAFFIC, { ...TRAFFIC, mask_version: 5, requests: 0 }] }
  expect(await run('canary')).toContain('The canary has served no request yet.')
  expect(calls).toEqual([{ call: 'GET /admin/canary', body: null }])
})

test('a canary of an update is shown with the update and what it has shown', async () => {
  const canary = { ...REPORT.canary, update_id: 'upd_1', evidence: null }
  answer = { ...REPORT, canary }
  expect(await run('canary')).toContain('Update upd_1 runs it. No request was scored under both masks yet.')
  const evidence = { requests: 1_200, tokens: 90_000, gap: 0.0123, lower: -0.0071, upper: 0.0312 }
  answer = { ...REPORT, canary: { ...canary, evidence } }
  expect(await run('canary')).toContain(
    'Loss 0.012 nats a token above the other mask (-0.007 to 0.031), on 1,200 requests.',
  )
  answer = { ...REPORT, canary: { ...canary, evidence: { ...evidence, requests: 1, gap: -0.25 } } }
  expect(await run('canary')).toContain(
    'Loss 0.250 nats a token below the other mask (-0.007 to 0.031), on 1 request.',
  )
})

test('a canary can be ended, and without one the output says how to start one', async () => {
  answer = { model: 'tiny', ended: true }
  expect(await run('canary', '--end', '--model', 'tiny')).toBe(
    'The active mask of tiny serves all conversations again.\n',
  )
  expect(calls).toEqual([{ call: 'DELETE /admin/canary?model=tiny', body: null }])
  answer = { ...REPORT, canary: null, nodes: null, versions: [] }
  expect(await run('canary')).toContain('npx copal canary <mask> --share 10%')
})

test('status shows the canary of an update and a watch, with what they have shown', async () => {
  const evidence = { requests: 1_200, tokens: 90_000, gap: 0.0123, lower: -0.0071, upper: 0.0312 }
  const model = {
    id: 'tiny',
    active_version: 4,
    previous_version: 3,
    sparsity: 0.5,
    context_length: 512,
    converged: true,
    canary: REPORT.canary,
    shadow: null,
    watch: {
      mask_version: 4,
      beside_version: 3,
      update_id: 'upd_1',
      since: '2026-11-25T00:00:00.000Z',
      until: '2026-11-25T01:00:00.000Z',
      evidence,
    },
  }
  answer = { version: '1', models: [model], nodes: [], updates_running: 0 } satisfies StatusReport
  const output = await run('status')
  expect(output).toContain('Canary of tiny: m5 for 12.5 % of the conversations. See: npx copal canary')
  expect(output).toContain('Watch of tiny: m4 beside m3 until 2026-11-25 01:00 UTC.')
  expect(output).toContain(
    'Loss 0.012 nats a token above the other mask (-0.007 to 0.031), on 1,200 requests.',
  )
})

test('a shadow starts, is shown by domain for prompts and outputs, and ends', async () => {
  const { canary: shadow, nodes } = REPORT
  const prompt = { tokens: 9_000, nll_active: 3.1, nll_shadow: 3.25 }
  const answered = { tokens: 0, nll_active: null, nll_shadow: null }
  const domains = [{ domain: 'legal', requests: 40, prompt, answer: answered }]
  const report: ShadowReport = { model: 'tiny', active_version: 4, shadow, nodes, domains }
  answer = report
  const output = await run('shadow', 'm5', '--share', '12.5%')
  expect(calls).toEqual([{ call: 'PUT /admin/shadow', body: { mask_version: 5, share: 0.125 } }])
  expect(output).toMatch(/legal +40 +prompt +9,000 +3\.100 +3\.250 +0\.150/)
  expect(output).toMatch(/legal +40 +output +0 +- +- +-/)
  expect(Math.max(...output.split('\n').map((line) => line.length))).toBeLessThanOrEqual(80)
  answer = { ...report, domains: [] }
  expect(await run('shadow')).toContain('Nothing has been scored yet.')
  answer = { ...report, shadow: null, nodes: null, domains: [] }
  expect(await run('shadow')).toContain('npx copal shadow <mask> --share 5%')
  answer = { model: 'tiny', ended: true }
  expect(await run('shadow', '--end')).toBe('The shadow of tiny has ended.\n')
  expect(calls).toEqual([{ call: 'DELETE /admin/shadow', body: null }])
})
