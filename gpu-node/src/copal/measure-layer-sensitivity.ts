import { createHash } from 'node:crypto'
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { checkMask, decodeMask, encodeMask, type Mask } from '@copal/shared/mask/codec.ts'
import { DENSE } from '@copal/shared/mask/metadata.ts'
import { AppError } from '@copal/shared/errors.ts'
import { runForward } from '../backends/onnx/forward.ts'
import { KeyValueCache } from '../backends/onnx/key-value-cache.ts'
import { createDecoderSession } from '../backends/onnx/load-runner.ts'
import type { InferenceSession } from '../graph/runtime.ts'
import { BLOCK_LINEARS } from '../model/config.ts'
import type { DenseModel } from '../model/dense-model.ts'
import type { LayerSensitivity } from '../model/layer-sensitivity.ts'
import { linearShapes } from './patterns.ts'

/** A measurement of {@link measureLayerSensitivity}. */
export interface LayerSensitivityOptions {
  /** A mask file that prunes every linear. */
  maskPath: string
  /** Each of the same number of tokens; their dense logits are in memory: 4 bytes × tokens × vocabulary. */
  windows: readonly Int32Array[]
  textSha256: string
  threads: number
  /** Made, used and left empty: as large as the model's weights in f32. */
  scratchDir: string
  /** ISO 8601, into the file. */
  created: string
  signal: AbortSignal
  onProgress: (fraction: number, message: string) => void
}

/** A part of the model that is pruned alone. */
interface Part {
  label: string
  holds: (linear: string) => boolean
}

/**
 * Measures what the output loses when one part of the model is pruned and the rest stays dense: every block, and every
 * linear in all blocks. As many forward passes as blocks and seven and two over the windows.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`; `invalid_request` the mask leaves linears dense or is a weights
 * file; the reason of the signal
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
      'Sensitivities are measured with a mask file that prunes every linear.',
    )
  }
  const blocks = Array.from({ length: config.layers }, (_, layer) => ({
    label: `block ${layer + 1} of ${config.layers}`,
    holds: (name: string) => name.startsWith(`model.layers.${layer}.`),
  }))
  const linears = BLOCK_LINEARS.map((linear) => ({
    label: linear,
    holds: (name: string) => name.endsWith(`.${linear}.weight`),
  }))
  const parts: Part[] = [{ label: 'everything', holds: () => true }, ...linears, ...blocks]
  await mkdir(options.scratchDir, { recursive: true })
  const scratch = await mkdtemp(join(options.scratchDir, 'sensitivity-'))
  try {
    options.onProgress(0, 'dense')
    const dense = await logitsOf(model, null, scratch, options)
    const found: number[] = []
    for (const [index, part] of parts.entries()) {
      options.onProgress((index + 1) / (parts.length + 1), part.label)
      const path = join(scratch, 'part.safetensors')
      await writeFile(path, encodeMask(only(mask, part)))
      found.push(await divergenceOf(model, path, dense, scratch, options))
    }
    const [all = Number.NaN, ...rest] = found
    return {
      format: 'copal-layer-sensitivity',
      format_version: 1,
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
      divergence: {
        all,
        linears: Object.fromEntries(
          BLOCK_LINEARS.map((linear, index) => [linear, rest[index] as number]),
        ) as LayerSensitivity['divergence']['linears'],
        blocks: rest.slice(BLOCK_LINEARS.length),
      },
    }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

const hasValues = ({ linears }: Mask): boolean =>
  [...linears.values()].some(({ values }) => values !== undefined)

/** The mask with every linear outside of a part left dense. */
function only({ meta, linears }: Mask, { holds }: Part): Mask {
  const others = [...linears.keys()].filter((name) => !holds(name))
  return {
    meta: {
      ...meta,
      patterns: { ...meta.patterns, ...Object.fromEntries(others.map((name) => [name, DENSE])) },
    },
    linears: new Map([...linears].filter(([name]) => holds(name))),
  }
}

/** Logits after every token of every window, `[tokens, vocab]` each. */
async function logitsOf(
  model: DenseModel,
  maskPath: string | null,
  scratch: string,
  options: LayerSensitivityOptions,
): Promise<Float32Array[]> {
  const all: Float32Array[] = []
  await eachWindow(model, maskPath, scratch, options, (logits) => all.push(logits.slice()))
  return all
}

/** Mean over the tokens of all windows of the divergence from the dense model, in nats. */
async function divergenceOf(
  model: DenseModel,
  maskPath: string,
  dense: readonly Float32Array[],
  scratch: string,
  options: LayerSensitivityOptions,
): Promise<number> {
  let sum = 0
  let tokens = 0
  const { vocabSize } = model.config
  await eachWindow(model, maskPath, scratch, options, (logits, window) => {
    const expected = dense[window] as Float32Array
    for (let at = 0; at < logits.length; at += vocabSize) {
      sum += kullbackLeibler(expected.subarray(at, at + vocabSize), logits.subarray(at, at + vocabSize))
      tokens++
    }
  })
  return sum / tokens
}

async function eachWindow(
  { config, master }: DenseModel,
  maskPath: string | null,
  workDir: string,
  { windows, threads, signal }: LayerSensitivityOptions,
  take: (logits: Float32Array, window: number) => void,
): Promise<void> {
  const own = await mkdtemp(join(workDir, 'weights-'))
  let session: InferenceSession | undefined
  try {
    const options = {
      config,
      master,
      maskPath,
      workDir: own,
      threads,
      provider: 'cpu',
      background: true,
    } as const
    session = await createDecoderSession(options)
    for (const [index, tokens] of windows.entries()) {
      signal.throwIfAborted()
      const { slab } = new KeyValueCache(config).reserve(0, 0, tokens.length)
      const member = { slot: 0, position: 0, tokens, wanted: [...tokens.keys()], targets: [] }
      const [logits] = await runForward(session, config, { slab, members: [member], output: 'logits' })
      take(logits as Float32Array, index)
    }
  } finally {
    await session?.release()
    await rm(own, { recursive: true, force: true })
  }
}

/** `Σ p · (ln p − ln q)` of the distributions that two rows of logits stand for; f64. */
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
  let most = -Infinity
  for (const value of values) if (value > most) most = value
  return most
}
