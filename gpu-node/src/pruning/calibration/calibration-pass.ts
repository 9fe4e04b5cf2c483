import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { createBlockRunner, type CreateBlockRunner, type RunnerOptions } from './block-runner.ts'
import type { PartialArtifact } from '../statistics/partial-artifact.ts'
import type { TokenSequences } from './token-sequences.ts'
import { embedTokens } from './token-chunks.ts'

/** Runs the decoder blocks of a dense model one after another, and sums their statistics. */
export interface CalibrationPass {
  /**
   * Calibrates from the first uncommitted block of `partial` until every block is committed. After an error, another run
   * continues with the committed blocks.
   *
   * @param onBlock called with the number of blocks done
   * @throws AppError `unsupported_model`, naming the linear or the block, when weights or activations are not finite;
   * `internal_error` when the disk is full
   * @throws {LostBlockError} from a runner on a device; `partial` is then to be opened again, and continued by another pass
   */
  run(sequences: TokenSequences, partial: PartialArtifact, onBlock: (done: number) => void): Promise<void>
  release(): Promise<void>
}

/**
 * Creates a pass for sequences of at most `length` tokens. Its memory does not depend on the number of layers: the weights of
 * one block, its statistics, one chunk of activations, and the hidden states of all sequences.
 *
 * @param options see `RunnerOptions`; by default the processor runs the blocks
 */
export async function createCalibrationPass(
  model: { config: LlamaConfig; master: DenseMaster },
  length: number,
  threads: number,
  {
    createRunner = createBlockRunner,
    ...options
  }: Pick<RunnerOptions, 'statistics' | 'pause'> & { createRunner?: CreateBlockRunner | undefined } = {},
): Promise<CalibrationPass> {
  const runner = await createRunner(model, { length, threads, forward: false, ...options })
  return {
    async run(sequences, partial, onBlock) {
      const hidden = partial.hidden ?? embedTokens(model, sequences.tokens)
      while (partial.blocksDone < model.config.layers) {
        const block = partial.blocksDone
        await runner.load(block)
        const sums = await runner.calibrate(sequences, hidden, hidden)
        await partial.commitBlock(await sums.finish(block), hidden)
        onBlock(partial.blocksDone)
      }
    },
    release: () => runner.release(),
  }
}
