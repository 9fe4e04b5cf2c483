/**
 * The addon's surface under random arguments: each call works or throws an error that says why; none ends the process,
 * panics, or leaves an engine that computes something else. `COPAL_FUZZ_SECONDS` says for how long.
 */
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, onTestFinished, test, vi } from 'vitest'
import type {
  Addon,
  AddonErrorCode,
  Engine,
  EngineOptions,
  EngineStep,
  EngineWeights,
  ExchangeOptions,
  RoundingOptions,
  MultiplierOptions,
  PackOptions,
  WeightSource,
} from '../../../gpu-node/native/addon.d.ts'
import { BLOCK_LINEARS } from '../../../gpu-node/src/model/config/llama-config.ts'
import { createModelEngine } from '../../../gpu-node/src/serving/backends/sparse/model-engine.ts'
import type { SequenceWork } from '../../../gpu-node/src/serving/contract/backend.ts'
import { addon } from '../../support/engine/backends.ts'
import { ENGINE_OPTIONS } from '../../support/engine/engine-options.ts'
import { fuzzSeconds } from '../../support/harness/fuzz-seconds.ts'
import { skipWithoutAddon } from '../../support/harness/skip-without-addon.ts'
import { createRandom } from '../../support/harness/random.ts'
import { TINY_NATIVE_ENGINE } from '../../support/engine/tiny-native-engine.ts'
import { temporaryDir } from '../../support/harness/temporary.ts'
import { openTinyModel } from '../../support/models/tiny-model.ts'

// The time limit grows with the duration that is set for the fuzz tests.
vi.setConfig({ testTimeout: 180_000 + 2000 * fuzzSeconds(0.6) })
if (addon) testAddon(addon)
else skipWithoutAddon('random arguments')

/** The codes of errors that a caller can cause; any other one, such as `Panicked`, is a failure of the addon. */
const EXPECTED_CODES: readonly unknown[] = [
  'InvalidArg',
  'InvalidState',
  'InvalidStep',
  'InvalidPageCount',
  'InvalidMask',
  'InvalidWeights',
  'UnreadableFile',
  // N-API has these for arguments that are not properties of an object.
  'NumberExpected',
  'StringExpected',
] satisfies (AddonErrorCode | `${string}Expected`)[]

type Draw = () => unknown

/** An error that says what was wrong with an argument. */
function requireRefusal(thrown: unknown, seed: number): void {
  const { code, message } = thrown as { code?: string; message?: string }
  const isRefusal = thrown instanceof Error && message !== '' && EXPECTED_CODES.includes(code)
  if (!isRefusal) throw new Error(`seed ${seed} is no refusal: ${code} ${message}`, { cause: thrown })
}

