import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, onTestFinished, test } from 'vitest'
import type { SeriesReport } from '@copal/shared/wire/admin-series.ts'
import { describeSeries } from '../../../../gpu-node/cli/commands/drift-watch.ts'
import { liveView } from '../../../../gpu-node/cli/output/live-view.ts'
import { sparkline } from '../../../../gpu-node/cli/output/sparkline.ts'
import { renderTable } from '../../../../gpu-node/cli/output/table.ts'
import { copal } from '../../../support/doubles/copal-command.ts'
import { recordedTerminal } from '../../../support/doubles/recorded-terminal.ts'

const START = Date.UTC(2026, 10, 28) / 1000
const estimate = (mean: (number | null)[]) => ({
  mean,
  lower: mean.map((value) => (value === null ? null : value - 0.05)),
  upper: mean.map((value) => (value === null ? null : value + 0.05)),
})
const REPORT: SeriesReport = {
  model: 'tiny',
  width: 3_600,
  starts: [0, 1, 2, 3].map((hour) => START + hour * 3_600),
  series: [
    {
      domain: 'legal',
      mask_version: 3,
      periods: [0, 2, 3],
      requests: [10, 20, 30],
      failed: [0, 0, 0],
      prompt_tokens: [1, 1, 1],
      completion_tokens: [1, 1, 1],
      first_token_ms: { p50: [1, 1, 1], p95: [1, 1, 1] },
      scored_requests: [5, 6, 0],
      scored_tokens: [50, 60, 0],
      dense: estimate([2, 2.5, null]),
      pruned: estimate([2.1, 2.8, null]),
      gap: estimate([0.1, 0.3, null]),
      not_scored: {
        not_sampled: [0, 0, 0],
        too_short: [0, 0, 0],
        budget: [0, 0, 0],
        evicted: [0, 0, 0],
        failed: [0, 0, 0],
      },
    },
  ],
  marks: [
    {
      at: '2026-11-28T01:30:00.000Z',
      kind: 'promoted',
      mask_version: 3,
      domain: null,
      update: null,
      text: 'm3 became active: it passed.',
    },
  ],
}

test('the view shows the newest scored period of each domain, its course, and what happened', () => {
  const text = describeSeries(REPORT, (columns, rows) => renderTable(columns, rows, 120))
  expect(text).toMatch(/legal +m3 +60 +11 +2\.500 +2\.800 +0\.300 +0\.250 to 0\.350 +▁ █$/m)
  expect(text).toContain('\n2026-11-28 01:30 UTC  m3 became active: it passed.')
  expect(describeSeries({ ...REPORT, series: [] }, () => '')).toContain('No request has been settled')
})

test('a sparkline spans the values, and leaves unknown ones blank', () => {
  expect(sparkline([1, null, 8, 4.5])).toBe('▁ █▅')
  expect(sparkline([2, 2])).toBe('▁▁')
  expect(sparkline([null])).toBe(' ')
})

test('a live view replaces itself on a terminal, and ends when the user presses Ctrl-C', async () => {
  const end = new AbortController()
  const terminal = { ...recordedTerminal(), signal: end.signal }
  let drawn = 0
  await liveView(terminal, 1, () => {
    drawn += 1
    if (drawn === 3) end.abort()
    return Promise.resolve(`drawing ${drawn}`)
  })
  expect(terminal.output().split('\x1b[H\x1b[J')).toEqual(['', 'drawing 1\n', 'drawing 2\n', 'drawing 3\n'])
  const broken = () => Promise.reject(new Error('no gateway'))
  await expect(liveView(recordedTerminal(), 1, broken)).rejects.toThrow('no gateway')
})

test('a plot is written as SVG with its lines, marks and axes, and the filters reach the gateway', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'copal-plot-'))
  onTestFinished(() => rm(dir, { recursive: true }))
  const args = ['drift', '--plot', 'gap.svg', '--domain', 'legal', '--since', '6h']
  const { code, stdout, calls } = await copal(REPORT, args, { cwd: dir })
  expect([code, stdout]).toEqual([0, `Written to ${join(dir, 'gap.svg')}.\n`])
  expect(calls[0]?.call).toMatch(/^GET \/admin\/series\?domain=legal&from=\d{4}-/)
  const svg = await readFile(join(dir, 'gap.svg'), 'utf8')
  for (const words of ['legal m3', 'm3 active', 'gap, nats a token', 'time, UTC'])
    expect(svg).toContain(words)
  const png = await copal(REPORT, ['drift', '--plot', 'gap.PNG'], { cwd: dir })
  expect(png.code).toBe(0)
  expect((await readFile(join(dir, 'gap.PNG'))).subarray(1, 4).toString()).toBe('PNG')
})

test.each([
  [['drift', '--plot', 'gap.pdf'], /ends with \.svg or \.png/],
  [['drift', '--plot', 'gap.svg', '--watch'], /cannot be used with/],
  [['drift', '--plot', 'gap.svg', '--since', 'monday'], /A time like 90m, 6h or 7d/],
  [['drift', '--domain', 'legal'], /'--domain' goes with --watch or --plot/],
  [['drift', '--since', '6h', '--json'], /'--since' goes with --watch or --plot/],
])('copal %j is explained', async (args, message) => {
  const { code, stderr } = await copal(REPORT, args)
  expect(code).toBe(2)
  expect(stderr).toMatch(message)
})

test('a time without scored requests has nothing to plot', async () => {
  const { code, stderr } = await copal({ ...REPORT, series: [] }, ['drift', '--plot', 'gap.svg'])
  expect(code).toBe(1)
  expect(stderr).toContain('No request was scored in this time, so there is nothing to plot.')
  const args = ['drift', '--plot', 'gap.svg', '--domain', 'leagl']
  expect((await copal({ ...REPORT, series: [] }, args)).stderr).toContain(
    "No request of domain 'leagl' was scored",
  )
})
