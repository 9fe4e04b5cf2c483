import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { buildDecoder } from './decoder-graph.ts'
import { prepareWeightFiles } from './decoder-weight-files.ts'
import { InferenceSession } from './onnx-runtime.ts'
import { encodeModel } from './onnx-writer.ts'

/** Options of a decoder session. */
export interface DecoderSessionOptions {
  config: LlamaConfig
  master: DenseMaster
  /** Null for the dense weights. */
  maskPath: string | null
  /** An empty directory that no one else uses. It may be removed once the session is created. */
  workDir: string
  threads: number
}

/** The lowest ONNX Runtime severity that is written to stderr: errors. */
const LOG_ERRORS = 3

/**
 * Creates a session of the decoder graph with the dense or masked weights.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`
 */
export async function createDecoderSession(options: DecoderSessionOptions): Promise<InferenceSession> {
  const { config, master, maskPath, workDir, threads } = options
  const { baseDir, locate } = prepareWeightFiles(config, master, maskPath, workDir)
  return InferenceSession.create(encodeModel(buildDecoder(config, locate)), {
    executionProviders: ['cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Shapes change from step to step, and the runtime would plan and keep a memory pattern for each.
    enableMemPattern: false,
    logSeverityLevel: LOG_ERRORS,
    extra: {
      session: {
        model_external_initializers_file_folder_path: baseDir,
        // Waiting threads sleep instead of spinning. Spinning is not faster on an idle machine with two cores (27.2 ms
        // per decode step, 22.7 ms with sleeping), and on a busy one it makes a step 2.5 times as long.
        intra_op: { allow_spinning: '0' },
      },
    },
  })
}
