import { env } from 'cloudflare:workers'
import { expect, test } from 'vitest'
import type { AlertsReport, DetectorsReport, ProbesReport } from '@copal/shared/wire/admin-alerts.ts'
import { driftAlert } from '../../../../gateway/src/adaptation/drift/alerts/drift-alert.ts'
import { openDatabase } from '../../../../gateway/src/storage/db/open-database.ts'
import { endAlerts, raiseAlerts } from '../../../../gateway/src/storage/db/queries/alert-queries.ts'
import { admin, adminJson, SimulatedNode } from '../../support/doubles/simulated-node.ts'
import { errorOf } from '../../support/requests/gateway-requests.ts'

const db = openDatabase(env.DB)
const alertOf = (model: string, domain: string, atMs: number) =>
  driftAlert(
    { model, domain, signal: 'dense', maskVersion: 0, before: 3, after: 4, detector: 'page_hinkley' },
    atMs,
  )

test('alerts that hold come first, then the newest, and one of a subject holds at a time', async () => {
  await new SimulatedNode('alerts-of-a', 'a').beat()
  const [old, held, newer] = [alertOf('a', 'old', 1), alertOf('a', 'held', 2), alertOf('a', 'newer', 3)]
  await raiseAlerts(db, [old, held, newer, alertOf('a', 'held', 4), alertOf('b', 'other', 5)])
  await endAlerts(db, [old.id, newer.id], 10)
  const list = async (query: string) =>
    (await adminJson<AlertsReport>('GET', `/alerts?${query}`)).alerts.map(({ domain }) => domain)
  expect(await list('model=a')).toEqual(['held', 'newer', 'old'])
  expect(await list('model=a&active=true')).toEqual(['held'])
  expect(await list('model=a&limit=2')).toEqual(['held', 'newer'])
  expect(await list('active=true')).toEqual(['other', 'held'])
  await raiseAlerts(db, [alertOf('a', 'old', 20)])
  expect(await list('model=a')).toEqual(['old', 'held', 'newer', 'old'])
})

test('a wrong filter is a 400 that names it', async () => {
  for (const [query, param] of [
    ['limit=0', 'limit'],
    ['limit=201', 'limit'],
    ['active=maybe', 'active'],
  ]) {
    const response = await admin('GET', `/alerts?${query}`)
    expect([response.status, (await errorOf(response)).param]).toEqual([400, param])
  }
  await new SimulatedNode('alerts-1', 'alerts').beat()
  for (const path of ['/alerts', '/detectors', '/probes', '/proposals'])
    expect((await admin('GET', `${path}?model=of-nobody`)).status).toBe(404)
})

test('a model without scores has no detectors and no probes', async () => {
  await new SimulatedNode('empty-1', 'empty').beat()
  expect(await adminJson<DetectorsReport>('GET', '/detectors?model=empty')).toEqual({
    model: 'empty',
    detectors: [],
  })
  expect(await adminJson<ProbesReport>('GET', '/probes?model=empty')).toEqual({ model: 'empty', probes: [] })
})
