import { createHash } from 'node:crypto'
import type { SelectionSpec } from '@copal/shared/wire/node-rpc.ts'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import {
  BLOCK_LINEARS,
  linearName,
  linearShape,
  type BlockLinear,
  type LlamaConfig,
} from '../../model/config/llama-config.ts'
import type { BlockWeights } from '../../model/master/read-master.ts'
import {
  listArtifacts,
  partId,
  type Artifact,
  type ArtifactPart,
  type CalibrationSpec,
} from '../statistics/statistics-artifact.ts'
import type { BlockTensor } from '../statistics/block-file.ts'
import { BLOCK_INPUTS } from '../statistics/statistic-names.ts'
import { createBlockRunner, type BlockRunner } from './block-runner.ts'
import { chooseMask, type ChosenLinear, type PrunedModel } from '../selection/choose-mask.ts'
import { createCompensatedPass, linearsReading, type CompensatedPass } from './compensated-pass.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { openPartial, type StoredPartial } from '../statistics/partial-artifact.ts'
import type { TokenSequences } from './token-sequences.ts'
import { embed } from './token-chunks.ts'

/** One dataset of the sequence, as it is calibrated on. */
export interface PrunedStage {
  spec: CalibrationSpec
  domain: string
  sequences: TokenSequences
}

/**
 * What the linears of a block are to make of what pruned blocks give: the same as with their dense weights (`pruned`), or
 * what the dense model makes there (`compensated`).
 */
export type PrunedPropagation = 'pruned' | 'compensated'

/** What a decoder block reads while it is calibrated: what the dense blocks before it give, or pruned ones. */
export type Propagation = 'dense' | PrunedPropagation

/** How and where. */
export interface PrunedPropagationOptions {
  selection: SelectionSpec
  propagation: PrunedPropagation
  /** For these statistics alone: updates of a node remove what they do not know. */
  statisticsDir: string
  threads: number
  /** Called with the index of the stage and its blocks done. */
  onBlock?: ((stage: number, done: number) => void) | undefined
}

/**
 * Calibrates datasets one after another by the protocol of the baselines' code, where a block sees the blocks
 * before it pruned. Stage k, dataset `D_k`, from its embeddings on, block by block:
 *
 * 1. the hidden states of `D_k` run through the dense block; its statistics `S_k` are those of the inputs that
 *    the pruned blocks before give;
 * 2. the method chooses from the dense weights and `S_1 + … + S_k` (or `S_k` alone where it counts the newest
 *    dataset), each as its own stage found it: earlier datasets are not run again, for nothing of them is kept
 *    but the statistic;
 * 3. the hidden states run through the block with the chosen weights, and are what enters the next.
 *
 * Compensated, the dense model runs beside it. A linear is calibrated when those before it are pruned, in its block too, and
 * step 1 also sums up what it then lacks of its target, so that swaps and reconstruction make up for what was lost before:
 * see `deviationNames`. (Targets of the dense model for what pruned inputs give are those of GPTAQ, Li et al. 2025,
 * https://arxiv.org/abs/2504.02692, for quantisation; that `o_proj` and `down_proj` also aim at the dense residual stream is
 * ours.)
 *
 * So the statistics depend on the method, the pattern and the order, unlike those of dense propagation.
 * `chooseMask` on the artifacts of the stages that count gives the same masks again.
 *
 * Killed at any point, the same call goes on at the first block that was not finished.
 *
 * @returns one artifact a stage, in order
 * @throws AppError as `chooseMask` and `createCalibrationPass` do
 */
export async function calibratePruned(
  model: PrunedModel,
  stages: readonly PrunedStage[],
  options: PrunedPropagationOptions,
): Promise<Artifact[]> {
  const { selection, propagation, statisticsDir, threads, onBlock } = options
  const length = Math.max(...stages.map(({ sequences }) => sequences.length))
  const pass: StagePass =
    propagation === 'compensated'
      ? { propagation, runner: await createCompensatedPass(model, { length, threads }) }
      : { propagation, runner: await createBlockRunner(model, { length, threads, forward: true }) }
  try {
    const artifacts: Artifact[] = []
    for (const [index, stage] of stages.entries()) {
      const id = stageId(stage.spec, artifacts, selection, propagation)
      const onDisk = await listArtifacts(statisticsDir, model.master.baseSha256)
      const known = onDisk.find((artifact) => artifact.id === id)
      if (!known) {
        const { datasetSha256 } = stage.spec
        const part = { id, datasetSha256, domain: stage.domain, tokens: stage.sequences.tokens.length }
        const partial = await openPartial(statisticsDir, id)
        await runStage(
          { model, pass, partial, part, counted: artifacts, selection, threads },
          stage.sequences,
          (done) => onBlock?.(index, done),
        )
        artifacts.push(await partial.publish(model.master.baseSha256, part))
      } else artifacts.push(known)
    }
    return artifacts
  } finally {
    await pass.runner.release()
  }
}

/** What runs the blocks. */
type StagePass =
  | { propagation: 'pruned'; runner: BlockRunner }
  | { propagation: 'compensated'; runner: CompensatedPass }

