import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { GATEWAY_METRICS } from '@copal/shared/telemetry/gateway-metric-table.ts'
import { prometheusName, type Metric } from '@copal/shared/telemetry/metric.ts'
import { NODE_METRICS } from '@copal/shared/telemetry/node-metric-table.ts'
import { DASHBOARD_FOLDER, dashboardFiles } from '../../../infra/observability/dashboards/dashboard-files.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { promtool } from '../../support/processes/prometheus.ts'
import {
  OBSERVABILITY,
  queriesOf,
  readRules,
  RULE_FILES,
} from '../../support/telemetry/observability-files.ts'

const RULE_TESTS = fileURLToPath(new URL('prometheus/tests/rules.test.yml', OBSERVABILITY))
const rules = readRules()
const alerts = rules.filter(({ kind }) => kind === 'alert')

test('Prometheus accepts the rules and the configuration, and the unit tests of the rules pass', async () => {
  for (const args of [
    ['check', 'rules', ...RULE_FILES],
    ['check', 'config', '--syntax-only', fileURLToPath(new URL('prometheus/prometheus.yml', OBSERVABILITY))],
    ['test', 'rules', RULE_TESTS],
  ]) {
    expect(await promtool(args)).toMatchObject({ exitCode: 0 })
  }
})

test('a threshold that changes fails the unit tests', async () => {
  const dir = temporaryDir()
  for (const path of RULE_FILES) {
    const name = path.slice(path.lastIndexOf('/') + 1)
    const text = readFileSync(path, 'utf8').replace(
      'copal_node_receipts_waiting > 500',
      'copal_node_receipts_waiting > 5',
    )
    await writeFile(join(dir, name), text)
  }
  // Of the tests only those of this alert, since evaluating all takes seconds.
  const [head = '', ...tests] = readFileSync(RULE_TESTS, 'utf8')
    .replaceAll('../rules/', '')
    .split(/^(?= {2}- name: )/m)
  const own = tests.filter((one) => one.startsWith('  - name: CopalReceiptsWait '))
  expect(own).toHaveLength(2)
  await writeFile(join(dir, 'rules.test.yml'), [head, ...own].join(''))
  const { output, exitCode } = await promtool(['test', 'rules', join(dir, 'rules.test.yml')])
  expect(exitCode).not.toBe(0)
  expect(output).toContain('CopalReceiptsWait')
})

test('each alert has a test in which it fires, one in which it does not, and a section that says what to do', () => {
  const tests = readFileSync(RULE_TESTS, 'utf8')
  const docs = readFileSync(new URL('../../docs/observability.md', OBSERVABILITY), 'utf8')
  for (const { name } of alerts) {
    expect(tests).toContain(`- name: ${name} fires\n`)
    expect(tests).toContain(`- name: ${name} is silent\n`)
    expect(docs).toContain(`\n### ${name}\n`)
  }
  const sections = [...docs.matchAll(/^### (Copal\w+)$/gm)].map(([, name = '']) => name)
  expect(sections.toSorted()).toEqual(alerts.map(({ name }) => name).toSorted())
})

test('the files of the dashboards are what their sources give', () => {
  const files = dashboardFiles()
  expect(readdirSync(DASHBOARD_FOLDER).toSorted()).toEqual([...files.keys()].toSorted())
  for (const [name, content] of files)
    // After a change: node infra/observability/dashboards/generate.ts
    expect(readFileSync(new URL(name, DASHBOARD_FOLDER), 'utf8')).toBe(content)
})

test('the figure of pruned weights is that of the active mask, and there is none while dense weights serve', async () => {
  const panels = [...dashboardFiles().values()].flatMap(queriesOf)
  const pruned = panels.find(({ panel }) => panel === 'copal-service: Weights pruned')
  const series = {
    'copal_model_active_version{model="pruned"}': '12x5',
    'copal_mask_sparsity_ratio{model="pruned",mask_version="12"}': '0.5x5',
    'copal_mask_sparsity_ratio{model="pruned",mask_version="11"}': '0.6x5',
    'copal_model_active_version{model="dense again"}': '0x5',
    'copal_mask_sparsity_ratio{model="dense again",mask_version="3"}': '0.6x5',
  }
  const input_series = Object.entries(series).map(([name, values]) => ({ series: name, values }))
  const exp_samples = [{ labels: '{model="pruned"}', value: 0.5 }]
  const promql_expr_test = [{ expr: pruned?.expr, eval_time: '3m', exp_samples }]
  const path = join(temporaryDir(), 'figure.test.yml')
  // JSON is YAML too.
  await writeFile(path, JSON.stringify({ tests: [{ interval: '1m', input_series, promql_expr_test }] }))
  expect(await promtool(['test', 'rules', path])).toMatchObject({ exitCode: 0 })
})

test('rules and dashboards ask only for series that the service exports or a rule records', () => {
  const exported = new Set(['up'])
  const tables: Record<string, Metric>[] = [GATEWAY_METRICS, NODE_METRICS]
  for (const metric of tables.flatMap((table) => Object.values(table))) {
    const name = prometheusName(metric)
    const suffixes = metric.type === 'histogram' ? ['_bucket', '_sum', '_count'] : ['']
    for (const suffix of suffixes) exported.add(name + suffix)
  }
  const recorded = rules.filter(({ kind }) => kind === 'record').map(({ name }) => name)
  const expressions = [
    ...rules.map(({ expr }) => expr),
    ...[...dashboardFiles().values()].flatMap(queriesOf).map(({ expr }) => expr),
  ]
  const named = new Set(
    expressions.flatMap(
      (expr) =>
        expr.match(
          /\b(?:copal|gen_ai|process|nodejs|up)\b[:_]?[\w:]*(?=[{[ )]|$)|\b(?:copal|gen_ai|process|nodejs)_\w+(?=[{[ )]|$)/gm,
        ) ?? [],
    ),
  )
  expect(named.size).toBeGreaterThan(50)
  expect([...named].filter((name) => !exported.has(name) && !recorded.includes(name))).toEqual([])
  // What is recorded is used.
  expect(recorded.filter((name) => !expressions.some((expr) => expr.includes(name)))).toEqual([])
})
