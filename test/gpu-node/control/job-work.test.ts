import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { EvaluateJob } from '@copal/shared/wire/node-rpc.ts'
import { createDatasetStore } from '../../../gpu-node/src/control/datasets.ts'
import type { Evaluator } from '../../../gpu-node/src/control/evaluator.ts'
import type { GatewayClient } from '../../../gpu-node/src/control/gateway-client.ts'
import { createJobWork } from '../../../gpu-node/src/control/job-work.ts'
import { createMaskStore } from '../../../gpu-node/src/masks/store.ts'
import { memoryLog } from '../../support/memory-log.ts'
import { temporaryDir } from '../../support/temporary.ts'

const TEXT = new TextEncoder().encode('{"text":"What a client wrote."}\n')
const SHA256 = createHash('sha256').update(TEXT).digest('hex')
const refuse = () => Promise.reject(new AppError('no_node_available', 'not asked here'))
const gateway: GatewayClient = {
  download: async () =>
    (async function* () {
      yield TEXT
    })(),
  heartbeat: refuse,
  receipts: refuse,
  keepAnswer: refuse,
  uploadMask: refuse,
}
const job: EvaluateJob = {
  kind: 'evaluate',
  id: 'job-1',
  model: 'tiny',
  mask: null,
  holdouts: [{ sha256: SHA256, domain: 'legal', samples: 1 }],
  windowTokens: 16,
}
const context = { signal: new AbortController().signal, progress: () => undefined }

function workWith(evaluate: (path: string) => Promise<void>) {
  const home = temporaryDir()
  const evaluator: Evaluator = {
    async evaluate(_mask, sources) {
      for (const source of sources) if ('path' in source) await evaluate(source.path)
      return sources.map(() => ({
        windows: 1,
        tokens: 15,
        nllMean: 2,
        perplexity: Math.exp(2),
        windowNll: [2],
      }))
    },
  }
  const work = createJobWork({
    home,
    model: { spec: 'tiny', cacheDir: home, id: 'tiny', baseSha256: 'a'.repeat(64) },
    masks: createMaskStore({ home, gateway, log: memoryLog() }),
    datasets: createDatasetStore({ home, gateway }),
    evaluator,
    threads: 1,
  })
  return { work, datasets: join(home, 'datasets') }
}

test('texts of clients are on the disk of a node for as long as a job reads them', async () => {
  const read: Uint8Array[] = []
  const { work, datasets } = workWith(async (path) => void read.push(await readFile(path)))
  expect(await work.evaluate(job, context)).toMatchObject({ domains: [{ domain: 'legal', nllMean: 2 }] })
  expect(read.map((bytes) => new Uint8Array(bytes))).toEqual([TEXT])
  expect(existsSync(datasets)).toBe(false)
})

test('they are gone after a job that failed, too', async () => {
  const { work, datasets } = workWith(() => Promise.reject(new AppError('mask_invalid', 'damaged')))
  await expect(work.evaluate(job, context)).rejects.toThrow('damaged')
  expect(existsSync(datasets)).toBe(false)
})

test('what a killed node left is removed when it starts again', async () => {
  const home = temporaryDir()
  await mkdir(join(home, 'datasets'))
  await writeFile(join(home, 'datasets', `${SHA256}.ndjson`), TEXT)
  await createDatasetStore({ home, gateway }).clear()
  expect(existsSync(join(home, 'datasets'))).toBe(false)
})