interface StageWork {
  model: PrunedModel
  pass: StagePass
  partial: StoredPartial
  part: ArtifactPart
  /** Of the stages before. */
  counted: readonly Artifact[]
  selection: SelectionSpec
  threads: number
}

async function runStage(
  work: StageWork,
  sequences: TokenSequences,
  onBlock: (done: number) => void,
): Promise<void> {
  const { model, pass, partial } = work
  const hidden = partial.hidden ?? firstHidden(work, sequences.tokens)
  const pruned = hidden.subarray(0, sequences.tokens.length * model.config.hiddenSize)
  const dense = hidden.subarray(pruned.length)
  while (partial.blocksDone < model.config.layers) {
    const block = partial.blocksDone
    await pass.runner.load(block)
    const hashes =
      pass.propagation === 'compensated'
        ? await pruneInTurn(work, pass.runner, block, sequences, dense, pruned)
        : await pruneAtOnce(work, pass.runner, block, sequences, pruned)
    await partial.commitWritten(hashes, hidden)
    onBlock(partial.blocksDone)
  }
}

/** @returns hashes of the block's statistics */
async function pruneAtOnce(
  work: StageWork,
  runner: BlockRunner,
  block: number,
  sequences: TokenSequences,
  pruned: Float32Array,
): Promise<Record<string, string>> {
  const sums = await runner.calibrate(sequences, pruned, null)
  const hashes = await work.partial.writeBlock(sums.finish(block))
  await pruneBlock(work, block, hashes, BLOCK_LINEARS)
  await runner.forward(sequences, pruned)
  return hashes
}

/** As {@link pruneAtOnce}, but each linear is calibrated when those before it are pruned. */
async function pruneInTurn(
  work: StageWork,
  compensated: CompensatedPass,
  block: number,
  sequences: TokenSequences,
  dense: Float32Array,
  pruned: Float32Array,
): Promise<Record<string, string>> {
  const tensors: BlockTensor[] = []
  let hashes: Record<string, string> = {}
  for (const input of BLOCK_INPUTS) {
    tensors.push(...(await compensated.run(input, sequences, dense, pruned)))
    hashes = await work.partial.writeBlock(tensors)
    await pruneBlock(work, block, hashes, linearsReading(input))
    await compensated.advance(input, sequences, pruned)
  }
  return hashes
}

/** What enters the first block: of the pruned blocks, and behind it, where that is needed, of the dense ones. */
function firstHidden({ model, pass }: StageWork, tokens: Int32Array): Float32Array {
  const embedded = embed(model, tokens)
  if (pass.propagation === 'pruned') return embedded
  const both = new Float32Array(2 * embedded.length)
  both.set(embedded)
  both.set(embedded, embedded.length)
  return both
}

/** Chooses some linears of a block from the statistics so far, and changes the weights in memory. */
async function pruneBlock(
  { model, pass, partial, part, counted, selection, threads }: StageWork,
  block: number,
  hashes: Record<string, string>,
  linears: readonly BlockLinear[],
): Promise<void> {
  const { id, dir, blocks } = partial
  const { baseSha256 } = model.master
  const own: Artifact = { id, dir, baseSha256, parts: [part], blocks: [...blocks, hashes] }
  const artifacts = parseMethod(selection.method).datasets === 'accumulated' ? [...counted, own] : [own]
  const sink = async (chosen: ChosenLinear): Promise<void> =>
    apply(model.config, pass.runner.weights, block, chosen)
  const range = { first: block, end: block + 1, linears }
  await chooseMask(model, artifacts, selection, threads, sink, () => undefined, range)
}

function apply(config: LlamaConfig, weights: BlockWeights, block: number, chosen: ChosenLinear): void {
  for (const linear of BLOCK_LINEARS) {
    if (linearName(block, linear) !== chosen.name) continue
    const values = weights.linears[linear]
    if (chosen.weights) values.set(chosen.weights)
    const [rows, cols] = linearShape(config, linear)
    zeroPruned(values, chosen.bits, rows, cols)
  }
}

function zeroPruned(values: Float32Array, bits: Uint8Array, rows: number, cols: number): void {
  const width = rowBytes(cols)
  for (let row = 0, i = 0; row < rows; row++) {
    for (let col = 0; col < cols; col++, i++) {
      const kept = ((bits[row * width + (col >> 3)] as number) >> (col & 7)) & 1
      if (kept === 0) values[i] = 0
    }
  }
}

/** A stage's statistics depend on all that is chosen before and in it. */
function stageId(
  spec: CalibrationSpec,
  earlier: readonly Artifact[],
  selection: SelectionSpec,
  propagation: PrunedPropagation,
): string {
  const { method, pattern, scope, patterns = {} } = selection
  const overrides = Object.entries(patterns).sort(([a], [b]) => (a < b ? -1 : 1))
  const counted = parseMethod(method).datasets === 'accumulated' ? earlier.map(({ id }) => id) : []
  const identity = [`propagation:${propagation}`, partId(spec), method, pattern, scope, overrides, counted]
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex')
}
