/** Tests the GPU addon's own interface: Rust tests, argument checks, error codes. */
import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import type {
  GpuAddon,
  GpuEngine,
  GpuEngineOptions,
  GpuErrorCode,
  LogitAdjustments,
} from '../../../gpu-node/gpu/addon.d.ts'
import { GPU_CRATE } from '../../../gpu-node/gpu/source-hash.mjs'
import type { EngineStep, LinearName, LinearPlace, WeightSource } from '../../../gpu-node/native/addon.d.ts'
import { BLOCK_LINEARS } from '../../../gpu-node/src/model/config/llama-config.ts'
import { gpu, skipWithoutGpu } from '../../support/engine/gpu.ts'
import { TINY_NATIVE_ENGINE } from '../../support/engine/tiny-native-engine.ts'
import { createRandom, normals } from '../../support/harness/random.ts'
import { RUST_TESTS } from '../../support/harness/rust-tests.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'

const OPTIONS: GpuEngineOptions = { ...TINY_NATIVE_ENGINE, headPrecision: 'bf16' }

if ('addon' in gpu) testAddon(gpu.addon)
else skipWithoutGpu('the GPU addon')

function testAddon(addon: GpuAddon): void {
  test('the Rust tests pass', { timeout: 900_000 }, () => {
    const { status, stdout, stderr } = spawnSync('cargo', RUST_TESTS, { cwd: GPU_CRATE, encoding: 'utf8' })
    expect(status, `${stdout}\n${stderr}`).toBe(0)
    expect(stdout).toMatch(/test result: ok\. [1-9]/)
  })

  test('devices have a name, an interface and a kind, and an engine names its own', async () => {
    const [first] = await addon.devices()
    expect(first?.name).not.toBe('')
    const engine = await addon.openEngine({ ...OPTIONS, device: first?.name })
    expect(engine.device).toEqual(first)
    expect(engine.kernel).toBe(first?.api)
    expect(engine.usage()).toEqual({ sequences: 0, writtenPages: 0, totalPages: 4 })
    expect(engine.memory()).toMatchObject({ weightBytes: 0, pageBytes: 4 * 2 * 4 * 16 * 2 })
    await engine.close()
  })

  test.each<[string, GpuEngineOptions, GpuErrorCode, string]>([
    ['an unknown device', { ...OPTIONS, device: 'no such card' }, 'DeviceUnavailable', 'there are:'],
    ['no pages', { ...OPTIONS, pages: 0 }, 'InvalidPageCount', 'pages must be'],
    ['more pages than fit', { ...OPTIONS, pages: 1 << 24 }, 'InvalidPageCount', 'fewer tokens'],
    [
      'too wide a head',
      {
        ...OPTIONS,
        model: { ...OPTIONS.model, headDim: 258, ropeFrequencies: new Float64Array(129).fill(1) },
      },
      'InvalidArg',
      'the kernels of the GPU take 256',
    ],
  ])('%s is rejected', async (_, options, code, message) => {
    const open = async () => addon.openEngine(options)
    await expect(open()).rejects.toMatchObject({ code, message: expect.stringContaining(message) })
  })

  test('the event loop goes on while a device is selected and opened, and a closed engine still names it', async () => {
    let turns = 0
    let isOpen = false
    const turn = () => {
      turns += 1
      if (!isOpen) setImmediate(turn)
    }
    setImmediate(turn)
    const { device, passedOver } = await addon.selectDevice(OPTIONS)
    expect(passedOver).toEqual([])
    const selected = turns
    const engine = await addon.openEngine(OPTIONS)
    isOpen = true
    expect(device).toEqual(engine.device)
    expect(selected).toBeGreaterThan(10)
    expect(turns).toBeGreaterThan(selected + 10)
    await engine.close()
    expect(engine.device).toEqual(device)
    expect(engine.kernel).toBe(device.api)
    engine.provokeDeviceLoss()
  })

  test('a step gives finite logits, and a panic or a closed engine is an error', async () => {
    const engine = await addon.openEngine(OPTIONS)
    const weights = await engine.load(source())
    expect(weights.memoryBytes).toBe(weights.bytes)
    await engine.step(weights, stepOf([1, 2, 3]))
    const logits = new Float32Array(11)
    engine.logits(0, logits)
    expect(logits.every(Number.isFinite)).toBe(true)
    engine.provokePanic()
    await expect(engine.step(weights, stepOf([1, 2, 3]))).rejects.toMatchObject({ code: 'Panicked' })
    await engine.step(weights, stepOf([1, 2, 3]))
    const again = new Float32Array(11)
    engine.logits(0, again)
    expect(again).toEqual(logits)
    await engine.close()
    expect(codeOf(() => engine.step(weights, stepOf([1])))[0]).toBe('InvalidState')
    expect(codeOf(() => engine.usage())[0]).toBe('InvalidState')
    await engine.release(weights)
    expect(codeOf(() => engine.step(weights, stepOf([1])))[0]).toBe('InvalidState')
  })

  test('candidates are ranked logits, which stay on the device, and need a temperature', async () => {
    const engine = await addon.openEngine(OPTIONS)
    expect(engine.candidates).toBe(11)
    const weights = await engine.load(source())
    await engine.step(weights, stepOf([1, 2, 3]))
    const expected = new Float32Array(11)
    engine.logits(0, expected)
    const step = {
      ...stepOf([1, 2, 3]),
      outputs: Uint8Array.of(5),
      temperatures: Float32Array.of(0.5),
      chances: Float32Array.of(0),
    }
    const [sum, atTemperature, part, before, ...rest] = await engine.step(weights, step)
    const ranked = [...expected].map((logit, token) => [token, logit]).sort(([, a], [, b]) => b! - a!)
    expect(rest).toEqual([...ranked.flat(), expected[0]])
    expect([part, before]).toEqual([0, 0])
    const sumAt = (temperature: number) =>
      expected.reduce((total, logit) => total + Math.exp((logit - ranked[0]![1]!) / temperature), 0)
    expect(sum).toBeCloseTo(sumAt(1), 4)
    expect(atTemperature).toBeCloseTo(sumAt(0.5), 4)
    const logits = new Float32Array(11)
    expect(codeOf(() => engine.logits(0, logits))).toEqual([
      'InvalidArg',
      expect.stringContaining('not downloaded'),
    ])
    await engine.downloadLogits(Int32Array.of(0, 0))
    engine.logits(0, logits)
    expect(logits).toEqual(expected)
    expect(codeOf(() => engine.logits(1, logits))[0]).toBe('InvalidArg')
    expect(codeOf(() => engine.logits(-1, logits))[1]).toMatch(
      /index must be a whole number from 0 to \d+, not -1/,
    )
    for (const rows of [Int32Array.of(0, 1), Int32Array.of(-1)])
      await expect((async () => engine.downloadLogits(rows))()).rejects.toMatchObject({ code: 'InvalidArg' })
    for (const temperatures of [undefined, Float32Array.of(0), Float32Array.of(NaN), new Float32Array(2)])
      expect(codeOf(() => engine.step(weights, { ...step, temperatures }))).toEqual([
        'InvalidArg',
        expect.stringContaining('temperatures'),
      ])
    for (const chances of [undefined, Float32Array.of(1.1), Float32Array.of(NaN), new Float32Array(2)])
      expect(codeOf(() => engine.step(weights, { ...step, chances }))).toEqual([
        'InvalidArg',
        expect.stringContaining('chances'),
      ])
    const drafted = { ...step, drafts: Uint8Array.of(1), chances: new Float32Array(2) }
    const lists = await engine.step(weights, drafted)
    expect(lists).toHaveLength(2 * (4 + 2 * 11 + 1))
    expect([...lists.subarray(lists.length / 2)]).toEqual([sum, atTemperature, part, before, ...rest])
    await engine.release(weights)
    await engine.close()
  })

  test('adjusted tokens are in no candidates, and their logits come last', async () => {
    const engine = await addon.openEngine(OPTIONS)
    expect(engine.maxAdjusted).toBe(10)
    const weights = await engine.load(source())
    await engine.step(weights, stepOf([1, 2, 3]))
    const logits = new Float32Array(11)
    engine.logits(0, logits)
    const step = {
      ...stepOf([1, 2, 3]),
      outputs: Uint8Array.of(5),
      temperatures: Float32Array.of(1),
      chances: Float32Array.of(0.5),
    }
    const adjustments: LogitAdjustments = {
      counts: Int32Array.of(2),
      tokens: Int32Array.of(1, 4),
      biases: Float32Array.of(3, 0),
      factors: Float32Array.of(1, 1.2),
      deductions: Float32Array.of(0, 0.5),
    }
    const found = await engine.step(weights, { ...step, adjustments })
    expect(found).toHaveLength(4 + 2 * 11 + 1 + 2)
    expect([...found.subarray(-2)]).toEqual([logits[1], logits[4]])
    const tokens = Array.from({ length: 11 }, (_, rank) => found[4 + 2 * rank]!)
    const others = [0, 2, 3, 5, 6, 7, 8, 9, 10].sort((a, b) => logits[b]! - logits[a]!)
    expect(tokens).toEqual([...others, 1, 4])
    const rejected = async (wrong: object) => {
      const run = async () => engine.step(weights, { ...step, adjustments: { ...adjustments, ...wrong } })
      return run().catch((error: unknown) => (error as { code?: unknown }).code)
    }
    expect(await rejected({ counts: Int32Array.of(1) })).toBe('InvalidArg')
    expect(await rejected({ counts: Int32Array.of(3, -1) })).toBe('InvalidArg')
    expect(await rejected({ biases: Float32Array.of(1) })).toBe('InvalidArg')
    expect(await rejected({ factors: [1, 1] })).toBe('InvalidArg')
    expect(await rejected({ counts: Int32Array.of(1, 1) })).toBe('InvalidStep')
    expect(await rejected({ tokens: Int32Array.of(4, 1) })).toBe('InvalidStep')
    expect(await rejected({ tokens: Int32Array.of(-1, 1) })).toBe('InvalidStep')
    expect(await rejected({ tokens: Int32Array.of(1, 11) })).toBe('InvalidStep')
    expect(await rejected({ factors: Float32Array.of(1, 0) })).toBe('InvalidStep')
    expect(await engine.step(weights, { ...step, adjustments })).toEqual(found)
    await engine.release(weights)
    await engine.close()
  })

  test('an exchanger checks its arguments and their order', async () => {
    await expect(addon.openExchanger({ device: 'no such card' })).rejects.toMatchObject({
      code: 'DeviceUnavailable',
      message: expect.stringContaining('there are:'),
    })
    const exchanger = await addon.openExchanger({})
    expect(exchanger.device).toEqual((await addon.devices())[0])
    const [weights, bits] = [Float32Array.of(1, 2, 3, 4), Uint8Array.of(0b0101)]
    await expect(exchanger.addRows(weights, bits)).rejects.toMatchObject({ code: 'InvalidState' })
    const diagonal = new Float64Array(4).fill(1)
    const wrongs: object[] = [{ group: 0 }, { group: 1.5 }, { diagonal: [1] }]
    for (const wrong of wrongs)
      expect(codeOf(() => exchanger.begin({ diagonal, group: null, ...wrong }))[0]).toBe('InvalidArg')
    await expect(exchanger.begin({ diagonal, group: 3 })).rejects.toMatchObject({ code: 'InvalidArg' })
    expect(await exchanger.begin({ diagonal, group: null })).toBe(256)
    // Of two calls at once at least one works, and the other says why not.
    const moment = Float64Array.of(1, 0, 0, 0.5, 0, 1, 0, 0)
    const calls = await Promise.allSettled([exchanger.addMoment(moment), exchanger.addMoment(moment)])
    const failures = calls.flatMap((call) => (call.status === 'rejected' ? [call.reason as unknown] : []))
    expect(failures).toEqual(failures.map(() => expect.objectContaining({ code: 'InvalidState' })))
    expect(failures.length).toBeLessThan(2)
    await exchanger.begin({ diagonal, group: null })
    await exchanger.addMoment(moment)
    await exchanger.addMoment(Float64Array.of(0, 0, 1, 0, 0.5, 0, 0, 1))
    // 2 and 4 are pruned.
    expect([...(await exchanger.addRows(weights, bits))]).toEqual([20])
    for (const piece of [1, -1, 0.5, Number.NaN])
      await expect(exchanger.refine(piece, 0)).rejects.toMatchObject({ code: 'InvalidArg' })
    // 1 costs 1 + 4 with 4, then 4 saves 16 + 4: 1 and 2 are left.
    expect(await exchanger.refine(0, 0)).toEqual({ bits: Uint8Array.of(0b1100), errors: Float64Array.of(5) })
    exchanger.close()
    expect(codeOf(() => exchanger.addRows(weights, bits))[0]).toBe('InvalidState')
    exchanger.close()
  })

  test('a calibration checks its arguments and their order', async () => {
    const { hidden } = OPTIONS.model
    const size = { model: OPTIONS.model, tokens: 4, length: 3, statistics: 'all' } as const
    const codeFor = async (changes: object) => {
      const open = async () => addon.openCalibrator({ ...size, ...changes })
      return open().catch((error: unknown) => (error as { code?: unknown }).code)
    }
    expect(await codeFor({ device: 'no such card' })).toBe('DeviceUnavailable')
    for (const changes of [{ tokens: 2 }, { length: 0 }, { statistics: 'some' }, { model: {} }])
      expect(await codeFor(changes)).toBe('InvalidArg')
    const wide = { ...OPTIONS.model, headDim: 258, ropeFrequencies: new Float64Array(129).fill(1) }
    for (const changes of [{ tokens: 65_536 }, { model: wide }])
      expect(await codeFor(changes)).toBe('DeviceUnavailable')
    const calibrator = await addon.openCalibrator(size)
    expect(calibrator.device).toEqual((await addon.devices())[0])
    const token = new Float32Array(hidden).fill(1)
    for (const place of [-1, 0.5, Number.NaN])
      expect(codeOf(() => calibrator.writeLinear(place, 0, token))[0]).toBe('InvalidArg')
    const rejected = { code: 'InvalidArg' }
    await expect(calibrator.writeLinear(7, 0, token)).rejects.toMatchObject(rejected)
    await expect(calibrator.writeNorm(0, token.subarray(1))).rejects.toMatchObject(rejected)
    await expect(calibrator.begin(token, Uint32Array.of(2))).rejects.toMatchObject(rejected)
    await expect(calibrator.begin(token, Uint32Array.of())).rejects.toMatchObject(rejected)
    await expect(calibrator.run(0)).rejects.toMatchObject(rejected)
    // With weights of zero the residual stream is what it was.
    await calibrator.writeNorm(0, token)
    expect(await calibrator.begin(token, Uint32Array.of(1))).toBe(1)
    await calibrator.run(0)
    await expect(calibrator.run(0)).rejects.toMatchObject(rejected)
    expect(await calibrator.readStream(0, 1)).toEqual(token)
    const moment = await calibrator.readMoment(0, hidden - 1, hidden)
    expect(moment).toHaveLength(1)
    expect(moment[0]).toBeCloseTo(1, 4)
    expect(await calibrator.readSensitivity(0, 0, 1)).toEqual(new Float32Array(hidden))
    for (const [first, end] of [
      [1, 1],
      [0, 5],
      [2, 1],
    ] as const)
      await expect(calibrator.readStream(first, end)).rejects.toMatchObject(rejected)
    await calibrator.clear()
    expect(await calibrator.readMoment(0, 0, 1)).toEqual(new Float32Array(hidden))
    calibrator.provokeDeviceLoss()
    await expect(calibrator.clear()).rejects.toMatchObject({ code: 'DeviceLost' })
    calibrator.close()
    expect(codeOf(() => calibrator.clear())[0]).toBe('InvalidState')
  })

  test('a lost device fails steps and loads, and lets go of its weights', async () => {
    const engine: GpuEngine = await addon.openEngine(OPTIONS)
    const weights = await engine.load(source())
    engine.provokeDeviceLoss()
    await expect(engine.step(weights, stepOf([1]))).rejects.toMatchObject({ code: 'DeviceLost' })
    await expect(engine.load(source())).rejects.toMatchObject({ code: 'DeviceLost' })
    await engine.release(weights)
    await engine.close()
  })
}

