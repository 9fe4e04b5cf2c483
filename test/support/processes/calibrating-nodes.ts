/** Nodes that calibrate in child processes, and share statistics through a gateway double over HTTP. */
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest'
import type { CalibrateJob, DatasetRef, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { WORDS } from '../../../gpu-node/bench/models/words.ts'
import { createDatasetStore } from '../../../gpu-node/src/serving/control/dataset-store.ts'
import { createGatewayClient } from '../../../gpu-node/src/serving/control/gateway-client.ts'
import { createTrafficWatch } from '../../../gpu-node/src/serving/control/traffic-watch.ts'
import { createJobWork } from '../../../gpu-node/src/serving/control/node-job-work.ts'
import type { JobContext } from '../../../gpu-node/src/serving/control/node-jobs.ts'
import { createStatisticsExchange } from '../../../gpu-node/src/serving/control/statistics-exchange.ts'
import { createMaskStore } from '../../../gpu-node/src/serving/masks/mask-store.ts'
import { startGatewayDouble, type GatewayDouble } from '../doubles/gateway-double.ts'
import { memoryLog } from '../doubles/memory-log.ts'
import { createRandom } from '../harness/random.ts'
import { temporaryDir } from '../harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../models/tiny-model.ts'
import { storedStatistics } from '../pruning/stored-statistics.ts'

/** Creates a calibration job of the tiny model. */
export function jobOf(
  datasets: DatasetRef[],
  accumulated: DatasetRef[],
  changes: Partial<CalibrateJob> = {},
) {
  const job: CalibrateJob = {
    kind: 'calibrate',
    id: 'job-1',
    model: 'tiny',
    datasets,
    accumulated,
    samples: 5,
    length: 32,
    seed: 7,
    selection: { method: 'continual-wanda+swaps', pattern: '0.5', scope: 'row', weights: {} },
    parent: null,
    statistics: [],
    created: '2026-11-25T00:00:00.000Z',
    ...changes,
  }
  return job
}

/** Prepares a tiny model for the tests of a file, and a gateway for each of them. */
export function prepareCalibratingNodes() {
  let tiny: TinyModel
  let gateway: GatewayDouble
  beforeAll(async () => {
    tiny = await openTinyModel({ layers: 2 })
  })
  afterAll(() => tiny.remove())
  beforeEach(async () => {
    gateway = await startGatewayDouble()
  })
  afterEach(() => gateway.close())

  function dataset(domain: string, seed: number): DatasetRef {
    const random = createRandom(seed)
    const text = () => Array.from({ length: 40 }, () => WORDS[Math.floor(random() * WORDS.length)]).join(' ')
    return gateway.addDataset(domain, Array.from({ length: 6 }, text))
  }

  /** A node with an empty home. */
  function createNode() {
    const home = temporaryDir()
    const log = memoryLog()
    const client = createGatewayClient({ baseUrl: gateway.url, nodeId: 'node-1', secret: gateway.secret })
    const exchange = createStatisticsExchange({
      home,
      model: tiny.model,
      gateway: client,
      log,
      pieceBytes: 20_000,
    })
    let stored: StatisticsRef[] = []
    const work = createJobWork({
      home,
      model: {
        spec: join(tiny.dir, 'model'),
        cacheDir: join(tiny.dir, 'cache'),
        id: 'tiny',
        baseSha256: tiny.model.master.baseSha256,
      },
      masks: createMaskStore({ home, maxBytes: 2 ** 20, gateway: client, log }),
      removeUnusedMasks: async () => {},
      datasets: createDatasetStore({ home, gateway: client }),
      evaluator: { evaluate: () => Promise.reject(new Error('no evaluations here')) },
      traffic: createTrafficWatch(() => 0),
      statistics: {
        ...exchange,
        async upload(...sent) {
          stored = await exchange.upload(...sent)
          return stored
        },
      },
      threads: 1,
      gpu: null,
      log: memoryLog(),
    })
    return {
      log,
      home,
      /** Fetches the stored statistics of a job, which comes before its calibration, and returns the datasets that are still missing. */
      fetch: (job: CalibrateJob) =>
        exchange.fetch(job, {
          signal: new AbortController().signal,
          progress: () => undefined,
          retry: (part) => part(),
        }),
      /** Runs a job; `passes` are the domains of the texts that were calibrated. */
      async run(job: CalibrateJob, retry: JobContext['retry'] = (part) => part()) {
        const passes: string[] = []
        const result = await work.calibrate(job, {
          signal: new AbortController().signal,
          retry,
          progress(_fraction, message) {
            const [, domain] = /^calibrating (\w+), block 2 of 2/.exec(message) ?? []
            if (domain !== undefined) passes.push(domain)
          },
        })
        return { ...result, passes, stored }
      },
      statistics: () => storedStatistics(join(home, 'statistics'), tiny.model),
    }
  }

  let calibrated:
    | {
        result: Awaited<ReturnType<ReturnType<typeof createNode>['run']>>
        artifacts: ReadonlyMap<string, Uint8Array>
      }
    | undefined

  /**
   * Returns a dataset and what a node stored at the gateway that calibrated it alone. The node runs in the first test;
   * later ones get copies of its artifacts.
   */
  async function calibratedByOneNode() {
    const a = dataset('legal', 1)
    calibrated ??= {
      result: await createNode().run(jobOf([a], [])),
      artifacts: new Map(gateway.artifacts),
    }
    for (const [key, bytes] of calibrated.artifacts) gateway.artifacts.set(key, bytes)
    return { a, ...calibrated.result }
  }

  return {
    /** The gateway of the running test. */
    get gateway() {
      return gateway
    },
    get model() {
      return tiny.model
    },
    dataset,
    createNode,
    calibratedByOneNode,
  }
}
