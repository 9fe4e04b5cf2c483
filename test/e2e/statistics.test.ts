/** Statistics between a real node, the real gateway and another node's client. */
import type { UpdateEntry } from '@copal/shared/wire/admin.ts'
import { MAX_STATISTICS_MANIFEST_BYTES, statisticsManifest } from '@copal/shared/wire/statistics-manifest.ts'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { join } from 'node:path'
import { createGatewayClient } from '../../gpu-node/src/serving/control/gateway-client.ts'
import { receiveArtifact } from '../../gpu-node/src/pruning/statistics/artifact-transfer.ts'
import { accumulateStatistic } from '../../gpu-node/src/pruning/statistics/artifact-folder.ts'
import { temporaryDir } from '../support/harness/temporary.ts'
import { startFleet, type TestFleet } from '../support/processes/fleet.ts'
import { until } from '../support/processes/service.ts'
import { storedStatistics } from '../support/pruning/stored-statistics.ts'
import { passages } from '../support/text/passages.ts'

let fleet: TestFleet
beforeAll(async () => {
  fleet = await startFleet()
  await fleet.start('node-a')
})
afterAll(() => fleet?.stop())

test('what one node calibrated another one fetches from the gateway, byte for byte', async () => {
  await fleet.admin('POST', '/admin/domains/speech/texts', { texts: passages('speech.calibration.txt', 120) })
  await until('the update to start', async () => {
    const update = { model: 'tiny', domains: ['speech'], samples: 4, length: 64, method: 'continual-wanda' }
    return fleet.admin<UpdateEntry>('POST', '/admin/updates', update).catch(() => undefined)
  })
  const { COPAL_HOME } = await fleet.environment('node-a')
  const secret = await fleet.nodeSecret('node-b')
  const other = createGatewayClient({ baseUrl: fleet.url, nodeId: 'node-b', secret })
  const { original, manifest } = await until('the statistics in R2', async () => {
    const [artifact] = await storedStatistics(join(COPAL_HOME!, 'statistics'), fleet.model)
    if (!artifact) return undefined
    const chunks = await other
      .downloadStatistics(artifact.id, 'manifest.json', MAX_STATISTICS_MANIFEST_BYTES)
      .catch(() => undefined)
    if (!chunks) return undefined
    const bytes: Uint8Array[] = []
    for await (const chunk of chunks) bytes.push(chunk)
    return {
      original: artifact,
      manifest: statisticsManifest.parse(JSON.parse(Buffer.concat(bytes).toString('utf8'))),
    }
  })
  expect(manifest).toMatchObject({ model: 'tiny', domain: 'speech' })
  const copy = await receiveArtifact(temporaryDir(), manifest, fleet.model.config, ({ sha256, bytes }) =>
    other.downloadStatistics(manifest.artifact, sha256, bytes),
  )
  expect({ ...copy, dir: '' }).toEqual({ ...original, dir: '' })
  const name = 'mlp_hidden.second_moment'
  expect(await accumulateStatistic([copy], 0, name)).toEqual(await accumulateStatistic([original], 0, name))
})
