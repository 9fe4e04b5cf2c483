/** Nodes that share statistics through the gateway, over HTTP and with calibrations in child processes. */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, expect, test } from 'vitest'
import type { CalibrateJob, DatasetRef, StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { WORDS } from '../../../../gpu-node/bench/models/words.ts'
import { createDatasetStore } from '../../../../gpu-node/src/serving/control/dataset-store.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { createTrafficWatch } from '../../../../gpu-node/src/serving/control/traffic-watch.ts'
import { createJobWork } from '../../../../gpu-node/src/serving/control/node-job-work.ts'
import type { JobContext } from '../../../../gpu-node/src/serving/control/node-jobs.ts'
import { createStatisticsExchange } from '../../../../gpu-node/src/serving/control/statistics-exchange.ts'
import { createMaskStore } from '../../../../gpu-node/src/serving/masks/mask-store.ts'
import { startGatewayDouble, type GatewayDouble } from '../../../support/doubles/gateway-double.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { openTinyModel, type TinyModel } from '../../../support/models/tiny-model.ts'
import { storedStatistics } from '../../../support/pruning/stored-statistics.ts'

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

function jobOf(datasets: DatasetRef[], accumulated: DatasetRef[], changes: Partial<CalibrateJob> = {}) {
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

type CalibratedByOne = Awaited<ReturnType<ReturnType<typeof createNode>['run']>>
let calibrated: { result: CalibratedByOne; artifacts: ReadonlyMap<string, Uint8Array> } | undefined

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

const mask = (sha256: string) => gateway.artifacts.get(`masks/${sha256}`)

test('a second node with an empty home gets the mask of the first without one calibration pass', async () => {
  const [a, b, c] = [dataset('legal', 1), dataset('legal', 2), dataset('sea', 3)]
  const first = createNode()
  // The first update counts a and c, the second one adds b and merges nothing, the third one reads one file of `legal`.
  const one = await first.run(jobOf([a, c], []))
  expect(one.passes.toSorted()).toEqual(['legal', 'sea'])
  const two = await first.run(jobOf([b], [a, c], { statistics: one.stored }))
  const three = await first.run(jobOf([], [a, b, c], { statistics: [...one.stored, ...two.stored] }))
  expect(three.passes).toEqual([])
  expect(three.stored.map(({ datasets }) => datasets.length)).toEqual([2])

  const sea = one.stored.filter(({ domain }) => domain === 'sea')
  const second = createNode()
  const copy = await second.run(jobOf([], [a, b, c], { statistics: [...sea, ...three.stored] }))
  expect(copy.passes).toEqual([])
  expect(copy.maskSha256).toBe(three.maskSha256)
  expect(mask(copy.maskSha256)).toEqual(mask(three.maskSha256))
  expect(copy.stored).toEqual([])
  const alone = await createNode().run(jobOf([a, b, c], []))
  expect(alone.passes).toHaveLength(3)
  expect(alone.maskSha256).toBe(three.maskSha256)
})

test('a node that joins after texts have expired gets the same mask from merged statistics', async () => {
  const [a, b, c] = [dataset('legal', 1), dataset('legal', 2), dataset('sea', 3)]
  const first = createNode()
  const one = await first.run(jobOf([a, b], []))
  const two = await first.run(jobOf([c], [a, b], { statistics: one.stored }))
  const merged = two.stored.find(({ datasets }) => datasets.length === 2)
  expect(merged).toBeDefined()
  const [sea] = two.stored.filter(({ domain }) => domain === 'sea')
  const full = await first.run(jobOf([], [a, b, c]))
  // The gateway deletes the texts, and no longer has the single parts either.
  for (const { sha256 } of [a, b]) gateway.artifacts.delete(`datasets/${sha256}`)
  const expired = [a, b].map((ref) => ({ ...ref, expired: true }))
  const statistics = [merged!, sea!]
  const second = createNode()
  const copy = await second.run(jobOf([], [...expired, c], { statistics }))
  expect(copy.passes).toEqual([])
  expect(copy.maskSha256).toBe(full.maskSha256)
  expect(gateway.calls.filter((call) => call.includes(`/datasets/${a.sha256}`))).toHaveLength(1)

  // An update of another sampling calibrates what it can, and takes the rest as it is.
  const other = await createNode().run(jobOf([c], expired, { statistics, length: 16 }))
  expect(other.passes).toEqual(['sea'])
  const counted = other.tokens.map(({ sha256 }) => [a, b, c].find((ref) => ref.sha256 === sha256)?.domain)
  expect(new Set(counted)).toEqual(new Set(['legal', 'sea']))
})

test('a job whose expired texts have no usable statistics fails, and calibrates nothing', async () => {
  const { a, stored } = await calibratedByOneNode()
  const c = dataset('sea', 3)
  gateway.artifacts.delete(`datasets/${a.sha256}`)
  const expired = { ...a, expired: true }
  const message = "The texts of a dataset of domain 'legal' have expired"
  const node = createNode()
  await expect(node.run(jobOf([c], [expired]))).rejects.toThrow(message)
  const copal = { ...jobOf([], []).selection, method: 'copal' }
  const sensitive = jobOf([c], [expired], { statistics: stored, selection: copal })
  await expect(node.run(sensitive)).rejects.toThrow(message)
  const onDisk = (await node.statistics()).flatMap(({ parts }) => parts)
  expect(onDisk.map(({ domain }) => domain)).toEqual(['legal'])
})

test('a new part is stored in pieces before the job is done, with one file for each piece and the manifest last', async () => {
  const { a, stored } = await calibratedByOneNode()
  const [ref] = stored as [StatisticsRef]
  expect(ref).toMatchObject({ domain: 'legal', datasets: [a.sha256] })
  const files = [...gateway.artifacts].filter(([key]) => key.startsWith(`statistics/${ref.artifact}/`))
  expect(files.length).toBeGreaterThan(3)
  expect(files.reduce((sum, [, bytes]) => sum + bytes.length, 0)).toBe(ref.bytes)
  expect(files.at(-1)![0]).toBe(`statistics/${ref.artifact}/manifest.json`)
})

test.each<[string, (files: [string, Uint8Array][]) => void]>([
  ['missing', (files) => files.forEach(([key]) => gateway.artifacts.delete(key))],
  ['missing in part', (files) => gateway.artifacts.delete(files[1]![0])],
  [
    'damaged',
    (files) =>
      gateway.artifacts.set(
        files[0]![0],
        files[0]![1].map((byte) => byte ^ 1),
      ),
  ],
  ['cut short', (files) => gateway.artifacts.set(files[0]![0], files[0]![1].slice(0, 100))],
  [
    'without a readable manifest',
    (files) => gateway.artifacts.set(files.at(-1)![0], new TextEncoder().encode('{')),
  ],
  [
    'what another manifest describes',
    (files) => {
      const manifest = JSON.parse(new TextDecoder().decode(files.at(-1)![1])) as {
        parts: { id: string }[]
      }
      manifest.parts[0]!.id = 'a'.repeat(64)
      gateway.artifacts.set(files.at(-1)![0], new TextEncoder().encode(JSON.stringify(manifest)))
    },
  ],
])('stored statistics that are %s are not used, and leave nothing behind', async (_, damage) => {
  const { a, stored } = await calibratedByOneNode()
  damage([...gateway.artifacts].filter(([key]) => key.startsWith('statistics/')))
  const node = createNode()
  const job = jobOf([a], [], { statistics: stored })
  expect([...(await node.fetch(job))]).toEqual([a.sha256])
  expect(node.log.lines.join('\n')).toContain('statistics cannot be fetched and are calibrated instead')
  // Nothing half-written is left.
  const left = await readdir(join(node.home, 'statistics'), { recursive: true, withFileTypes: true })
  expect(left.filter((entry) => entry.isFile())).toEqual([])
})

test('stored statistics that cannot be used are calibrated from the text', async () => {
  const { a, ...expected } = await calibratedByOneNode()
  const [key, bytes] = [...gateway.artifacts].find(([name]) => name.startsWith('statistics/'))!
  gateway.artifacts.set(key, bytes.slice(0, 100))
  const node = createNode()
  const result = await node.run(jobOf([a], [], { statistics: expected.stored }))
  expect(result.passes).toEqual(['legal'])
  expect(result.maskSha256).toBe(expected.maskSha256)
  expect(await node.statistics()).toHaveLength(1)
})

test('a piece that the gateway did not send whole is fetched again, and nothing is calibrated', async () => {
  const { a, stored, maskSha256 } = await calibratedByOneNode()
  const fetches = () => gateway.calls.filter((call) => call.startsWith('GET /internal/statistics/'))
  let failures = 0
  gateway.intercept = ({ method, url = '' }, response) => {
    if (method !== 'GET' || fetches().length !== 3 + failures || failures === 2) return false
    const bytes = gateway.artifacts.get(url.slice('/internal/'.length))!
    failures += 1
    if (failures === 1) response.writeHead(503).end()
    else
      response
        .writeHead(200, { 'content-length': bytes.length })
        .write(bytes.subarray(0, bytes.length / 2), () => response.destroy())
    return true
  }
  const patient: JobContext['retry'] = (part) => part().catch(() => part().catch(() => part()))
  const { passes, ...copy } = await createNode().run(jobOf([a], [], { statistics: stored }), patient)
  expect(failures).toBe(2)
  expect(copy.maskSha256).toBe(maskSha256)
  expect(passes).toEqual([])
  expect(fetches().length).toBe(new Set(fetches()).size + 2)
})

test('statistics of other texts, or without what the method reads, are not used', async () => {
  const { a, stored } = await calibratedByOneNode()
  const b = dataset('legal', 2)
  const relabelled = stored.map((ref) => ({ ...ref, datasets: [b.sha256] }))
  const other = await createNode().run(jobOf([b], [], { statistics: relabelled }))
  expect(other.passes).toEqual(['legal'])
  const copal = { ...jobOf([a], []).selection, method: 'copal' }
  const full = await createNode().run(jobOf([a], [], { statistics: stored, selection: copal }))
  expect(full.passes).toEqual(['legal'])
})

test('a gateway that cannot store statistics does not fail the job', async () => {
  const a = dataset('legal', 1)
  gateway.intercept = (request, response) => {
    if (!request.url?.startsWith('/internal/statistics')) return false
    request.resume()
    response.writeHead(404, { 'content-type': 'application/json' }).end('{}')
    return true
  }
  const node = createNode()
  const { stored, maskSha256 } = await node.run(jobOf([a], []))
  expect(stored).toEqual([])
  expect(mask(maskSha256)).toBeDefined()
  expect(node.log.lines.join('\n')).toContain('statistics cannot be stored at the gateway')
  // A gateway that lists none is older, and is not asked.
  const before = gateway.calls.length
  const { statistics: _, ...older } = jobOf([a], [])
  await createNode().run(older)
  expect(gateway.calls.slice(before).filter((one) => one.includes('/statistics/'))).toEqual([])
})

test('a piece that the gateway did not take is sent again, and the others are not', async () => {
  const a = dataset('legal', 1)
  let failures = 0
  gateway.intercept = ({ method, url = '' }, response) => {
    if (method !== 'PUT' || !url.startsWith('/internal/statistics/') || failures > 0) return false
    if (gateway.calls.filter((call) => call.startsWith('PUT /internal/statistics/')).length < 3) return false
    failures += 1
    response.writeHead(503).end()
    return true
  }
  const { stored } = await createNode().run(jobOf([a], []), (part) => part().catch(() => part()))
  expect(failures).toBe(1)
  expect(stored).toHaveLength(1)
  const sent = gateway.calls.filter((call) => call.startsWith('PUT /internal/statistics/'))
  expect(sent.length).toBe(new Set(sent).size + 1)
})

test('a mask is compared with that of another node', async () => {
  const { a, ...one } = await calibratedByOneNode()
  const b = dataset('sea', 2)
  expect(one.agreement).toBeUndefined()
  const same = await createNode().run(jobOf([a], [], { compareWith: one.maskSha256 }))
  expect(same.agreement).toBe(1)
  const other = await createNode().run(
    jobOf([b], [], { compareWith: one.maskSha256, parent: one.maskSha256 }),
  )
  expect(other.agreement).toBeLessThan(1)
  expect(other.agreement).toBeCloseTo(1 - other.churn!, 12)
  const selection = { ...jobOf([], []).selection, method: 'continual-sparsegpt' }
  const valued = await createNode().run(jobOf([a], [], { selection, compareWith: one.maskSha256 }))
  expect(valued.agreement).toBeGreaterThan(0.5)
  const valuedAgain = await createNode().run(jobOf([a], [], { selection, compareWith: valued.maskSha256 }))
  expect(valuedAgain.agreement).toBe(1)
})

test('a node knows which datasets a job calibrates', async () => {
  const { a, stored } = await calibratedByOneNode()
  const b = dataset('sea', 2)
  const node = createNode()
  const missing = async (...job: Parameters<typeof jobOf>) => [...(await node.fetch(jobOf(...job)))]
  expect(await missing([a], [])).toEqual([a.sha256])
  await node.run(jobOf([a], [], { statistics: stored }))
  expect(await missing([a], [])).toEqual([])
  expect(await missing([b], [a])).toEqual([b.sha256])
  const { selection } = jobOf([], [])
  // It reads sensitivities, which the other method did not need.
  expect(await missing([a], [], { selection: { ...selection, method: 'copal' } })).toEqual([a.sha256])
  expect(await missing([b], [], { selection: { ...selection, method: 'magnitude' } })).toEqual([])
})

test('a node fetches only the texts that it calibrates', async () => {
  const [a, b, c] = [dataset('legal', 1), dataset('legal', 2), dataset('sea', 3)]
  const node = createNode()
  const fetched = async (job: CalibrateJob) => {
    const before = gateway.calls.length
    const { passes } = await node.run(job)
    const texts = gateway.calls.slice(before).filter((call) => call.startsWith('GET /internal/datasets/'))
    return { passes, texts: texts.map((call) => call.slice('GET /internal/datasets/'.length)) }
  }
  expect(await fetched(jobOf([a], []))).toEqual({ passes: ['legal'], texts: [a.sha256] })
  expect(await fetched(jobOf([b], [a]))).toEqual({ passes: ['legal'], texts: [b.sha256] })
  expect(await fetched(jobOf([c], [a, b]))).toEqual({ passes: ['sea'], texts: [c.sha256] })
  expect(await fetched(jobOf([], [a, b, c]))).toEqual({ passes: [], texts: [] })
  const magnitude = { ...jobOf([], []).selection, method: 'magnitude' }
  expect(await fetched(jobOf([dataset('new', 4)], [a], { selection: magnitude }))).toMatchObject({
    texts: [],
  })
})

test('texts are fetched again where their statistics were damaged on disk', async () => {
  const a = dataset('legal', 1)
  const node = createNode()
  const { maskSha256 } = await node.run(jobOf([a], []))
  const [artifact] = await node.statistics()
  const block = join(
    artifact!.dir,
    (await readdir(artifact!.dir)).find((name) => name !== 'manifest.json')!,
  )
  const bytes = await readFile(block)
  await writeFile(block, bytes.fill(1, bytes.length - 100))
  const failures: unknown[] = []
  const repaired = await node.run(jobOf([], [a]), async (part) => {
    try {
      return await part()
    } catch (error) {
      failures.push(error)
      return part()
    }
  })
  expect(failures).toMatchObject([{ code: 'service_unavailable', retryable: true }])
  expect(repaired).toMatchObject({ maskSha256, passes: ['legal'] })
})

test('a folder that could not be opened once is opened again', async () => {
  const home = temporaryDir()
  await writeFile(join(home, 'statistics'), '')
  const gatewayClient = createGatewayClient({
    baseUrl: gateway.url,
    nodeId: 'node-1',
    secret: gateway.secret,
  })
  const exchange = createStatisticsExchange({
    home,
    model: tiny.model,
    gateway: gatewayClient,
    log: memoryLog(),
  })
  const own = dataset('legal', 1)
  const stored = { artifact: 'a'.repeat(64), domain: 'legal', datasets: [own.sha256], bytes: 1 }
  const fetched = () =>
    exchange.fetch(jobOf([own], [], { statistics: [stored] }), {
      signal: new AbortController().signal,
      progress: () => undefined,
      retry: (part) => part(),
    })
  await expect(fetched()).rejects.toThrow('EEXIST')
  await rm(join(home, 'statistics'))
  await fetched()
})
