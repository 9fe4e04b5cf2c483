import { createHash } from 'node:crypto'
import { mkdir, readFile, readdir, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test } from 'vitest'
import { createGatewayClient } from '../../../../gpu-node/src/serving/control/gateway-client.ts'
import { createMaskStore } from '../../../../gpu-node/src/serving/masks/mask-store.ts'
import { startGatewayDouble } from '../../../support/doubles/gateway-double.ts'
import { memoryLog } from '../../../support/doubles/memory-log.ts'
import { createRandom } from '../../../support/harness/random.ts'
import { temporaryDir } from '../../../support/harness/temporary.ts'

const MAX_BYTES = 300_000

async function setup() {
  const gateway = await startGatewayDouble()
  onTestFinished(() => gateway.close())
  const home = temporaryDir()
  const client = createGatewayClient({ baseUrl: gateway.url, nodeId: gateway.nodeId, secret: gateway.secret })
  const log = memoryLog()
  const clock = { ms: Date.now() }
  const store = createMaskStore({ home, maxBytes: MAX_BYTES, gateway: client, log, nowMs: () => clock.ms })
  return { gateway, home, log, clock, store }
}

function someBytes(seed: number, size = MAX_BYTES): Uint8Array {
  const random = createRandom(seed)
  return Uint8Array.from({ length: size }, () => Math.floor(random() * 256))
}

