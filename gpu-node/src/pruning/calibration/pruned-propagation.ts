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
import { createBlockRunner, type ProcessorRunner } from './block-runner.ts'
import { chooseMask, type ChosenLinear, type SelectionModel } from '../selection/choose-mask.ts'
import { parseMethod } from '../methods/method-registry.ts'
import { openPartial, type StoredPartial } from '../statistics/partial-artifact.ts'
import type { TokenSequences } from './token-sequences.ts'
import { embedTokens } from './token-chunks.ts'

/** One dataset of a sequence of datasets that are calibrated on one after another. */
export interface PrunedStage {
  spec: CalibrationSpec
  domain: string
  sequences: TokenSequences
}

/** Whether a decoder block is calibrated on the outputs of dense or of pruned earlier blocks. */
export type Propagation = 'dense' | 'pruned'

/** Options of {@link calibratePruned}. */
export interface PrunedPropagationOptions {
  selection: SelectionSpec
  /** A folder for these statistics only, because the updates of a node remove statistics that they do not know. */
  statisticsDir: string
  threads: number
  /** Called with the index of the stage and the number of its blocks done. */
  onBlock?: ((stage: number, done: number) => void) | undefined
}

/**
 * Calibrates datasets one after another by the protocol of the baselines' code, where a block reads the outputs of pruned
 * earlier blocks. Stage k runs dataset `D_k` block by block, beginning with its embeddings:
 *
 * 1. The hidden states of `D_k` run through the dense block, which gives its statistics `S_k`.
 * 2. The method chooses from the dense weights and `S_1 + … + S_k`, or `S_k` alone if it counts only the newest dataset.
 *    Earlier statistics stay as their own stage measured them: only the statistics of earlier datasets are kept.
 * 3. The hidden states run through the block with the chosen weights. The result is the input of the next block.
 *
 * So the statistics depend on the method, the pattern and the order of datasets, unlike those of dense propagation.
 * `chooseMask` with the artifacts of the counted stages returns the same masks again.
 *
 * After a kill at any point, the same call continues at the first unfinished block.
 *
 * @returns one artifact per stage, in order
 * @throws AppError as `chooseMask` and `CalibrationPass.run` do
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
  runner: ProcessorRunner
  partial: StoredPartial
  part: ArtifactPart
  /** Artifacts of the earlier stages. */
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
    const hashes = await partial.writeBlock(await sums.finish(block))
    await pruneBlock(work, block, hashes)
    await runner.forward(sequences, hidden)
    await partial.commitWritten(hashes, hidden)
    onBlock(partial.blocksDone)
  }
}

/** Prunes the weights of a block in memory, by the statistics so far. */
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

/** Returns the content address of a stage's statistics, which depend on all choices before and in it. */
function stageId(spec: CalibrationSpec, earlier: readonly Artifact[], selection: SelectionSpec): string {
  const { method, pattern, scope, patterns = {} } = selection
  const overrides = Object.entries(patterns).sort(([a], [b]) => (a < b ? -1 : 1))
  const counted = parseMethod(method).datasets === 'accumulated' ? earlier.map(({ id }) => id) : []
  const identity = ['propagation:pruned', partId(spec), method, pattern, scope, overrides, counted]
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex')
}
