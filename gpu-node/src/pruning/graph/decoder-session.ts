import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import { buildDecoder } from './decoder-graph.ts'
import { prepareWeightFiles } from './decoder-weight-files.ts'
import type { ExecutionProvider } from './execution-provider.ts'
import { InferenceSession } from './onnx-runtime.ts'
import { encodeModel } from './onnx-writer.ts'

/** The weights of a decoder session, and how it runs. */
export interface DecoderSessionOptions {
  config: LlamaConfig
  master: DenseMaster
  /** Null is dense. */
  maskPath: string | null
  /** An empty directory of its own; may be removed once the session has been made. */
  workDir: string
  threads: number
  provider: ExecutionProvider
}

/** ONNX Runtime's severity from which it writes to stderr: errors. */
const LOG_ERRORS = 3

/**
 * A session of the decoder graph over the weights of a set.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`
 */
export async function createDecoderSession(options: DecoderSessionOptions): Promise<InferenceSession> {
  const { config, master, maskPath, workDir, threads, provider } = options
  const { baseDir, locate } = prepareWeightFiles(config, master, maskPath, workDir)
  return InferenceSession.create(encodeModel(buildDecoder(config, locate)), {
    executionProviders: provider === 'cpu' ? ['cpu'] : [provider, 'cpu'],
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    // Shapes change from step to step: a pattern of each would be planned and kept.
    enableMemPattern: false,
    logSeverityLevel: LOG_ERRORS,
    extra: {
      session: {
        model_external_initializers_file_folder_path: baseDir,
        // Threads that wait for work sleep. Spinning is no faster here on an idle machine (22.7 ms a decode
        // step asleep, 27.2 ms spinning, two cores), and on a busy one it makes a step take 2.5 times as long.
        intra_op: { allow_spinning: '0' },
      },
    },
  })
}
