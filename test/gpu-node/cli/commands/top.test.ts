import { expect, test } from 'vitest'
import type { OverviewReport } from '@copal/shared/wire/admin-overview.ts'
import { runCommand } from '../../../../gpu-node/cli/program.ts'
import { copal, gatewayOf } from '../../../support/doubles/copal-command.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const AT = '2026-11-28T20:00:00.000Z'
const REPORT: OverviewReport = {
  at: AT,
  version: '0.1.0',
  model: {
    id: 'tiny',
    parameters: 1_000,
    active_version: 0,
    previous_version: null,
    active_since: null,
    mask: null,
    weight_bytes: 90_000_000,
    dense_bytes: 150_000_000,
    converged: true,
  },
  health: { problems: ['1 alert is active'], text: '1 alert is active.' },
  models: ['tiny'],
  nodes: [
    {
      id: 'node-a',
      url: 'http://127.0.0.1:8790',
      model: 'tiny',
      alive: true,
      draining: false,
      drained_by_operator: false,
      active_version: 0,
      weight_sets: [{ version: 0, state: 'ready', requests: 3 }],
      running: 3,
      waiting: 1,
      leases: 4,
      seen_ms_ago: 400,
    },
  ],
  traffic: {
    requests_per_second: 12.34,
    tokens_per_second: 410.4,
    running: 3,
    waiting: 1,
    first_token_ms_p95: 812,
    failed_share: 0.01,
    tokens_trend: [0, 10, 20, 30],
  },
  domains: [
    {
      name: 'legal',
      traffic_share: 0.6,
      requests: 1_200,
      scored_requests: 300,
      mask_version: 0,
      gap: { mean: 0.31, lower: 0.29, upper: 0.33 },
      gap_trend: [null, 0.2, 0.25, 0.3, 0.31, 0.31, 0.31, 0.31],
      drifting: true,
      missing_observations: 0,
    },
    {
      name: 'support',
      traffic_share: 0.4,
      requests: 800,
      scored_requests: 1,
      mask_version: 0,
      gap: null,
      gap_trend: Array.from({ length: 8 }, () => null),
      drifting: false,
      missing_observations: 38,
    },
  ],
  domain_count: 2,
  updates: [],
  canary: null,
  decisions: [],
  alerts: [
    {
      id: 'alert_1',
      kind: 'gap_drift',
      model: 'tiny',
      domain: 'legal',
      mask_version: 3,
      node: null,
      message: "Pruning costs 'legal' more than before: see 'GET /admin/probes'.",
      raised_at: AT,
      ended_at: null,
    },
  ],
}

test('the state of the fleet fits a terminal: traffic, alerts, nodes and domains', async () => {
  const { code, stdout, calls } = await copal(REPORT, ['top', '--once', '--model', 'tiny'])
  expect(code).toBe(0)
  expect(calls.map(({ call }) => call)).toEqual(['GET /admin/overview?model=tiny'])
  expect(stdout).toContain('tiny dense, 90 MB of weights (dense 150 MB), converged')
  expect(stdout).toContain('12.3 requests/s  410 tokens/s  3 running  1 waiting  first token 0.81 s (95 %)')
  expect(stdout).toMatch(/converged {2}-  copal 0\.1\.0, 20:00:00 UTC\n/)
  expect(stdout).toContain(
    "\n! 2026-11-28 20:00 UTC  Pruning costs 'legal' more than before: see 'npx copal nodes probes'.\n",
  )
  expect(stdout).toMatch(/^node-a +alive +dense +dense +3 +1 +0 s ago$/m)
  expect(stdout).toMatch(/^legal +60\.0 % +1,200 +0\.310 +0\.290 to 0\.330 +▁.*$/m)
  expect(stdout).toMatch(/^support +40\.0 % +800 +- +-$/m)
  expect(stdout).toMatch(/^legal +drifting\nsupport +not known yet: 38 observations missing$/m)
  expect(stdout).toContain('\n1 alert is active.\n')
  expect(stdout).not.toContain('are listed')
  const ofMany = await copal({ ...REPORT, domain_count: 62 }, ['top', '--once'])
  expect(ofMany.stdout).toMatch(/missing\nThe 2 of 62 domains with the most requests are listed\.\n/)
})

