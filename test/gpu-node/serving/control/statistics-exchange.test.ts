/** Nodes that share statistics through the gateway, over HTTP and with calibrations in child processes. */
import { readdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { StatisticsRef } from '@copal/shared/wire/adaptation-jobs.ts'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { createStatisticsExchange } from '../../../../gpu-node/src/serving/control/statistics-exchange.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'
import { jobOf, prepareCalibratingNodes } from '../../../support/processes/calibrating-nodes.ts'

const nodes = prepareCalibratingNodes()
const { dataset, createNode, calibratedByOneNode } = nodes

const mask = (sha256: string) => nodes.gateway.artifacts.get(`masks/${sha256}`)

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
  for (const { sha256 } of [a, b]) nodes.gateway.artifacts.delete(`datasets/${sha256}`)
  const expired = [a, b].map((ref) => ({ ...ref, expired: true }))
  const statistics = [merged!, sea!]
  const second = createNode()
  const copy = await second.run(jobOf([], [...expired, c], { statistics }))
  expect(copy.passes).toEqual([])
  expect(copy.maskSha256).toBe(full.maskSha256)
  expect(nodes.gateway.calls.filter((call) => call.includes(`/datasets/${a.sha256}`))).toHaveLength(1)

  // An update of another sampling calibrates what it can, and takes the rest as it is.
  const other = await createNode().run(jobOf([c], expired, { statistics, length: 16 }))
  expect(other.passes).toEqual(['sea'])
  const counted = other.tokens.map(({ sha256 }) => [a, b, c].find((ref) => ref.sha256 === sha256)?.domain)
  expect(new Set(counted)).toEqual(new Set(['legal', 'sea']))
})

test('a job whose expired texts have no usable statistics fails, and calibrates nothing', async () => {
  const { a, stored } = await calibratedByOneNode()
  const c = dataset('sea', 3)
  nodes.gateway.artifacts.delete(`datasets/${a.sha256}`)
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
  const files = [...nodes.gateway.artifacts].filter(([key]) => key.startsWith(`statistics/${ref.artifact}/`))
  expect(files.length).toBeGreaterThan(3)
  expect(files.reduce((sum, [, bytes]) => sum + bytes.length, 0)).toBe(ref.bytes)
  expect(files.at(-1)![0]).toBe(`statistics/${ref.artifact}/manifest.json`)
})

test.each<[string, (files: [string, Uint8Array][]) => void]>([
  ['missing', (files) => files.forEach(([key]) => nodes.gateway.artifacts.delete(key))],
  ['missing in part', (files) => nodes.gateway.artifacts.delete(files[1]![0])],
  [
    'damaged',
    (files) =>
      nodes.gateway.artifacts.set(
        files[0]![0],
        files[0]![1].map((byte) => byte ^ 1),
      ),
  ],
  ['cut short', (files) => nodes.gateway.artifacts.set(files[0]![0], files[0]![1].slice(0, 100))],
  [
    'without a readable manifest',
    (files) => nodes.gateway.artifacts.set(files.at(-1)![0], new TextEncoder().encode('{')),
  ],
  [
    'what another manifest describes',
    (files) => {
      const manifest = JSON.parse(new TextDecoder().decode(files.at(-1)![1])) as {
        parts: { id: string }[]
      }
      manifest.parts[0]!.id = 'a'.repeat(64)
      nodes.gateway.artifacts.set(files.at(-1)![0], new TextEncoder().encode(JSON.stringify(manifest)))
    },
  ],
])('stored statistics that are %s are not used, and leave nothing behind', async (_, damage) => {
  const { a, stored } = await calibratedByOneNode()
  damage([...nodes.gateway.artifacts].filter(([key]) => key.startsWith('statistics/')))
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
  const [key, bytes] = [...nodes.gateway.artifacts].find(([name]) => name.startsWith('statistics/'))!
  nodes.gateway.artifacts.set(key, bytes.slice(0, 100))
  const node = createNode()
  const result = await node.run(jobOf([a], [], { statistics: expected.stored }))
  expect(result.passes).toEqual(['legal'])
  expect(result.maskSha256).toBe(expected.maskSha256)
  expect(await node.statistics()).toHaveLength(1)
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
  nodes.gateway.intercept = (request, response) => {
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
  const before = nodes.gateway.calls.length
  const { statistics: _, ...older } = jobOf([a], [])
  await createNode().run(older)
  expect(nodes.gateway.calls.slice(before).filter((one) => one.includes('/statistics/'))).toEqual([])
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

test('a folder that could not be opened once is opened again', async () => {
  const home = temporaryDir()
  await writeFile(join(home, 'statistics'), '')
  const gatewayClient = createGatewayClient({
    baseUrl: nodes.gateway.url,
    nodeId: 'node-1',
    secret: nodes.gateway.secret,
  })
  const exchange = createStatisticsExchange({
    home,
    model: nodes.model,
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
