import { createHash } from 'node:crypto'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { countBits } from '@copal/shared/mask/bit-rows.ts'
import { checkMask, decodeMask, encodeMask, type Mask } from '@copal/shared/mask/mask-codec.ts'
import { DENSE } from '@copal/shared/mask/mask-metadata.ts'
import { AppError } from '@copal/shared/errors.ts'
import { runSequence } from '../graph/decoder-forward.ts'
import { KeyValueCache } from '../graph/key-value-cache.ts'
import { createDecoderSession } from '../graph/decoder-session.ts'
import type { InferenceSession } from '../graph/onnx-runtime.ts'
import { linearShapes } from '../../model/config/llama-config.ts'
import type { DenseModel } from '../../model/master/dense-model.ts'
import type { LayerSensitivity } from '../../model/sensitivities/layer-sensitivity.ts'
import { createScratch, removeScratch } from '../../platform/scratch.ts'
import type { TextMeasurementOptions } from './text-measurement.ts'

/**
 * Options of {@link measureLayerSensitivity}. The dense logits of the windows are in memory: 4 bytes × tokens × vocabulary.
 * Scratch files are as large as the model's weights in f32.
 */
export interface LayerSensitivityOptions extends TextMeasurementOptions {
  /** A mask file that prunes every linear. */
  maskPath: string
}

/**
 * Measures how much the pruning of each linear contributes to the output error while all others are pruned too: the decrease
 * of the Kullback-Leibler divergence from the dense model, in nats per token, when that linear alone is left dense. It takes
 * two more forward passes over the windows than there are linears.
 *
 * Pruning only one linear at a time would be misleading: in SmolLM2-135M, pruning the attention of the first block costs
 * nothing once its MLP is pruned.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`; `invalid_request` when the mask leaves linears dense or the file is a
 * weights file; the reason of the signal
 */
export async function measureLayerSensitivity(
  model: DenseModel,
  options: LayerSensitivityOptions,
): Promise<LayerSensitivity> {
  const { config, master } = model
  const bytes = await readFile(options.maskPath)
  const mask = decodeMask(bytes)
  checkMask(mask, { shapes: linearShapes(config), baseSha256: master.baseSha256 })
  if (mask.linears.size < linearShapes(config).size || hasValues(mask)) {
    throw new AppError(
      'invalid_request',
      'Give a mask file that prunes every linear: this one leaves linears dense, or is a weights file.',
    )
  }
  const scratch = await createScratch(options.cacheDir)
  try {
    options.onProgress(0, 'dense')
    const steps = mask.linears.size + 2
    const dense = await denseLogits(model, null, scratch, options)
    options.onProgress(1 / steps, 'everything pruned')
    const divergence = await measureDivergence(model, options.maskPath, dense, scratch, options)
    const linears: LayerSensitivity['linears'] = {}
    for (const [index, [name, [rows, cols]]] of [...linearShapes(config)].entries()) {
      options.onProgress((index + 2) / steps, `all but ${name}`)
      const path = join(scratch, 'all-but-one.safetensors')
      await writeFile(path, encodeMask(withLinearDense(mask, name)))
      const rest = await measureDivergence(model, path, dense, scratch, options)
      const kept = countBits(mask.linears.get(name)?.bits ?? new Uint8Array())
      linears[name] = { ratio: 1 - kept / (rows * cols), loss: divergence - rest }
    }
    return {
      format: 'copal-layer-sensitivity',
      format_version: 2,
      model: model.id,
      base_sha256: master.baseSha256,
      created: options.created,
      mask: {
        sha256: createHash('sha256').update(bytes).digest('hex'),
        method: mask.meta.method,
        pattern: mask.meta.pattern,
      },
      text: {
        sha256: options.textSha256,
        windows: options.windows.length,
        window_tokens: options.windows[0]?.length ?? 0,
      },
      divergence,
      linears,
    }
  } finally {
    await removeScratch(scratch)
  }
}

const hasValues = ({ linears }: Mask): boolean =>
  [...linears.values()].some(({ values }) => values !== undefined)

/** Returns the mask with one linear left dense. */
function withLinearDense({ meta, linears }: Mask, dense: string): Mask {
  return {
    meta: { ...meta, patterns: { ...meta.patterns, [dense]: DENSE } },
    linears: new Map([...linears].filter(([name]) => name !== dense)),
  }
}

/** Computes the logits after every token, one `[tokens, vocab]` array per window. */
async function denseLogits(
  model: DenseModel,
  maskPath: string | null,
  scratch: string,
  options: LayerSensitivityOptions,
): Promise<Float32Array[]> {
  const all: Float32Array[] = []
  await forEachWindow(model, maskPath, scratch, options, (logits) => all.push(logits.slice()))
  return all
}

/** Computes the mean divergence from the dense model over the tokens of all windows, in nats. */
async function measureDivergence(
  model: DenseModel,
  maskPath: string,
  dense: readonly Float32Array[],
  scratch: string,
  options: LayerSensitivityOptions,
): Promise<number> {
  let sum = 0
  let tokens = 0
  const { vocabSize } = model.config
  await forEachWindow(model, maskPath, scratch, options, (logits, window) => {
    const expected = dense[window] as Float32Array
    for (let at = 0; at < logits.length; at += vocabSize) {
      sum += kullbackLeibler(expected.subarray(at, at + vocabSize), logits.subarray(at, at + vocabSize))
      tokens++
    }
  })
  return sum / tokens
}

async function forEachWindow(
  { config, master }: DenseModel,
  maskPath: string | null,
  workDir: string,
  { windows, threads, signal }: LayerSensitivityOptions,
  onLogits: (logits: Float32Array, window: number) => void,
): Promise<void> {
  const own = await mkdtemp(join(workDir, 'weights-'))
  let session: InferenceSession | undefined
  try {
    const options = { config, master, maskPath, workDir: own, threads }
    session = await createDecoderSession(options)
    for (const [index, tokens] of windows.entries()) {
      signal.throwIfAborted()
      const { slab } = new KeyValueCache(config).reserve(0, 0, tokens.length)
      const member = { slot: 0, position: 0, tokens, outputIndices: [...tokens.keys()] }
      const { logits } = await runSequence(session, config, slab, member)
      onLogits(logits, index)
    }
  } finally {
    await session?.release()
    await rm(own, { recursive: true, force: true })
  }
}

/** Returns the Kullback-Leibler divergence `Σ p · (ln p − ln q)` of two distributions given as logits `[vocab]`, in f64. */
export function kullbackLeibler(p: Float32Array, q: Float32Array): number {
  const [largestP, largestQ] = [largest(p), largest(q)]
  let [sumP, sumQ, weighted] = [0, 0, 0]
  for (let i = 0; i < p.length; i++) {
    const share = Math.exp((p[i] as number) - largestP)
    sumP += share
    sumQ += Math.exp((q[i] as number) - largestQ)
    weighted += share * ((p[i] as number) - (q[i] as number))
  }
  return weighted / sumP - (largestP + Math.log(sumP)) + (largestQ + Math.log(sumQ))
}

function largest(values: Float32Array): number {
  let maximum = -Infinity
  for (const value of values) if (value > maximum) maximum = value
  return maximum
}