test('each drawing replaces the one before, and a gateway that is away for a moment does not end the view', async () => {
  let calls = 0
  const stop = new AbortController()
  const { env } = await gatewayOf(() => {
    calls += 1
    if (calls === 3) setImmediate(() => stop.abort())
    return calls === 2 ? undefined : REPORT
  })
  const terminal = { ...recordedTerminal({ env }), signal: stop.signal }
  expect(await runCommand(['top', '--interval', '1'], terminal)).toBe(0)
  const drawings = terminal.output().split('\x1b[H\x1b[J').slice(1)
  expect(drawings.length).toBeGreaterThanOrEqual(2)
  expect(drawings[0]).not.toContain('No news')
  expect(drawings[1]).toMatch(/12\.3 requests\/s[\s\S]*No news: /)
})

test.each([
  { columns: 40, rows: 10, last: /^… \d+ more lines: enlarge the window$/ },
  { columns: 80, rows: 24, last: /drifting$/ },
])('a drawing fits a window of $columns × $rows, however long names are', async ({ last, ...size }) => {
  const stop = new AbortController()
  const long = (letter: string) => letter.repeat(64)
  const [node] = REPORT.nodes
  const [domain] = REPORT.domains
  if (!node || !domain) throw new Error('no node or domain')
  const report = {
    ...REPORT,
    model: { ...REPORT.model, id: long('m') },
    nodes: ['n', 'o'].map((letter) => ({ ...node, id: long(letter), device: long('D') })),
    domains: ['d', 'e'].map((letter) => ({ ...domain, name: long(letter), missing_observations: 38 })),
    alerts: REPORT.alerts.map((alert) => ({
      ...alert,
      message: `The drift of ${long('d')} is ${long('x')}.`,
    })),
  }
  const { env } = await gatewayOf(() => report)
  const recorded = recordedTerminal({ env, ...size })
  const write = (text: string) => {
    recorded.stdout.write(text)
    // A drawing is one write.
    stop.abort()
  }
  const terminal = { ...recorded, stdout: { ...recorded.stdout, write }, signal: stop.signal }
  expect(await runCommand(['top'], terminal)).toBe(0)
  const [drawing = ''] = terminal.output().split('\x1b[H\x1b[J').slice(1)
  const lines = drawing.split('\n')
  expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(size.columns)
  // The cursor is in the last one.
  expect(lines.length).toBeLessThanOrEqual(size.rows)
  expect(lines.at(-2)).toMatch(last)
  expect(lines[0]).toMatch(/^m+/)
})

test('a gateway of another version is told from another server, with what to update and a command that may work', async () => {
  const { health: _, ...older } = REPORT
  const { env } = await gatewayOf((call) =>
    call === 'GET /health' ? { status: 'ok', nodes_alive: 1 } : older,
  )
  const terminal = recordedTerminal({ env })
  expect(await runCommand(['top', '--once'], terminal)).toBe(1)
  expect(terminal.errors()).toBe(
    `copal: The gateway at ${env['COPAL_BASE_URL']} is of another version than this command: 'health' is missing in its ` +
      "response to GET /admin/overview. Update the older of the two: the gateway with 'npm start' or 'npm run deploy', this " +
      "command with its checkout. 'npx copal status' reads less, and may work meanwhile.\n",
  )
})

test('a gateway without an overview is named, with a command that works', async () => {
  const { env } = await gatewayOf(() => ({
    status: 404,
    body: {
      error: {
        message: 'There is nothing at GET /admin/overview.',
        type: 'invalid_request_error',
        param: null,
        code: 'not_found',
      },
    },
  }))
  const terminal = recordedTerminal({ env })
  expect(await runCommand(['top'], terminal)).toBe(1)
  expect(terminal.errors()).toMatch(/needs a node that has registered.*'npx copal status' works without/)
})
