/**
 * A program that uses the GPU addon on software CUDA, and prints what happened as JSON. A process of its own, because the driver
 * is found by the environment: its memory is SOFTWARE_CUDA_BYTES, and a kernel fails when the file SOFTWARE_CUDA_FAIL is there.
 *
 * With the argument `select` it only selects a device, and with `exit` it ends meanwhile.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import type { GpuAddon } from '../../../gpu-node/gpu/addon.d.ts'
import { loadGpu } from '../../../gpu-node/src/platform/gpu-addon.ts'
import { deviceCalibrationBytes } from '../../../gpu-node/src/pruning/calibration/device-memory.ts'
import { largestChunkTokens } from '../../../gpu-node/src/pruning/calibration/token-chunks.ts'
import { modelShape } from '../../../gpu-node/src/pruning/graph/model-shape.ts'
import { createGpuBackend } from '../../../gpu-node/src/serving/backends/gpu/gpu-backend.ts'
import { missingUpdateBytes } from '../../../gpu-node/src/serving/backends/gpu/update-memory.ts'
import { createEngine } from '../../../gpu-node/src/serving/engine/engine.ts'
import { createMaskSwap } from '../../../gpu-node/src/serving/masks/mask-swap.ts'
import { memoryLog } from '../doubles/memory-log.ts'
import { WAIT } from '../harness/wait.ts'
import { randomHalfMask } from '../models/random-masks.ts'
import { openTinyModel } from '../models/tiny-model.ts'

const KV_TOKENS = 512
const LENGTH = 64

const addon = loadGpu()
const tiny = await openTinyModel({
  layers: 2,
  hiddenSize: 128,
  intermediateSize: 512,
  heads: 4,
  kvHeads: 2,
  headDim: 32,
  contextLength: 64,
})
const mode = process.argv[2]
try {
  if (mode === 'exit') {
    // The kernels are being compiled, if none are in the cache.
    const selected = await Promise.race([select('cuda'), sleep(300)])
    await tiny.remove()
    // A selection that ended before the process did tests nothing, so the test rejects this output.
    if (selected !== undefined) process.stdout.write(`${JSON.stringify(selected)}\n`)
    process.exit(0)
  }
  const result = mode === 'select' ? { any: await select(null), cuda: await select('cuda') } : await run()
  process.stdout.write(`${JSON.stringify(result)}\n`)
} finally {
  await tiny.remove()
}

/** Selects a device; the code and message of the error if none can be used. */
async function select(device: string | null): Promise<unknown> {
  const [precision, headPrecision] = ['bf16', 'bf16'] as const
  try {
    return await addon.selectDevice({
      device,
      model: modelShape(tiny.model.config),
      precision,
      headPrecision,
    })
  } catch (error) {
    const { code, message } = error as { code?: unknown; message?: unknown }
    return { code, message }
  }
}

async function run() {
  const { model } = tiny
  const [device] = await addon.devices()
  const memoryBytes = device?.memoryBytes ?? 0
  const maskPath = join(tiny.dir, 'mask.safetensors')
  writeFileSync(maskPath, randomHalfMask(model, 1).bytes)
  const tokens = largestChunkTokens(LENGTH)
  const calibration = {
    device: 'cuda',
    model: modelShape(model.config),
    tokens,
    length: LENGTH,
    statistics: 'all',
  } as const
  /** Opens a calibrator and closes it; the code of the error if there is one. */
  const calibrate = async (): Promise<unknown> => {
    try {
      const calibrator = await addon.openCalibrator(calibration)
      calibrator.close()
      return 'calibrated'
    } catch (error) {
      return (error as { code?: unknown }).code
    }
  }

  // Nothing of this is collected: the objects are still referred to.
  await calibrate()
  const [first, exchanger] = [
    await addon.openCalibrator(calibration),
    await addon.openExchanger({ device: 'cuda' }),
  ]
  const second = await calibrate()
  first.close()
  const third = await calibrate()
  exchanger.close()
  // The threads end after the device was closed, except that of the context's own stream.
  await settle(() => streams() === 1)
  const closing = {
    second,
    third,
    streams: streams(),
    still: [first.device.api, exchanger.device.api],
  }

  const log = memoryLog()
  let workBytes = 0
  const openEngine: GpuAddon['openEngine'] = async (options) => {
    const opened = await addon.openEngine(options)
    workBytes = opened.memory().workBytes
    return opened
  }
  const backend = createGpuBackend({ addon: { ...addon, openEngine }, device: 'cuda', kvTokens: KV_TOKENS })
  const engine = createEngine({
    backend,
    config: model.config,
    codec: model.codec,
    policy: { kvTokens: KV_TOKENS },
  })
  const weightBytes = 3_200_000
  const swap = createMaskSwap({
    model,
    backend,
    engine,
    masks: { ensure: () => Promise.resolve(maskPath) },
    log,
    onChange: () => undefined,
    memory: { bytes: weightBytes, denseBytes: 1_200_000 },
  })
  const masks = [1, 2].map((version) => ({ version, sha256: String(version).repeat(64) }))
  await swap.start({ active: masks[0]!, previous: masks[1]! })
  await swap.settled()
  const held = () => swap.weightSets().map(({ version, state }) => `${version} ${state}`)
  const allReady = () => held().length === 3 && held().every((set) => set.endsWith('ready'))
  const score = () => engine.score({ weights: swap.weights(1)!, tokens: [1, 2, 3, 4, 5, 6], lane: 'drift' })

  const scores = await score()
  writeFileSync(process.env['SOFTWARE_CUDA_FAIL'] ?? '', '')
  const inFlight = await score().then(
    () => 'scored',
    (error: unknown) => error as { code?: unknown; message?: unknown },
  )
  const failed = held()
  await settle(allReady)
  const again = await score()
  const recovery = {
    inFlight: typeof inFlight === 'string' ? inFlight : [inFlight.code, inFlight.message],
    failed,
    held: held(),
    isSame: scores.every((value, index) => value === again[index]),
  }

  // Activations, which a node does not count, are not small beside such a model.
  const division = { freeBytes: memoryBytes - weightBytes - workBytes, kvTokens: KV_TOKENS }
  const missing = missingUpdateBytes(model.config, division, deviceCalibrationBytes(model.config, LENGTH))
  const without = await calibrate()
  const release = await swap.reserve(missing)
  const [during, withReserve] = [held(), await calibrate()]
  release?.()
  await settle(allReady)
  const memory = {
    needed: deviceCalibrationBytes(model.config, LENGTH),
    missing,
    workBytes,
    sizes: swap.weightSets().map(({ bytes }) => bytes),
    without,
    during,
    withReserve,
    after: held(),
    tooMuch: (await swap.reserve(weightBytes)) === null,
  }
  engine.close()
  await swap.close()
  return {
    closing,
    recovery,
    memory,
    reasons: log.lines.filter((line) => line.includes('ended unexpectedly')),
  }
}

/** Returns how many streams of software CUDA exist: each is a thread of this name. */
function streams(): number {
  const isStream = (thread: string) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/comm`, 'utf8') === 'cuda stream\n'
    } catch {
      // It ended meanwhile.
      return false
    }
  }
  return readdirSync('/proc/self/task').filter(isStream).length
}

/** Waits for a state, for as long as tests wait on a busy machine. What is printed then shows whether it came. */
async function settle(isSettled: () => boolean): Promise<void> {
  const endMs = performance.now() + WAIT.timeout
  while (!isSettled() && performance.now() < endMs) await sleep(10)
}
