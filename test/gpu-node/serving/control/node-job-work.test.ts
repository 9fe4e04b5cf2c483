import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, utimes, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, onTestFinished, test, vi } from 'vitest'
import { AppError } from '@copal/shared/errors.ts'
import type { CalibrateJob, EvaluateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import { createDatasetStore } from '../../../../gpu-node/src/serving/control/dataset-store.ts'
import type { Evaluation } from '../../../../gpu-node/src/pruning/evaluation/evaluate-windows.ts'
import type { MaskEvaluator } from '../../../../gpu-node/src/serving/control/mask-evaluator.ts'
import type { GatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { createTrafficWatch } from '../../../../gpu-node/src/serving/control/traffic-watch.ts'
import { createJobWork, type JobWorkDeps } from '../../../../gpu-node/src/serving/control/node-job-work.ts'
import type { JobContext } from '../../../../gpu-node/src/serving/control/node-jobs.ts'
import type { StatisticsExchange } from '../../../../gpu-node/src/serving/control/statistics-exchange.ts'
import { reasonOf } from '../../../../gpu-node/src/platform/log.ts'
import { createMaskStore } from '../../../../gpu-node/src/serving/masks/mask-store.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel } from '../../../support/models/tiny-model.ts'
import { writeWordsDataset } from '../../../support/pruning/calibration-datasets.ts'

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
  sendCachedResponse: refuse,
  uploadMask: refuse,
  downloadStatistics: refuse,
  uploadStatistics: refuse,
}
const statistics: StatisticsExchange = {
  fetch: async ({ datasets }) => new Set(datasets.map(({ sha256 }) => sha256)),
  upload: async () => [],
}
const job: EvaluateJob = {
  kind: 'evaluate',
  id: 'job-1',
  model: 'tiny',
  mask: null,
  holdouts: [{ sha256: SHA256, domain: 'legal', samples: 1 }],
  windowTokens: 16,
}
const context: JobContext = {
  signal: new AbortController().signal,
  progress: () => undefined,
  retry: (part) => part(),
}

function workWith(evaluate: (path: string) => Promise<void>, changes: Partial<Evaluation> = {}) {
  const home = temporaryDir()
  const evaluator: MaskEvaluator = {
    async evaluate(_mask, sources, { checkGeneration }) {
      for (const source of sources) if ('path' in source) await evaluate(source.path)
      const result = {
        windows: 1,
        tokens: 15,
        nllMean: 2,
        perplexity: Math.exp(2),
        windowNll: [2],
        windowTokens: [15],
        ...changes,
      }
      const generation = { finite: true, tokens: 192, repetition: 0.5, entropy: 2 }
      const numerics = 'bf16, head int8'
      return { sources: sources.map(() => result), numerics, ...(checkGeneration ? { generation } : {}) }
    },
  }
  const masks = createMaskStore({ home, maxBytes: 2 ** 20, gateway, log: memoryLog() })
  const work = createJobWork({
    home,
    model: { spec: 'tiny', cacheDir: home, id: 'tiny', baseSha256: 'a'.repeat(64) },
    masks,
    removeUnusedMasks: () => masks.removeUnused([]),
    datasets: createDatasetStore({ home, gateway }),
    evaluator,
    statistics,
    traffic: createTrafficWatch(() => 0),
    threads: 1,
    gpu: null,
    log: memoryLog(),
  })
  return { work, datasets: join(home, 'datasets'), masks: masks.dir }
}

test('texts of clients stay on the disk of a node only while a job reads them', async () => {
  const read: Uint8Array[] = []
  const { work, datasets } = workWith(async (path) => void read.push(await readFile(path)))
  expect(await work.evaluate(job, context)).toMatchObject({ domains: [{ domain: 'legal', nllMean: 2 }] })
  expect(read.map((bytes) => new Uint8Array(bytes))).toEqual([TEXT])
  expect(existsSync(datasets)).toBe(false)
})

test('masks of rejected updates go a day after their last use, also if no update ever changes what serves', async () => {
  const { work, masks } = workWith(async () => {})
  await mkdir(masks)
  const [old, young] = ['a', 'b'].map((digit) => `${digit.repeat(64)}.safetensors`) as [string, string]
  for (const name of [old, young]) await writeFile(join(masks, name), '')
  await utimes(join(masks, old), 1_000_000_000, 1_000_000_000)
  await work.evaluate(job, context)
  expect(await readdir(masks)).toEqual([young])
})

test('the result of an evaluation has the losses of windows, null where they are not finite, and the check of generation', async () => {
  const { work } = workWith(async () => {}, {
    nllMean: NaN,
    perplexity: NaN,
    windowNll: [1.5, NaN, Infinity],
  })
  const result = await work.evaluate({ ...job, checkGeneration: true }, context)
  expect(result).toEqual({
    kind: 'evaluate',
    domains: [
      {
        domain: 'legal',
        holdoutSha256: SHA256,
        tokens: 15,
        nllMean: null,
        perplexity: null,
        windowNll: [1.5, null, null],
        windowTokens: [15],
      },
    ],
    generation: { finite: true, tokens: 192, repetition: 0.5, entropy: 2 },
    numerics: 'bf16, head int8',
  })
  expect((await work.evaluate(job, context)).generation).toBeUndefined()
})

test.each([
  ['takes its share of the time while requests run', 1, 0.25],
  ['takes all the time that it needs while none do', 0, 1],
])('an evaluation %s', async (_, requests, expected) => {
  // The clock is not that of the machine, which other processes slow down.
  vi.useFakeTimers()
  onTestFinished(() => void vi.useRealTimers())
  const home = temporaryDir()
  let workedMs = 0
  let pausedMs = 0
  const work = createJobWork({
    home,
    model: { spec: 'tiny', cacheDir: home, id: 'tiny', baseSha256: 'a'.repeat(64) },
    masks: createMaskStore({ home, maxBytes: 2 ** 20, gateway, log: memoryLog() }),
    removeUnusedMasks: async () => {},
    datasets: createDatasetStore({ home, gateway }),
    evaluator: {
      async evaluate(_mask, _sources, { pause, signal }) {
        for (let step = 0; step < 20; step += 1) {
          vi.advanceTimersByTime(15)
          workedMs += 15
          const pauseStartMs = performance.now()
          let isOver = false
          const pausing = pause?.(signal).finally(() => (isOver = true))
          for (await vi.advanceTimersByTimeAsync(0); !isOver;) await vi.advanceTimersByTimeAsync(1)
          await pausing
          pausedMs += performance.now() - pauseStartMs
        }
        throw new AppError('mask_invalid', 'enough')
      },
    },
    statistics,
    traffic: createTrafficWatch(() => requests),
    threads: 1,
    gpu: null,
    log: memoryLog(),
  })
  await expect(work.evaluate({ ...job, nodeShare: 0.25 }, context)).rejects.toThrow('enough')
  expect(workedMs / (workedMs + pausedMs)).toBeCloseTo(expected, 2)
})

test('texts of clients are removed after a failed job too', async () => {
  const { work, datasets } = workWith(() => Promise.reject(new AppError('mask_invalid', 'damaged')))
  await expect(work.evaluate(job, context)).rejects.toThrow('damaged')
  expect(existsSync(datasets)).toBe(false)
})

test('a failed mask upload is repeated without repeating the selection', async () => {
  const tiny = await openTinyModel()
  onTestFinished(() => tiny.remove())
  const home = temporaryDir()
  const uploaded: string[] = []
  const away: GatewayClient = {
    ...gateway,
    async uploadMask(sha256) {
      if (uploaded.push(sha256) < 3) throw new AppError('no_node_available', 'The link is bad.')
    },
  }
  const work = createJobWork({
    home,
    model: {
      spec: join(tiny.dir, 'model'),
      cacheDir: join(tiny.dir, 'cache'),
      id: 'tiny',
      baseSha256: tiny.model.master.baseSha256,
    },
    masks: createMaskStore({ home, maxBytes: 2 ** 20, gateway: away, log: memoryLog() }),
    removeUnusedMasks: async () => {},
    datasets: createDatasetStore({ home, gateway }),
    evaluator: { evaluate: refuse },
    statistics,
    traffic: createTrafficWatch(() => 0),
    threads: 1,
    gpu: null,
    log: memoryLog(),
  })
  const messages: string[] = []
  const failures: string[] = []
  const calibration: CalibrateJob = {
    kind: 'calibrate',
    id: 'job-2',
    model: 'tiny',
    datasets: [],
    accumulated: [],
    samples: 1,
    length: 16,
    seed: 1,
    selection: { method: 'magnitude', pattern: '0.5', scope: 'row' },
    parent: null,
    created: '2026-11-25T00:00:00.000Z',
  }
  const { maskSha256 } = await work.calibrate(calibration, {
    ...context,
    progress: (_fraction, message) => void messages.push(message),
    async retry(part) {
      for (;;) {
        try {
          return await part()
        } catch (error) {
          failures.push(reasonOf(error))
        }
      }
    },
  })
  expect(failures).toEqual(['The link is bad.', 'The link is bad.'])
  expect(uploaded).toEqual([maskSha256, maskSha256, maskSha256])
  expect(messages.filter((message) => message.startsWith('selecting weights, block 1 of'))).toHaveLength(1)
})

test('files that a killed node left are removed at its next start', async () => {
  const home = temporaryDir()
  await mkdir(join(home, 'datasets'))
  await writeFile(join(home, 'datasets', `${SHA256}.ndjson`), TEXT)
  await createDatasetStore({ home, gateway }).clear()
  expect(existsSync(join(home, 'datasets'))).toBe(false)
})

test('a node whose GPU does not open, or has too little memory, selects on the processor, and says so in one line', async () => {
  const tiny = await openTinyModel()
  onTestFinished(() => tiny.remove())
  const dataset = await writeWordsDataset(tiny.dir, 'legal', 1, 60)
  const text = await readFile(dataset.path)
  const events: string[] = []
  const run = async (
    gpu: { device: string } | null,
    reserveGpu?: JobWorkDeps['reserveGpu'],
    signal = context.signal,
  ) => {
    const [home, log] = [temporaryDir(), memoryLog()]
    const served: GatewayClient = {
      ...gateway,
      download: async () =>
        (async function* () {
          yield text
        })(),
      uploadMask: async () => {},
    }
    const { id, baseSha256 } = { id: 'tiny', baseSha256: tiny.model.master.baseSha256 }
    const work = createJobWork({
      home,
      model: { spec: join(tiny.dir, 'model'), cacheDir: join(tiny.dir, 'cache'), id, baseSha256 },
      masks: createMaskStore({ home, maxBytes: 2 ** 20, gateway: served, log: memoryLog() }),
      removeUnusedMasks: async () => {},
      datasets: createDatasetStore({ home, gateway: served }),
      evaluator: { evaluate: refuse },
      statistics,
      traffic: createTrafficWatch(() => 0),
      threads: 1,
      gpu,
      reserveGpu,
      log,
    })
    const result = await work.calibrate(
      {
        kind: 'calibrate',
        id: 'job-3',
        model: 'tiny',
        datasets: [{ sha256: dataset.sha256, domain: 'legal', samples: 60 }],
        accumulated: [],
        samples: 8,
        length: 64,
        seed: 1,
        selection: { method: 'copal+swaps', pattern: '0.5', scope: 'row' },
        parent: null,
        created: '2026-11-25T00:00:00.000Z',
      },
      { ...context, signal, progress: (_fraction, message) => void events.push(message) },
    )
    return { mask: result.maskSha256, lines: log.lines }
  }
  // With or without the addon: no machine has such a card.
  const fallen = await run({ device: 'no such card' }, async ({ length }, calibrates) => {
    events.push(`reserve for ${length}, ${calibrates ? 'calibrating' : 'selecting'}`)
    return (neededBytes = 0) => void events.push(`leave ${neededBytes}`)
  })
  const reserving = events.indexOf('reserve for 64, calibrating')
  expect(events[reserving - 1]).toBe('waiting for memory of the GPU')
  // Not only when the whole update is done.
  expect(events[reserving + 1]).toBe('leave 0')
  expect(events.findIndex((event) => event.startsWith('calibrating'))).toBeGreaterThan(reserving + 1)
  expect(events.findLastIndex((event) => event === 'leave 0')).toBeGreaterThan(
    events.findLastIndex((event) => event.startsWith('exchanging weights')),
  )
  expect(fallen.lines).toEqual([
    expect.stringMatching(
      /warn the GPU cannot go on with this update, so the processor does: .* id="job-3"$/,
    ),
  ])
  expect(await run(null)).toEqual({ mask: fallen.mask, lines: [] })
  expect(await run({ device: 'no such card' }, async () => null)).toEqual({
    mask: fallen.mask,
    lines: [
      expect.stringMatching(/warn the GPU has too little memory .* the processor does it\..* id="job-3"$/),
    ],
  })
  // A job that waits for memory can be cancelled.
  const cancelling = new AbortController()
  const waiting: JobWorkDeps['reserveGpu'] = async (_job, _calibrates, signal) => {
    expect(signal).toBe(cancelling.signal)
    cancelling.abort(new Error('cancelled'))
    signal.throwIfAborted()
    return null
  }
  await expect(run({ device: 'no such card' }, waiting, cancelling.signal)).rejects.toThrow('cancelled')
})
