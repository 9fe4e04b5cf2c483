import { expect, test } from 'vitest'
import * as conventions from '@opentelemetry/semantic-conventions/incubating'
import { GATEWAY_METRICS } from '../../shared/src/telemetry/gateway-metric-table.ts'
import { prometheusLabel, prometheusName, type Metric } from '../../shared/src/telemetry/metric.ts'
import { NODE_METRICS } from '../../shared/src/telemetry/node-metric-table.ts'
import { SPANS } from '../../shared/src/telemetry/span-table.ts'
import { readText, ROOT } from './markdown.ts'

const PAGE = 'docs/telemetry.md'
const UPDATE = 'npx vitest run --project unit test/docs/telemetry.test.ts --update'

const gatewayMetrics: Metric[] = Object.values(GATEWAY_METRICS)
const nodeMetrics: Metric[] = Object.values(NODE_METRICS)

test(`${PAGE} has the metrics and spans of the tables (to update it: ${UPDATE})`, async () => {
  const updated = readText(PAGE)
    .replace(/<!-- metrics: gateway -->\n[\s\S]*?<!-- end -->/, () =>
      section('metrics: gateway', metricTable(gatewayMetrics)),
    )
    .replace(/<!-- metrics: node -->\n[\s\S]*?<!-- end -->/, () =>
      section('metrics: node', metricTable(nodeMetrics)),
    )
    .replace(/<!-- spans -->\n[\s\S]*?<!-- end -->/, () => section('spans', spanTable()))
  for (const mark of ['metrics: gateway', 'metrics: node', 'spans'])
    expect(updated).toContain(`<!-- ${mark} -->`)
  await expect(updated).toMatchFileSnapshot(`${ROOT}/${PAGE}`)
})

test('no two metrics of a half have one Prometheus name', () => {
  for (const metrics of [gatewayMetrics, nodeMetrics]) {
    const names = metrics.map(prometheusName)
    expect(new Set(names).size).toBe(names.length)
  }
})

const known = new Set<unknown>(Object.values(conventions))
/** Names of copal itself, and attributes of its metrics, which have no dots. */
const isOwn = (name: string) => name.startsWith('copal.') || !name.includes('.')

test('metrics and attributes outside copal.* are names of the pinned semantic conventions', () => {
  const { devDependencies } = JSON.parse(readText('package.json')) as {
    devDependencies: Record<string, string>
  }
  expect(readText(PAGE)).toContain(
    `\`@opentelemetry/semantic-conventions\` ${devDependencies['@opentelemetry/semantic-conventions']}`,
  )
  const names = [...gatewayMetrics, ...nodeMetrics].flatMap(({ name, labels }) => [name, ...labels])
  const attributes = SPANS.flatMap(({ attributes: own }) => [...own])
  const outside = [...names, ...attributes].filter((name) => !isOwn(name))
  expect(outside.length).toBeGreaterThan(20)
  expect(outside.filter((name) => !known.has(name))).toEqual([])
})

test('every metric of the conventions for model servers is exported by nodes', () => {
  const servers = Object.entries(conventions)
    .filter(([constant]) => constant.startsWith('METRIC_GEN_AI_SERVER_'))
    .map(([, name]) => name)
  expect(servers.length).toBeGreaterThan(2)
  expect(nodeMetrics.map(({ name }) => name)).toEqual(expect.arrayContaining(servers))
})

function section(mark: string, table: string): string {
  return `<!-- ${mark} -->\n${table}<!-- end -->`
}

function metricTable(metrics: readonly (Metric & { perTenant?: true })[]): string {
  const rows = metrics.map((metric) => {
    const labels = metric.labels.map((label) => `\`${prometheusLabel(label)}\``).join(', ')
    const mark = metric.perTenant ? ' °' : ''
    return `| \`${prometheusName(metric)}\`${mark} | ${metric.name} | ${metric.type} | ${labels} | ${metric.meaning} |\n`
  })
  return `| Prometheus | OpenTelemetry | Type | Labels | Meaning |\n| --- | --- | --- | --- | --- |\n${rows.join('')}`
}

function spanTable(): string {
  const rows = SPANS.map(({ name, half, kind, parent, attributes, meaning }) => {
    const names = attributes.map((attribute) => `\`${attribute}\``).join(', ')
    return `| \`${name}\` | ${half} | ${kind} | ${parent} | ${names} | ${meaning} |\n`
  })
  return `| Span | Half | Kind | Parent | Attributes | Meaning |\n| --- | --- | --- | --- | --- | --- |\n${rows.join('')}`
}
