import type { GpuAddon } from '@copal/gpu-node/gpu/addon.d.ts'
import type { Addon } from '@copal/gpu-node/native/addon.d.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import { spread } from '@copal/gpu-node/platform/spread.ts'
import { createGpuBackend, type GpuBackend } from '@copal/gpu-node/serving/backends/gpu/gpu-backend.ts'
import { PAGE_TOKENS } from '@copal/gpu-node/serving/contract/backend.ts'
import { formatSpread, line } from '../measurement/report.ts'
import { createLoadLog, servedContender, type Contender } from './engine-contender.ts'
import { GPU_HEAD, GPU_SETS, type GpuSet } from './gpu-sets.ts'

/** Options of {@link benchGpu}. */
export interface GpuBenchOptions {
  addon: GpuAddon
  /** Draws tokens, as on a node. */
  native?: Addon | undefined
  /** A part of the name of the device. */
  device?: string | undefined
  model: DenseModel
  sets: readonly GpuSet[]
  /** The mask file of each pruned part that the sets have. */
  maskPaths: ReadonlyMap<number, string>
  /** Numbers of concurrent streams. */
  streams: readonly number[]
  /** Tokens of a stream before decoding. */
  context: number
  /** Tokens that one measurement decodes of each stream. */
  steps: number
  repetitions: number
  /** No repetition begins after this time. One always runs. */
  timeLimitMs: number
  /** Bandwidth of the device's memory, GB/s, to compare with. */
  bandwidth?: number | undefined
  print: (line: string) => void
}

/**
 * Compares decoding of weight sets on a GPU. Every repetition measures every number of streams on every set.
 *
 * "% of the bound" is the time to read the weights once a step, at the bandwidth that was given, relative to the time of a
 * step. "× dense" is taken within a repetition.
 */
export async function benchGpu(options: GpuBenchOptions): Promise<void> {
  const { sets, streams, context, steps, repetitions, timeLimitMs, print } = options
  const contenders = await loadSets(options)
  const rates = new Map<string, number[]>()
  const key = (set: GpuSet, count: number) => `${count} ${set}`
  const startedMs = performance.now()
  // Repetition -1 warms up.
  for (let repetition = -1; repetition < repetitions; repetition++) {
    if (repetition > 0 && performance.now() - startedMs > timeLimitMs) break
    for (const count of streams) {
      for (const [set, contender] of contenders) {
        const rate = await contender.decode(count, context, repetition < 0 ? 1 : steps)
        if (repetition >= 0) rates.set(key(set, count), [...(rates.get(key(set, count)) ?? []), rate])
      }
    }
  }
  for (const count of streams) {
    for (const set of sets) {
      const found = rates.get(key(set, count)) ?? []
      const dense = set === 'dense' ? undefined : rates.get(key('dense', count))
      const megabytes = contenders.get(set)?.megabytes ?? Number.NaN
      print(
        line(
          `${count} stream${count === 1 ? '' : 's'}, ${set}`,
          describe(options, count, megabytes, found, dense),
        ),
      )
    }
  }
  for (const { close } of contenders.values()) await close()
}

async function loadSets(options: GpuBenchOptions): Promise<Map<GpuSet, Contender>> {
  const { model, sets, maskPaths, print } = options
  const backends = new Map<string, { backend: GpuBackend; megabytes: () => number }>()
  const contenders = new Map<GpuSet, Contender>()
  for (const set of sets) {
    const { precision, ratio } = GPU_SETS[set]
    const log = createLoadLog()
    const known = backends.get(precision) ?? {
      backend: createGpuBackend({ ...backendOptions(options), precision, headPrecision: GPU_HEAD, log }),
      megabytes: log.megabytes,
    }
    backends.set(precision, known)
    const maskPath = ratio === null ? null : (maskPaths.get(ratio) ?? null)
    const startedMs = performance.now()
    const version = maskPath === null ? 0 : contenders.size
    const weights = await known.backend.load({ model, version, maskPath, priority: 'serving' })
    const seconds = ((performance.now() - startedMs) / 1000).toFixed(1)
    const megabytes = known.megabytes()
    contenders.set(set, servedContender(set, known.backend, weights, megabytes))
    print(line(`${set}, head ${GPU_HEAD}`, `${megabytes} MB per token at 1 stream, loaded in ${seconds} s`))
  }
  return contenders
}

/** The scheduler of a node is not used, so its pages are few. */
function backendOptions({ addon, native, device, streams, context, steps }: GpuBenchOptions) {
  const pages = Math.ceil((context + steps) / PAGE_TOKENS)
  return {
    addon,
    native,
    device,
    kvTokens: PAGE_TOKENS,
    ownTokens: Math.max(...streams) * pages * PAGE_TOKENS,
  }
}

function describe(
  { bandwidth }: GpuBenchOptions,
  streams: number,
  megabytes: number,
  found: readonly number[],
  dense: readonly number[] | undefined,
): string {
  const parts = [formatSpread(spread(found), 'tokens/s'), `${(megabytes / streams).toFixed(1)} MB per token`]
  if (bandwidth !== undefined) {
    const shares = found.map((rate) => ((rate / streams) * megabytes * 1e6 * 100) / (bandwidth * 1e9))
    parts.push(formatSpread(spread(shares), '% of the bound', 0))
  }
  if (dense) {
    const ratios = found.map((rate, index) => rate / (dense[index] ?? Number.NaN))
    parts.push(formatSpread(spread(ratios), '× dense', 2))
  }
  return parts.join(', ')
}
