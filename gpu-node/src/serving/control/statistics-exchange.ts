import { createHash } from 'node:crypto'
import { join } from 'node:path'
import type { CalibrateJob, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import {
  MAX_STATISTICS_MANIFEST_BYTES,
  STATISTICS_MANIFEST,
  statisticsManifest,
  type StatisticsManifest,
} from '@copal/shared/wire/statistics-manifest.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import { reasonOf, type Log } from '../../platform/log.ts'
import {
  countedDatasets,
  coverWanted,
  neededStatistics,
  wantedParts,
} from '../../pruning/runs/calibration-task.ts'
import {
  receiveArtifact,
  sendArtifact,
  UnusableStatisticsError,
} from '../../pruning/statistics/artifact-transfer.ts'
import { listArtifacts, type Artifact } from '../../pruning/statistics/statistics-artifact.ts'
import { openStatisticsFolder } from '../../pruning/statistics/statistics-folder.ts'
import { chooseDownloads } from './choose-downloads.ts'
import type { GatewayClient } from './gateway-client.ts'
import type { JobContext } from './node-jobs.ts'

/** Shares statistics with other nodes through the gateway. */
export interface StatisticsExchange {
  /**
   * Fetches what this node lacks for a job and the job lists. What cannot be fetched or is damaged is left to calibration.
   *
   * @returns the hashes of the datasets that the job has to calibrate
   * @throws the reason of the signal
   */
  fetch(
    job: CalibrateJob,
    context: Pick<JobContext, 'signal' | 'progress' | 'retry'>,
  ): Promise<ReadonlySet<string>>
  /**
   * Stores the artifacts that the gateway lacks. Repeating it is harmless. A failure is logged, because other nodes can
   * calibrate.
   *
   * @returns those that it stored
   * @throws the reason of the signal
   */
  upload(
    artifacts: readonly Artifact[],
    job: CalibrateJob,
    context: Pick<JobContext, 'signal' | 'retry'>,
  ): Promise<StatisticsRef[]>
}

/** Creates the exchange of a node. */
export function createStatisticsExchange(deps: {
  home: string
  model: DenseModel
  gateway: Pick<GatewayClient, 'downloadStatistics' | 'uploadStatistics'>
  log: Log
  /** For tests. */
  pieceBytes?: number
}): StatisticsExchange {
  const { model, gateway, log } = deps
  const { baseSha256 } = model.master
  let opened: Promise<string> | undefined
  const folder = () =>
    (opened ??= openStatisticsFolder(join(deps.home, 'statistics'), model).catch((error: unknown) => {
      // The next job tries again.
      opened = undefined
      throw error
    }))

  async function fetchArtifact(
    { artifact, datasets }: StatisticsRef,
    { parts, expired }: { parts: ReadonlyMap<string, string>; expired: ReadonlySet<string> },
    { signal, retry }: Pick<JobContext, 'signal' | 'retry'>,
  ): Promise<void> {
    const manifest = parseManifest(
      await retry(async () => {
        const maxBytes = MAX_STATISTICS_MANIFEST_BYTES
        return readAll(await gateway.downloadStatistics(artifact, STATISTICS_MANIFEST, maxBytes, signal))
      }),
    )
    // The id of a part covers the weights, the text and its sampling, so these are the statistics that the job wants. Those of
    // an expired text are wanted whatever its sampling was, with all that they are summed with.
    const isAny = datasets.some((dataset) => expired.has(dataset))
    const isWanted = manifest.parts.every(({ id, datasetSha256 }) =>
      isAny ? datasets.includes(datasetSha256) : parts.get(id) === datasetSha256,
    )
    if (manifest.artifact !== artifact || manifest.baseSha256 !== baseSha256 || !isWanted)
      throw new UnusableStatisticsError(`the statistics ${artifact} are not those of the job`)
    const fetchPiece = ({ sha256, bytes }: { sha256: string; bytes: number }) =>
      gateway.downloadStatistics(artifact, sha256, bytes, signal)
    await receiveArtifact(await folder(), manifest, model.config, fetchPiece, retry)
  }

  return {
    async fetch(job, { signal, progress, retry }) {
      const wanted = countedDatasets(job)
      if (wanted.length === 0) return new Set()
      const needed = neededStatistics(job)
      const cover = async () =>
        coverWanted(model, job, await listArtifacts(await folder(), baseSha256), wanted, needed)
      const { chosen, missing } = await cover()
      const held = chosen.map((artifact) => artifact.parts.map(({ datasetSha256 }) => datasetSha256))
      const downloads = chooseDownloads(job.statistics ?? [], missing, held)
      if (downloads.length === 0) return new Set(missing)
      const parts = wantedParts(model, job, wanted, needed)
      const expired = new Set(wanted.flatMap((dataset) => (dataset.expired ? dataset.sha256 : [])))
      for (const ref of downloads) {
        progress(0, `fetching statistics of ${ref.domain}`)
        try {
          await fetchArtifact(ref, { parts, expired }, { signal, retry })
          log.info('statistics fetched', { artifact: ref.artifact, domain: ref.domain, bytes: ref.bytes })
        } catch (error) {
          signal.throwIfAborted()
          const fields = { artifact: ref.artifact, domain: ref.domain, reason: reasonOf(error) }
          log.warn('statistics cannot be fetched and are calibrated instead', fields)
        }
      }
      return new Set((await cover()).missing)
    },

    async upload(artifacts, job, { signal, retry }) {
      // A gateway that lists none does not store them.
      if (!job.statistics) return []
      const known = new Set(job.statistics.map(({ artifact }) => artifact))
      const sent: StatisticsRef[] = []
      for (const artifact of artifacts.filter(({ id }) => !known.has(id))) {
        try {
          sent.push(await send(artifact, job.model, { signal, retry }))
        } catch (error) {
          signal.throwIfAborted()
          log.warn('statistics cannot be stored at the gateway; other nodes calibrate instead', {
            artifact: artifact.id,
            reason: reasonOf(error),
          })
        }
      }
      return sent
    },
  }

  async function send(
    artifact: Artifact,
    modelId: string,
    { signal, retry }: Pick<JobContext, 'signal' | 'retry'>,
  ): Promise<StatisticsRef> {
    const { id } = artifact
    // Each file on its own, so that a failure does not repeat gigabytes.
    const upload = (file: string, bytes: Blob, sha256: string) =>
      retry(() => gateway.uploadStatistics(id, file, bytes, sha256, signal))
    const manifest = await sendArtifact(
      artifact,
      modelId,
      (sha256, piece) => upload(sha256, piece, sha256),
      deps.pieceBytes,
    )
    const json = JSON.stringify(manifest)
    const sha256 = createHash('sha256').update(json).digest('hex')
    await upload(STATISTICS_MANIFEST, new Blob([json]), sha256)
    const pieces = manifest.blocks.flatMap((block) => block.pieces)
    return {
      artifact: id,
      domain: manifest.domain,
      datasets: manifest.parts.map(({ datasetSha256 }) => datasetSha256).toSorted(),
      bytes: pieces.reduce((sum, { bytes }) => sum + bytes, Buffer.byteLength(json)),
    }
  }
}

async function readAll(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const received: Uint8Array[] = []
  for await (const chunk of chunks) received.push(chunk)
  return Buffer.concat(received)
}

function parseManifest(bytes: Buffer): StatisticsManifest {
  try {
    return statisticsManifest.parse(JSON.parse(bytes.toString('utf8')))
  } catch (cause) {
    throw new UnusableStatisticsError('a manifest is damaged', { cause })
  }
}