function testAddon(built: Addon): void {
  const draws = (seed: number) => {
    const random = createRandom(seed)
    const pick = <T>(choices: readonly T[]): T => choices[Math.floor(random() * choices.length)]!
    const length = () => pick([0, 1, 2, 3, 5, 8, 9, 16, 40, 64, 65, 200])
    const number = () =>
      pick([0, 1, 2, 3, 7, 16, 64, 100, -1, 0.5, 2 ** 31, 2 ** 32, 2 ** 53, 1e300, NaN, Infinity])
    const small = () => pick([0, 1, 2, 3, 4, 8, 16, 32, 64])
    /** Sizes of a model or a buffer, valid or not. None makes the addon allocate more memory than a machine may have. */
    const size = () => pick([1, 2, 8, 64, 1000, 2 ** 16, 2 ** 20, 2 ** 24 - 1, 2 ** 28])
    const f64: Draw = () => Float64Array.from({ length: length() }, pick([number, small]))
    const i32: Draw = () => Int32Array.from({ length: length() }, pick([number, small]))
    const u8: Draw = () => Uint8Array.from({ length: length() }, () => random() * 256)
    const f32: Draw = () => Float32Array.from({ length: length() }, pick([() => random() - 0.5, number]))
    const text: Draw = () =>
      pick(['', 'bf16', 'int8', 'int4', 'scalar', 'avx9', '/nowhere', '\0', 'é'.repeat(99)])
    const odd: Draw = () =>
      pick([undefined, null, {}, [], () => 1, Symbol('x'), 1n, true, new ArrayBuffer(8)])
    /** Draws a value of the expected kind, or in 7 % of the calls one of any kind. */
    const or = (draw: Draw): unknown =>
      random() < 0.93 ? draw() : pick([f64, i32, u8, f32, text, odd, number])()
    return { random, pick, number, small, size, length, f64, i32, u8, f32, text, or }
  }

  /** Draws of rows of a linear: `of` makes arrays of the right length, or of any, in one case all alike. */
  function drawsOfRows(seed: number) {
    const drawn = draws(seed)
    const { small, pick, or } = drawn
    const cols = small()
    const rows = pick([1, 2, 3])
    const sized = pick([true, false])
    const of = (make: (count: number) => unknown, count: number, other: Draw) =>
      or(sized ? () => make(count) : other)
    return { ...drawn, rows, cols, of }
  }

  /** Calls one case after another until the time is over. @returns how many worked */
  async function fuzz(run: (seed: number) => unknown): Promise<number> {
    const endMs = performance.now() + fuzzSeconds(0.6) * 1000
    let worked = 0
    for (let seed = 1; seed < 100 || performance.now() < endMs; seed++) {
      try {
        await run(seed)
        worked += 1
      } catch (thrown) {
        requireRefusal(thrown, seed)
      }
    }
    return worked
  }

  test('pack', async () => {
    const worked = await fuzz((seed) => {
      const { or, f32, u8, text, small, number, pick } = draws(seed)
      const [rows, cols] = [small(), small()]
      const fits = pick([true, true, false])
      const dense = fits ? () => new Float32Array(rows * cols).fill(0.5) : f32
      const mask = fits ? () => new Uint8Array(rows * Math.ceil(cols / 8)).fill(1) : pick([u8, () => null])
      const options = {
        weights: or(dense),
        rows: or(() => rows),
        cols: or(() => cols),
        mask: or(mask),
        precision: or(pick([text, () => 'bf16'])),
        group: or(pick([() => 64, number])),
      }
      return built.pack(or(() => options) as PackOptions)
    })
    expect(worked).toBeGreaterThan(0)
  })

  test('exchangeRows', async () => {
    const worked = await fuzz((seed) => {
      const { rows, cols, of, or, f32, f64, u8, number, pick } = drawsOfRows(seed)
      const options = {
        kernel: or(() => null),
        cols: or(() => cols),
        group: or(() => pick([null, 2, 4, number()])),
        weights: of((count) => new Float32Array(count).fill(1), rows * cols, f32),
        moment: of((count) => new Float64Array(count).fill(1), cols * cols, f64),
        bits: of((count) => new Uint8Array(count), rows * Math.ceil(cols / 8), u8),
        gradient: of((count) => new Float64Array(count), rows * cols, f64),
        errors: of((count) => new Float64Array(count), rows, f64),
        floor: or(() => 1e-9),
      }
      built.exchangeRows(or(() => options) as ExchangeOptions)
    })
    expect(worked).toBeGreaterThan(0)
  })

  test('roundToInt4Rows', async () => {
    const worked = await fuzz((seed) => {
      const { rows, cols, of, or, f32, f64, u8, number, pick } = drawsOfRows(seed)
      const options = {
        kernel: or(() => null),
        threads: or(() => pick([1, 2, 0, -1, NaN])),
        cols: or(() => cols),
        values: of((count) => new Float32Array(count).fill(0.5), rows * cols, f32),
        bits: of((count) => new Uint8Array(count).fill(0x55), rows * Math.ceil(cols / 8), u8),
        moment: of((count) => new Float64Array(count).fill(1), cols * cols, f64),
        damping: or(() => pick([0, 0.1, number()])),
        gradient: of((count) => new Float64Array(count), rows * cols, f64),
      }
      built.roundToInt4Rows(or(() => options) as RoundingOptions)
    })
    expect(worked).toBeGreaterThan(0)
  })

  test('Multiplier', async () => {
    const matrix = await built.pack({
      weights: new Float32Array(64 * 33).fill(0.5),
      rows: 64,
      cols: 33,
      mask: null,
      precision: 'bf16',
      group: 64,
    })
    const worked = await fuzz((seed) => {
      const { or, small, size, number, f32, pick } = draws(seed)
      // Few threads: the many that are allowed are really started.
      const options = {
        kernel: or(() => null),
        threads: or(() => pick([1, 2, 0, -1, NaN])),
        maxTokens: or(pick([small, size])),
        maxCols: or(pick([size, number])),
      }
      const multiplier = new built.Multiplier(or(() => options) as MultiplierOptions)
      const tokens = pick([1, 2, 3])
      const inputs = or(pick([() => new Float32Array(33 * tokens), f32]))
      const outputs = or(pick([() => new Float32Array(64 * tokens), f32]))
      multiplier.multiply(matrix, inputs as Float32Array, outputs as Float32Array)
    })
    expect(worked).toBeGreaterThan(0)
  })

  describe('Engine', () => {
    test('constructor', async () => {
      const worked = await fuzz((seed) => {
        const { or, f64, small, size, pick, number } = draws(seed)
        const headDim = pick([2, 4, 64])
        const rope = pick([() => new Float64Array(headDim / 2).fill(0.1), f64])
        const isSmall = pick([true, false, false])
        const sized = (fits: number) => or(isSmall ? () => fits : size)
        const model = {
          hidden: sized(8),
          layers: sized(1),
          heads: sized(2),
          kvHeads: sized(1),
          headDim: or(() => headDim),
          intermediate: sized(6),
          vocab: sized(11),
          context: sized(32),
          eps: or(() => 1e-5),
          ropeFrequencies: or(rope),
        }
        const options = {
          kernel: or(() => null),
          threads: or(() => pick([1, 2, 0, -1, NaN])),
          precision: or(() => 'bf16'),
          headPrecision: or(pick([() => 'bf16', () => 'int8', () => 'int4'])),
          model: or(() => model),
          pages: or(pick([small, number])),
          batchTokens: or(pick([small, size])),
        }
        return new built.Engine(or(() => options) as EngineOptions)
      })
      expect(worked).toBeGreaterThan(0)
    })

    test('load', async () => {
      const path = join(temporaryDir(), 'master')
      await writeFile(path, new Uint8Array(4000).fill(0))
      const engine = new built.Engine(TINY_NATIVE_ENGINE)
      const worked = await fuzz(async (seed) => {
        const { random, pick, number, text, ...others } = draws(seed)
        // A source has some hundred values, so each is odd less often than those of other calls.
        const or = (draw: Draw): unknown => (random() < 0.98 ? draw() : others.or(draw))
        const place = () => (random() < 0.98 ? 4 * Math.floor(random() * 200) : number())
        const kept = pick([() => 0, () => pick([0, 4, 16]), place])
        const rule = () => ({
          per: or(() => pick(['matrix', 'row', 'group'])),
          columns: or(() => pick([1, 2, 4])),
          kept: or(kept),
        })
        const values = () => ({ begin: or(place), count: or(kept) })
        const mask = () => ({
          bits: or(place),
          rule: or(rule),
          values: or(pick([() => null, values])),
        })
        const isDense = pick([true, false])
        const linear = () => ({ dense: or(place), mask: or(isDense ? () => null : mask) })
        const block = () => ({
          attentionNorm: or(place),
          mlpNorm: or(place),
          linears: or(() => Object.fromEntries(BLOCK_LINEARS.map((name) => [name, or(linear)]))),
        })
        const source = {
          masterPath: or(pick([() => path, () => path, text])),
          maskPath: or(pick([() => null, () => path, text])),
          embedding: or(place),
          head: or(place),
          finalNorm: or(place),
          blocks: or(() => [or(block)]),
          threads: or(() => pick([1, 2, 1, 2, 0, -1, NaN])),
        }
        await engine.release(await engine.load(or(() => source) as WeightSource))
      })
      expect(worked).toBeGreaterThan(0)
    })

    test('step and logits; what fits gives the same afterwards', async () => {
      const tiny = await openTinyModel({ contextLength: 64 })
      onTestFinished(() => tiny.remove())
      const options = { ...ENGINE_OPTIONS, kvTokens: 64, ownTokens: 128 }
      // The raw engine of a model that is loaded the usual way.
      const raw: { engine?: Engine } = {}
      const watched = {
        ...built,
        Engine: new Proxy(built.Engine, {
          construct(target, args: ConstructorParameters<Addon['Engine']>) {
            raw.engine = new target(...args)
            return raw.engine
          },
        }),
      }
      const model = createModelEngine(watched, tiny.model.config, options)
      const weights: EngineWeights = await model.load(tiny.model, null, new Map(), 1)
      const engine = raw.engine!
      const nll = () => {
        const tokens = Int32Array.of(3, 5, 7)
        const work: SequenceWork = { sequence: 900, tokens, position: 0, output: 'nll', targets: tokens }
        return model.step(weights, [work], [], (results) => Promise.resolve(results.slice()))
      }
      const before = await nll()
      const logits: unknown[] = []
      const worked = await fuzz(async (seed) => {
        const { or, i32, f64, small, number, pick, random } = draws(seed)
        const works = pick([0, 1, 1, 2, 3])
        const counts = Array.from({ length: works }, () => pick([0, 1, 2, 5, 17]))
        const total = counts.reduce((sum, count) => sum + count, 0)
        const field = (good: () => number) => (random() < 0.95 ? good() : number())
        const pages = counts.map((count) => Math.ceil(count / 16) + pick([0, 0, 1]))
        const i32s = (draw: (index: number) => number) =>
          or(() => Int32Array.from(counts, (_, index) => field(() => draw(index))))
        const token = () => (random() < 0.98 ? Math.floor(random() * 300) : number())
        const allPages = pages.reduce((sum, count) => sum + count, 0)
        const outputs = counts.map(() => field(() => pick([0, 1, 2, 3, 4, 5, 6])))
        const drafts = counts.map(() => pick([0, 0, 1]))
        const chances = drafts.flatMap((count, index) =>
          outputs[index] === 5 ? Array.from({ length: 1 + count }, () => pick([0, 0.5])) : [],
        )
        const step = {
          sequences: or(pick([() => Float64Array.from({ length: works }, small), f64])),
          positions: i32s(() => pick([0, 0, 0, 16, 1])),
          lengths: i32s((index) => counts[index]!),
          outputs: or(() => Uint8Array.from(outputs)),
          alternatives: or(() => Uint8Array.from(counts, () => field(() => pick([0, 0, 3])))),
          temperatures: or(() => Float32Array.from(counts, () => pick([1, 0.5]))),
          chances: or(() => Float32Array.from(chances)),
          drafts: or(() => Uint8Array.from(drafts)),
          cachedLengths: i32s(() => pick([0, 0, 0, 16])),
          pageCounts: i32s((index) => pages[index]!),
          tokens: or(() => Int32Array.from({ length: total }, token)),
          targets: or(() => Int32Array.from({ length: total }, () => pick([-1, token()]))),
          pages: or(pick([() => Int32Array.from({ length: allPages }, (_, i) => i % 12), i32])),
          drops: or(() => Float64Array.from({ length: pick([0, 1]) }, small)),
        }
        const results = await engine.step(or(() => weights) as EngineWeights, or(() => step) as EngineStep)
        if (!results.every((value) => Number.isFinite(value))) throw new Error('a result is not finite')
        logits.push(or(small))
      })
      expect(worked).toBeGreaterThan(0)
      expect(await nll()).toEqual(before)
      // A step that wants no logits leaves none.
      const read = await fuzz((seed) => {
        const { or } = draws(seed)
        engine.logits(logits[seed] as number, or(() => new Float32Array(300)) as Float32Array)
      })
      expect(read).toBe(0)
      await model.release(weights)
    })
  })
}
