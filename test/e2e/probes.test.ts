/** The real gateway and real nodes, one of which has damaged weights: their scores of the probe texts tell which. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { AlertsReport, ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import { createTinyLlama } from '../support/models/tiny-llama.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { startNodeProcess, type NodeProcess } from '../support/processes/node-process.ts'
import { until } from '../support/processes/service.ts'

let fleet: TestFleet
let dir: string
let damaged: NodeProcess | undefined

beforeAll(async () => {
  fleet = await startFleet({ nodeVariables: { COPAL_PROBE_MS: '2000' } })
  dir = await mkdtemp(join(tmpdir(), 'copal-probes-'))
})
afterAll(async () => {
  await damaged?.end('SIGKILL')
  await fleet?.stop()
  await rm(dir, { recursive: true, force: true })
})

/** Returns the scores of the nodes once there are as many. */
const scoresOf = (count: number) =>
  until(`the scores of ${count} nodes`, async () => {
    const { probes } = await fleet.admin<ProbesReport>('GET', '/admin/probes')
    return probes.length === count ? probes : undefined
  })
const alerts = async () => (await fleet.admin<AlertsReport>('GET', '/admin/alerts?active=true')).alerts

test('the node whose weights are damaged outside its linears alarms with its first score, and no other', async () => {
  await Promise.all([fleet.start('node-a'), fleet.start('node-b')])
  const [first, second] = await scoresOf(2)
  expect(second).toMatchObject({ node: 'node-b', mask_version: 0, nll: first?.nll, matches: true })
  expect(await alerts()).toEqual([])
  // Its linear weights are the same, and so is the hash that the gateway knows them by.
  const other = await createTinyLlama(join(dir, 'tiny'), { contextLength: 16_384, logitScale: 1.2 })
  damaged = startNodeProcess({
    ...(await fleet.environment('node-c')),
    COPAL_MODEL: other.dir,
    COPAL_CACHE: join(dir, 'cache'),
  })
  await damaged.ready()
  const scores = await scoresOf(3)
  expect(scores.map(({ node, matches }) => [node, matches])).toEqual([
    ['node-a', true],
    ['node-b', true],
    ['node-c', false],
  ])
  // It is raised right after the score was stored.
  await expect
    .poll(alerts)
    .toMatchObject([{ kind: 'probe_mismatch', node: 'node-c', mask_version: 0, domain: null }])
})