describe('mask store', () => {
  test('a mask is fetched once, verified, and found on disk afterwards', async () => {
    const { gateway, home, store } = await setup()
    const bytes = someBytes(1)
    const sha256 = gateway.addMask(bytes)
    const path = await store.ensure(sha256)
    expect(path).toBe(join(home, 'masks', `${sha256}.safetensors`))
    expect(new Uint8Array(await readFile(path))).toEqual(bytes)
    await gateway.close()
    expect(await store.ensure(sha256)).toBe(path)
  })

  test('simultaneous calls share one download', async () => {
    const { gateway, store } = await setup()
    const sha256 = gateway.addMask(someBytes(2))
    await Promise.all([store.ensure(sha256), store.ensure(sha256), store.ensure(sha256)])
    expect(gateway.calls.filter((call) => call.startsWith('GET'))).toHaveLength(1)
  })

  test('a file damaged on disk is fetched again, and the log says so', async () => {
    const { gateway, log, store } = await setup()
    const bytes = someBytes(3)
    const sha256 = gateway.addMask(bytes)
    const path = await store.ensure(sha256)
    const damaged = await readFile(path)
    damaged[1000] = (damaged[1000] ?? 0) ^ 1
    await writeFile(path, damaged)
    await store.ensure(sha256)
    expect(new Uint8Array(await readFile(path))).toEqual(bytes)
    await truncate(path, 10)
    await store.ensure(sha256)
    expect(new Uint8Array(await readFile(path))).toEqual(bytes)
    const line = expect.stringContaining('a mask file was damaged on disk') as string
    expect(log.lines).toEqual([line, line])
  })

  test('bytes with another hash are rejected and leave nothing on disk', async () => {
    const { gateway, home, store } = await setup()
    const wanted = 'ab'.repeat(32)
    gateway.artifacts.set(`masks/${wanted}`, someBytes(4))
    await expect(store.ensure(wanted)).rejects.toMatchObject({ code: 'mask_invalid' })
    expect(await readdir(join(home, 'masks'))).toEqual([])
  })

  test('bytes beyond the largest mask of the model are not received', async () => {
    const { gateway, home, store } = await setup()
    const sha256 = gateway.addMask(someBytes(9, MAX_BYTES + 1))
    await expect(store.ensure(sha256)).rejects.toMatchObject({ code: 'service_unavailable' })
    expect(await readdir(join(home, 'masks'))).toEqual([])
  })

  test('a download that breaks off leaves nothing on disk, and the next one succeeds', async () => {
    const { gateway, home, store } = await setup()
    const bytes = someBytes(5)
    const sha256 = gateway.addMask(bytes)
    gateway.intercept = (request, response) => {
      response.writeHead(200, { 'content-length': bytes.length })
      response.write(bytes.subarray(0, 100_000), () => request.socket.destroy())
      return true
    }
    await expect(store.ensure(sha256)).rejects.toMatchObject({ retryable: true })
    expect(await readdir(join(home, 'masks'))).toEqual([])
    gateway.intercept = undefined
    expect(new Uint8Array(await readFile(await store.ensure(sha256)))).toEqual(bytes)
  })

  test('a mask that the gateway does not have is not found, and is not retried', async () => {
    const { store } = await setup()
    await expect(store.ensure('cd'.repeat(32))).rejects.toMatchObject({ code: 'not_found', retryable: false })
  })

  test('a mask made here is uploaded under its hash', async () => {
    const { gateway, store } = await setup()
    const bytes = someBytes(6)
    const { sha256 } = await store.put(bytes)
    expect(sha256).toBe(createHash('sha256').update(bytes).digest('hex'))
    await store.upload(sha256)
    expect(gateway.artifacts.get(`masks/${sha256}`)).toEqual(bytes)
  })

  test('partial files of a killed process are removed, complete files are kept', async () => {
    const { home, store } = await setup()
    const { sha256 } = await store.put(someBytes(7))
    await mkdir(join(home, 'masks'), { recursive: true })
    await writeFile(join(home, 'masks', 'left.safetensors.1234.partial'), 'x')
    await store.sweep()
    expect(await readdir(join(home, 'masks'))).toEqual([`${sha256}.safetensors`])
  })

  test('a mask that was not used for a day is removed, unless it is listed as kept', async () => {
    const { gateway, home, clock, log, store } = await setup()
    const [active, previous, unused, used] = [10, 11, 12, 13].map((seed) =>
      gateway.addMask(someBytes(seed, 100)),
    )
    const all = [active, previous, unused, used].map(String)
    for (const sha256 of all) await store.ensure(sha256)
    const names = async () => (await readdir(join(home, 'masks'))).sort()
    const files = (...hashes: string[]) => hashes.map((sha256) => `${sha256}.safetensors`).sort()
    await store.removeUnused([all[0] ?? '', null])
    expect(await names()).toEqual(files(...all))
    clock.ms += 23 * 3_600_000
    await store.ensure(String(used))
    clock.ms += 2 * 3_600_000
    await writeFile(join(home, 'masks', 'other.txt'), '')
    await store.removeUnused([String(active), String(previous)])
    expect(await names()).toEqual(
      [...files(String(active), String(previous), String(used)), 'other.txt'].sort(),
    )
    expect(log.lines).toEqual([expect.stringContaining(`removed an unused mask sha256="${unused}"`)])
    // The gateway holds it, and it is fetched again when needed.
    await store.ensure(String(unused))
    expect(await names()).toContain(`${unused}.safetensors`)
  })

  test('a mask requested while others are removed is available afterwards', async () => {
    const { gateway, clock, store } = await setup()
    const [first, second] = [14, 15].map((seed) => gateway.addMask(someBytes(seed)))
    for (const sha256 of [first, second]) await store.ensure(String(sha256))
    clock.ms += 48 * 3_600_000
    // One mask is being verified when the removal begins, the other is requested during it.
    const before = store.ensure(String(first))
    const removal = store.removeUnused([])
    const during = store.ensure(String(second))
    await removal
    for (const path of [await before, await during]) expect((await readFile(path)).length).toBe(300_000)
  })

  test('a gateway with another secret rejects the node', async () => {
    const { gateway, home } = await setup()
    const stranger = createGatewayClient({
      baseUrl: gateway.url,
      nodeId: gateway.nodeId,
      secret: 'another secret than the right one',
    })
    const store = createMaskStore({ home, maxBytes: MAX_BYTES, gateway: stranger, log: memoryLog() })
    await expect(store.ensure(gateway.addMask(someBytes(8)))).rejects.toMatchObject({
      code: 'invalid_signature',
    })
  })
})
