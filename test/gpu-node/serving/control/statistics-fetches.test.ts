/** Tests which datasets and statistics a node fetches for a job, and which of these downloads it repeats. */
import { readdir, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type { CalibrateJob } from '@copal/shared/wire/adaptation-jobs.ts'
import type { JobContext } from '../../../../gpu-node/src/serving/control/node-jobs.ts'
import { jobOf, prepareCalibratingNodes } from '../../../support/processes/calibrating-nodes.ts'

const nodes = prepareCalibratingNodes()
const { dataset, createNode, calibratedByOneNode } = nodes

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
    const before = nodes.gateway.calls.length
    const { passes } = await node.run(job)
    const texts = nodes.gateway.calls
      .slice(before)
      .filter((call) => call.startsWith('GET /internal/datasets/'))
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

test('a piece that the gateway did not send whole is fetched again, and nothing is calibrated', async () => {
  const { a, stored, maskSha256 } = await calibratedByOneNode()
  const fetches = () => nodes.gateway.calls.filter((call) => call.startsWith('GET /internal/statistics/'))
  let failures = 0
  nodes.gateway.intercept = ({ method, url = '' }, response) => {
    if (method !== 'GET' || fetches().length !== 3 + failures || failures === 2) return false
    const bytes = nodes.gateway.artifacts.get(url.slice('/internal/'.length))!
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

test('a piece that the gateway did not take is sent again, and the others are not', async () => {
  const a = dataset('legal', 1)
  let failures = 0
  nodes.gateway.intercept = ({ method, url = '' }, response) => {
    if (method !== 'PUT' || !url.startsWith('/internal/statistics/') || failures > 0) return false
    if (nodes.gateway.calls.filter((call) => call.startsWith('PUT /internal/statistics/')).length < 3)
      return false
    failures += 1
    response.writeHead(503).end()
    return true
  }
  const { stored } = await createNode().run(jobOf([a], []), (part) => part().catch(() => part()))
  expect(failures).toBe(1)
  expect(stored).toHaveLength(1)
  const sent = nodes.gateway.calls.filter((call) => call.startsWith('PUT /internal/statistics/'))
  expect(sent.length).toBe(new Set(sent).size + 1)
})
