/**
 * A real Prometheus scrapes both halves, with the rules and for the dashboards of `infra/observability`. The node then
 * computes wrong results, because its weights are damaged, and an alert fires.
 */
import { mkdtemp, open, rm, writeFile } from 'node:fs/promises'
import { readFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { dashboardFiles } from '../../infra/observability/dashboards/dashboard-files.ts'
import { addon } from '../support/engine/backends.ts'
import { skipWithoutAddon } from '../support/harness/skip-without-addon.ts'
import { randomHalfMask } from '../support/models/random-masks.ts'
import { startFleet, type FleetNode, type TestFleet } from '../support/processes/fleet.ts'
import { startPrometheus, type Prometheus } from '../support/processes/prometheus.ts'
import { until } from '../support/processes/service.ts'
import { OBSERVABILITY, queriesOf, readRules, RULE_FILES } from '../support/telemetry/observability-files.ts'

const WAIT_MS = 300_000
/** Queries that must have data after a few requests on one node with an active mask; others need trials, faults or hours. */
const WITH_DATA =
  /^(copal-service: (Requests a second|Tokens a second|Failed|Nodes|Weights pruned|Requests by outcome|Tokens|Duration|Wait in the gateway|variable model)|copal-adaptation: (Scoring|Active mask|Nodes that agree on the probe texts|Loss on the probe texts)|copal-nodes: (Time to first token, p95|Steps|Batch size|Tokens computed|Requests|Key\/value cache|Process|Active mask|Weights in memory|variable instance))$/

let dir: string
let fleet: TestFleet
let node: FleetNode
let prometheus: Prometheus
let key: string

if (!addon) skipWithoutAddon('alerts and dashboards on a real Prometheus')

beforeAll(async () => {
  if (!addon) return
  dir = await mkdtemp(join(tmpdir(), 'copal-observability-'))
  fleet = await startFleet({
    backend: 'sparse',
    nodeVariables: { COPAL_PROBE_MS: '1000' },
  })
  node = await fleet.start('node-a')
  key = (await fleet.key()).key
  await fleet.importMask(randomHalfMask(fleet.model, 1).bytes, true)
  const { url } = await node.process.ready()
  prometheus = await startPrometheus(await configuration(new URL(url).host))
})
afterAll(async () => {
  await prometheus?.stop()
  await fleet?.stop()
  if (dir) await rm(dir, { recursive: true, force: true })
})

/** Writes the shipped configuration with the addresses of the fleet, and short intervals. */
async function configuration(nodeHost: string): Promise<string> {
  const shipped = readFileSync(new URL('prometheus/prometheus.yml', OBSERVABILITY), 'utf8')
  const config = shipped
    .replace('scrape_interval: 15s', 'scrape_interval: 1s')
    .replace('evaluation_interval: 15s', 'evaluation_interval: 1s')
    .replace('rules/*.yml', `${dirname(RULE_FILES[0]!)}/*.yml`)
    .replace('/etc/prometheus/secrets/gateway-key', join(dir, 'gateway-key'))
    .replace('127.0.0.1:8787', new URL(fleet.url).host)
    .replace('127.0.0.1:8790', nodeHost)
  await writeFile(join(dir, 'gateway-key'), fleet.adminKey, { mode: 0o600 })
  await writeFile(join(dir, 'prometheus.yml'), config)
  return join(dir, 'prometheus.yml')
}

async function complete(): Promise<void> {
  const body = { model: 'tiny', prompt: 'the cat sat on the mat and it is there', max_tokens: 8 }
  const response = await fetch(`${fleet.url}/v1/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })
  if (!response.ok) throw new Error(await response.text())
  await response.text()
}

test.runIf(addon)('Prometheus reads both halves, and every query of rules and dashboards works', async () => {
  const panels = [...dashboardFiles().values()].flatMap(queriesOf)
  const needed = Map.groupBy(panels, ({ panel }) => panel)
  /** Returns the panels that must have data and have none. */
  const missing = async (): Promise<string[]> => {
    const without = [...needed].map(async ([panel, queries]) => {
      if (!WITH_DATA.test(panel)) return []
      const found = await Promise.all(queries.map(({ expr }) => prometheus.query(expr)))
      return found.flat().length === 0 ? [panel] : []
    })
    return (await Promise.all(without)).flat()
  }
  await until(
    'both targets',
    async () => {
      const targets = await prometheus.targets()
      return targets.length === 2 && targets.every(({ health }) => health === 'up') ? true : undefined
    },
    WAIT_MS,
  ).catch(async (error: unknown) => {
    throw new Error(JSON.stringify(await prometheus.targets()), { cause: error })
  })
  let left: string[] = []
  await until(
    'data in the panels',
    async () => {
      await complete()
      left = await missing()
      return left.length === 0 ? true : undefined
    },
    WAIT_MS,
  ).catch((error: unknown) => {
    throw new Error(`no data: ${left.join('; ')}`, { cause: error })
  })
  // An invalid expression throws.
  for (const { expr } of [...panels, ...readRules()]) await prometheus.query(expr)
  expect((await prometheus.firing()).map(({ labels }) => labels['alertname'])).toEqual([])
})

test.runIf(addon)('an alert fires for a node whose weights are damaged', async () => {
  const matching = 'copal_probe_matches{node="node-a", mask_version!="0"} == 1'
  await until(
    'scores of the probe texts',
    async () => ((await prometheus.query(matching)).length > 0 ? true : undefined),
    WAIT_MS,
  )
  expect((await prometheus.firing()).map(({ labels }) => labels['alertname'])).not.toContain(
    'CopalProbeMismatch',
  )
  await damageEmbedding()
  const alert = await until(
    'the alert',
    async () =>
      (await prometheus.firing()).find(({ labels }) => labels['alertname'] === 'CopalProbeMismatch'),
    WAIT_MS,
  )
  expect(alert.labels).toMatchObject({ node: 'node-a', model: 'tiny', severity: 'critical' })
  expect(alert.annotations['summary']).toMatch(/^The node node-a computes wrong results with mask \d+\.$/)
})

/** Overwrites rows of the embedding in the master file, which the node has mapped: it computes on as if nothing had happened. */
async function damageEmbedding(): Promise<void> {
  const { path, tensors } = fleet.model.master
  const { offset, bytes } = tensors.get('model.embed_tokens.weight')!
  const file = await open(path, 'r+')
  try {
    await file.write(Buffer.alloc(bytes >> 1, 0x3f), 0, bytes >> 1, offset)
  } finally {
    await file.close()
  }
}
