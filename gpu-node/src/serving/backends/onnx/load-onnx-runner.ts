import { createDecoderSession, type DecoderSessionOptions } from '../../../pruning/graph/decoder-session.ts'
import type { InferenceSession } from '../../../pruning/graph/onnx-runtime.ts'
import type { LlamaConfig } from '../../../model/config/llama-config.ts'
import { selfTestPrompt, checkSelfTest } from '../../contract/self-test.ts'
import { runSequence } from '../../../pruning/graph/decoder-forward.ts'
import { KeyValueCache } from '../../../pruning/graph/key-value-cache.ts'
import { createRunner, type Runner } from './onnx-runner.ts'

/** The weights that a process loads; sent by structured clone. */
export interface OnnxLoadOptions extends DecoderSessionOptions {
  /** Yields the processor to everything else. */
  background: boolean
}

/**
 * Prepares the weights of a set, creates its session and runs the self-test.
 *
 * @throws AppError `mask_invalid`, `mask_base_mismatch`, `node_failed` when the self-test fails
 */
export async function loadRunner(options: OnnxLoadOptions): Promise<Runner> {
  const session = await createDecoderSession(options)
  await runSelfTest(session, options.config)
  return createRunner(session, options.config)
}

/** Largest allowed difference of cached and uncached logits, relative to the largest logit. */
const SELF_TEST_TOLERANCE = 1e-3

/**
 * Runs a fixed prompt at once, and again token by token through the cache. The logits must be finite and agree.
 *
 * @throws AppError `node_failed`
 */
async function runSelfTest(session: InferenceSession, config: LlamaConfig): Promise<void> {
  const prompt = selfTestPrompt(config.vocabSize)
  const cache = new KeyValueCache(config)
  const { slab } = cache.reserve(0, 0, prompt.length)
  cache.reserve(1, 0, prompt.length)
  const whole = { slot: 0, position: 0, tokens: prompt, outputIndices: [prompt.length - 1] }
  const { logits: expected } = await runSequence(session, config, slab, whole)
  let cached = new Float32Array()
  for (const [position, token] of prompt.entries()) {
    const member = { slot: 1, position, tokens: Int32Array.of(token), outputIndices: [0] }
    ;({ logits: cached } = await runSequence(session, config, slab, member))
  }
  checkSelfTest(expected, cached, SELF_TEST_TOLERANCE)
}