function codeOf(action: () => unknown): [unknown, unknown] {
  try {
    action()
  } catch (thrown) {
    const { code, message } = thrown as { code?: unknown; message?: unknown }
    return [code, message]
  }
  throw new Error('nothing was thrown')
}

function stepOf(tokens: number[]): EngineStep {
  return {
    sequences: Float64Array.of(1),
    positions: Int32Array.of(0),
    lengths: Int32Array.of(tokens.length),
    outputs: Uint8Array.of(1),
    alternatives: Uint8Array.of(0),
    cachedLengths: Int32Array.of(0),
    pageCounts: Int32Array.of(1),
    tokens: Int32Array.from(tokens),
    targets: new Int32Array(tokens.length).fill(-1),
    pages: Int32Array.of(2),
    drops: new Float64Array(0),
  }
}

/** A master file of random weights for {@link TINY_NATIVE_ENGINE}, all dense. */
function source(): WeightSource {
  const { hidden, heads, kvHeads, headDim, intermediate, vocab } = OPTIONS.model
  const [query, key] = [heads * headDim, kvHeads * headDim]
  const sizes: Record<LinearName, number> = {
    'self_attn.q_proj': query * hidden,
    'self_attn.k_proj': key * hidden,
    'self_attn.v_proj': key * hidden,
    'self_attn.o_proj': hidden * query,
    'mlp.gate_proj': intermediate * hidden,
    'mlp.up_proj': intermediate * hidden,
    'mlp.down_proj': hidden * intermediate,
  }
  let floats = 0
  const place = (count: number) => 4 * ((floats += count) - count)
  const embedding = place(vocab * hidden)
  const [finalNorm, attentionNorm, mlpNorm] = [place(hidden), place(hidden), place(hidden)]
  const linears = Object.fromEntries(
    BLOCK_LINEARS.map((name): [LinearName, LinearPlace] => [name, { dense: place(sizes[name]), mask: null }]),
  ) as Record<LinearName, LinearPlace>
  const masterPath = join(temporaryDir(), 'master')
  writeFileSync(masterPath, new Uint8Array(normals(createRandom(1), floats, 0, 0.3).buffer))
  const blocks = [{ attentionNorm, mlpNorm, linears }]
  return { masterPath, maskPath: null, embedding, head: embedding, finalNorm, blocks, threads: 1 }
}
