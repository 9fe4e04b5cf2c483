import { createBlockRunner } from '@copal/gpu-node/pruning/calibration/block-runner.ts'
import {
  createCalibrationPass,
  type CalibrationPass,
} from '@copal/gpu-node/pruning/calibration/calibration-pass.ts'
import { openPartial } from '@copal/gpu-node/pruning/statistics/partial-artifact.ts'
import type { TokenSequences } from '@copal/gpu-node/pruning/calibration/token-sequences.ts'
import { embedTokens } from '@copal/gpu-node/pruning/calibration/token-chunks.ts'
import { maskFileChurn } from '@copal/gpu-node/model/mask-file/mask-file-reader.ts'
import type { DenseModel } from '@copal/gpu-node/model/master/dense-model.ts'
import type { CalibrateWork, LabCall, LabCalls, LabRequest } from './lab-child-protocol.ts'
import { prepareDomains } from '../texts/prepare-domains.ts'
import { selectMaskFile, selectPrunedMaskFile } from './select-mask-file.ts'

type OnProgress = (fraction: number, message: string) => void

/** Creates a function that performs the calls of {@link LabCalls} on one model, one at a time. */
export function createLabCalls(
  model: DenseModel,
  threads: number,
): (request: LabRequest, onProgress: OnProgress) => Promise<LabCalls[LabCall]['result']> {
  let pass: { length: number; ready: Promise<CalibrationPass> } | undefined

  /** Returns the calibration graph for this sequence length, reusing the previous one if the length is the same. */
  async function passFor(length: number): Promise<CalibrationPass> {
    if (pass?.length !== length) {
      await pass?.ready.then((old) => old.release())
      pass = { length, ready: createCalibrationPass(model, length, threads) }
    }
    return pass.ready
  }

  async function calibrate(work: CalibrateWork, onProgress: OnProgress) {
    const { layers } = model.config
    const partial = await openPartial(work.statisticsDir, work.part.id)
    const before = partial.blocksDone
    const calibration = await passFor(work.sequences.length)
    const startedMs = performance.now()
    const report = (done: number) =>
      onProgress(done / layers, `calibrating ${work.part.domain}, block ${done} of ${layers}`)
    report(before)
    await calibration.run(work.sequences, partial, report)
    const seconds = (performance.now() - startedMs) / 1000
    await partial.publish(model.master.baseSha256, work.part)
    return { seconds, blocks: layers - before }
  }

  return async (request, onProgress) => {
    switch (request.call) {
      case 'prepare': {
        const { specs, options } = request.work
        let done = 0
        return prepareDomains(model, specs, options, (name) =>
          onProgress(done++ / specs.length, `reading ${name}`),
        )
      }
      case 'measure':
        return measureBlock(model, request.work.sequences, threads)
      case 'calibrate':
        return calibrate(request.work, onProgress)
      case 'select':
        return selectMaskFile(model, request.work, threads, onProgress)
      case 'selectPruned':
        return selectPrunedMaskFile(model, request.work, threads, onProgress)
      case 'churn':
        return { churn: maskFileChurn(request.work.path, request.work.otherPath) }
    }
  }
}

/** Times one block, without statistics and with statistics, which are discarded. */
async function measureBlock(
  model: DenseModel,
  sequences: TokenSequences,
  threads: number,
): Promise<LabCalls['measure']['result']> {
  const runner = await createBlockRunner(model, { length: sequences.length, threads, forward: true })
  const time = async (run: () => Promise<unknown>) => {
    // Warm-up: the first run allocates memory.
    await run()
    const startedMs = performance.now()
    await run()
    return (performance.now() - startedMs) / 1000 / sequences.tokens.length
  }
  try {
    await runner.load(0)
    const hidden = embedTokens(model, sequences.tokens)
    return {
      forward: await time(() => runner.forward(sequences, hidden.slice())),
      calibrate: await time(() => runner.calibrate(sequences, hidden, null)),
    }
  } finally {
    await runner.release()
  }
}
