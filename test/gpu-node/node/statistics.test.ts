import { expect, test } from 'vitest'
import type { CalibrateResult, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { statisticsManifest } from '@copal/shared/wire/statistics-manifest.ts'
import type { GatewayDouble } from '../../support/doubles/gateway-double.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import {
  calibrateJob,
  prepareNode,
  prepareWholeNodes,
  reportWhere,
} from '../../support/processes/whole-node.ts'

prepareWholeNodes()

function calibrated(result: { kind: string } | undefined): CalibrateResult {
  if (result?.kind !== 'calibrate') throw new Error('not a mask')
  return result as CalibrateResult
}

/** The statistics that a gateway has stored. */
function storedStatistics({ artifacts }: Pick<GatewayDouble, 'artifacts'>): StatisticsRef[] {
  const manifests = [...artifacts].filter(([path]) => path.endsWith('/manifest.json'))
  return manifests.map(([, bytes]) => {
    const { artifact, domain, parts } = statisticsManifest.parse(JSON.parse(Buffer.from(bytes).toString()))
    return {
      artifact,
      domain,
      datasets: parts.map(({ datasetSha256 }) => datasetSha256),
      bytes: bytes.length,
    }
  })
}

test('killed after its statistics were stored, a node reports the same mask, and another node needs no text', async () => {
  const { gateway, start } = await prepareNode()
  const job = { ...calibrateJob(gateway, 'first'), statistics: [] }
  gateway.jobs.push(job)
  const stored = Promise.withResolvers<void>()
  gateway.intercept = ({ method, url = '' }) => {
    if (method === 'PUT' && url.endsWith('/manifest.json')) stored.resolve()
    return false
  }
  const node = await start()
  await stored.promise
  await node.end('SIGKILL')
  gateway.intercept = undefined
  const reborn = await start()
  const first = calibrated((await reportWhere(gateway, 'first', ({ state }) => state === 'done')).result)
  const statistics = storedStatistics(gateway)
  expect(statistics).toHaveLength(1)
  expect(await reborn.end()).toBe(0)

  gateway.jobs.push({ ...job, id: 'second', statistics })
  const other = await start({ COPAL_HOME: temporaryDir('copal-home') })
  const second = calibrated((await reportWhere(gateway, 'second', ({ state }) => state === 'done')).result)
  expect(second.maskSha256).toBe(first.maskSha256)
  expect(other.output()).toContain('statistics fetched')
  expect(
    gateway.heartbeats.flatMap(({ jobs }) => jobs).filter(({ id }) => id === 'second'),
  ).not.toContainEqual(expect.objectContaining({ message: expect.stringContaining('calibrating') }))
  expect(await other.end()).toBe(0)
})
