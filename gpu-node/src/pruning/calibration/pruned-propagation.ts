import { createHash } from 'node:crypto'
import type { SelectionSpec } from '@copal/shared/wire/selection.ts'
import { rowBytes } from '@copal/shared/mask/bit-rows.ts'
import { BLOCK_LINEARS, linearName, linearShape, type LlamaConfig } from '../../model/config/llama-config.ts'
import type { BlockWeights } from '../../model/master/read-master.ts'
import {
  listArtifacts,
  partId,
  type Artifact,
  type ArtifactPart,
  type CalibrationSpec,
} from '../statistics/statistics-artifact.ts'
import { createBlockRunner, type BlockRunner } from './block-runner.ts'
import { chooseMask, type ChosenLinear, type SelectionModel } from '../selection/choose-mask.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { openPartial, type StoredPartial } from '../statistics/partial-artifact.ts'
import type { TokenSequences } from './token-sequences.ts'
import { embedTokens } from './token-chunks.ts'

/** One dataset of the sequence, as it is calibrated on. */
export interface PrunedStage {
  spec: CalibrationSpec
  domain: string
  sequences: TokenSequences
}

/** What a decoder block reads while it is calibrated: what the dense blocks before it give, or pruned ones. */
export type Propagation = 'dense' | 'pruned'

/** How and where. */
export interface PrunedPropagationOptions {
  selection: SelectionSpec
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
 * So the statistics depend on the method, the pattern and the order, unlike those of dense propagation.
 * `chooseMask` on the artifacts of the stages that count gives the same masks again.
 *
 * Killed at any point, the same call goes on at the first block that was not finished.
 *
 * @returns one artifact a stage, in order
 * @throws AppError as `chooseMask` and `createCalibrationPass` do
 */
export async function calibratePruned(
  model: SelectionModel,
  stages: readonly PrunedStage[],
  options: PrunedPropagationOptions,
): Promise<Artifact[]> {
  const { selection, statisticsDir, threads, onBlock } = options
  const length = Math.max(...stages.map(({ sequences }) => sequences.length))
  const runner = await createBlockRunner(model, { length, threads, forward: true })
  try {
    const artifacts: Artifact[] = []
    for (const [index, stage] of stages.entries()) {
      const id = stageId(stage.spec, artifacts, selection)
      const onDisk = await listArtifacts(statisticsDir, model.master.baseSha256)
      const known = onDisk.find((artifact) => artifact.id === id)
      if (!known) {
        const { datasetSha256 } = stage.spec
        const part = { id, datasetSha256, domain: stage.domain, tokens: stage.sequences.tokens.length }
        const partial = await openPartial(statisticsDir, id)
        await runStage(
          { model, runner, partial, part, counted: artifacts, selection, threads },
          stage.sequences,
          (done) => onBlock?.(index, done),
        )
        artifacts.push(await partial.publish(model.master.baseSha256, part))
      } else artifacts.push(known)
    }
    return artifacts
  } finally {
    await runner.release()
  }
}

interface StageState {
  model: SelectionModel
  runner: BlockRunner
  partial: StoredPartial
  part: ArtifactPart
  /** Of the stages before. */
  counted: readonly Artifact[]
  selection: SelectionSpec
  threads: number
}

async function runStage(
  work: StageState,
  sequences: TokenSequences,
  onBlock: (done: number) => void,
): Promise<void> {
  const { model, runner, partial } = work
  const hidden = partial.hidden ?? embedTokens(model, sequences.tokens)
  while (partial.blocksDone < model.config.layers) {
    const block = partial.blocksDone
    await runner.load(block)
    const sums = await runner.calibrate(sequences, hidden, null)
    const hashes = await partial.writeBlock(sums.finish(block))
    await pruneBlock(work, block, hashes)
    await runner.forward(sequences, hidden)
    await partial.commitWritten(hashes, hidden)
    onBlock(partial.blocksDone)
  }
}

/** Chooses what a block keeps from the statistics so far, and changes the weights in memory. */
async function pruneBlock(
  { model, runner, partial, part, counted, selection, threads }: StageState,
  block: number,
  hashes: Record<string, string>,
): Promise<void> {
  const { id, dir } = partial
  const { baseSha256 } = model.master
  const own: Artifact = { id, dir, baseSha256, parts: [part], blocks: [...partial.blocks, hashes] }
  const artifacts = parseMethod(selection.method).datasets === 'accumulated' ? [...counted, own] : [own]
  const onLinear = async (chosen: ChosenLinear): Promise<void> =>
    applyChoice(model.config, runner.weights, block, chosen)
  const blocks = { first: block, end: block + 1 }
  await chooseMask({ model, artifacts, selection, threads, onLinear, blocks })
}

function applyChoice(config: LlamaConfig, weights: BlockWeights, block: number, chosen: ChosenLinear): void {
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
function stageId(spec: CalibrationSpec, earlier: readonly Artifact[], selection: SelectionSpec): string {
  const { method, pattern, scope, patterns = {} } = selection
  const overrides = Object.entries(patterns).sort(([a], [b]) => (a < b ? -1 : 1))
  const counted = parseMethod(method).datasets === 'accumulated' ? earlier.map(({ id }) => id) : []
  const identity = ['propagation:pruned', partId(spec), method, pattern, scope, overrides, counted]
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex')
}
