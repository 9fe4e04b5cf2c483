import { closeSync, openSync, readSync } from 'node:fs'
import { Tensor } from '../graph/onnx-runtime.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { DenseMaster } from '../../model/master/dense-model.ts'
import type { TokenSequences } from './token-sequences.ts'

/** Maximum tokens that run through a block at once, unless one sequence is longer. Enough for full GEMM speed. */
export const CHUNK_TOKENS = 2048

/** Consecutive sequences that run together. */
export interface Chunk {
  batch: number
  length: number
  /** Index of the first token in the concatenation of all sequences. */
  firstToken: number
}

/** Divides sequences into chunks of at most {@link CHUNK_TOKENS} tokens, or of one longer sequence. */
export function cutChunks({ sequences, length }: Pick<TokenSequences, 'sequences' | 'length'>): Chunk[] {
  const maxBatch = Math.max(1, Math.floor(CHUNK_TOKENS / length))
  const chunks: Chunk[] = []
  for (let first = 0; first < sequences; first += maxBatch) {
    chunks.push({ batch: Math.min(maxBatch, sequences - first), length, firstToken: first * length })
  }
  return chunks
}

/** Returns the number of tokens of the largest chunk of sequences of `length` tokens. */
export function largestChunkTokens(length: number, sequences = Number.POSITIVE_INFINITY): number {
  return length * Math.min(sequences, Math.max(1, Math.floor(CHUNK_TOKENS / length)))
}

/** Maximum memory of activations that is kept between runs. Larger activations are freed by each operator. */
const MAX_KEPT_ACTIVATION_BYTES = 512 * 2 ** 20

/**
 * Returns the memory in bytes that the graphs of a block, including statistics, need for the activations of a chunk of
 * `tokens`, and whether they keep it between runs. Keeping it saved a model of hidden size 576 a tenth of its time, and one
 * of 2048 a twentieth. The factors are measured.
 */
export function activationMemory(
  { hiddenSize, intermediateSize }: LlamaConfig,
  tokens: number,
): { kept: boolean; bytes: number } {
  const keptBytes = 4 * tokens * (14 * hiddenSize + 19 * intermediateSize)
  const kept = keptBytes <= MAX_KEPT_ACTIVATION_BYTES
  return { kept, bytes: kept ? keptBytes : keptBytes / 3 }
}

/** Returns a view of the chunk's rows of `hidden` `[tokens, hidden]`. */
export function hiddenOfChunk(hidden: Float32Array, chunk: Chunk, { hiddenSize }: LlamaConfig): Float32Array {
  const { batch, length, firstToken } = chunk
  return hidden.subarray(firstToken * hiddenSize, (firstToken + batch * length) * hiddenSize)
}

/** Returns the inputs of attention besides the weights (see `attentionInputs`), for sequences that begin at position 0. */
export function chunkFeeds(chunk: Chunk, hidden: Float32Array, config: LlamaConfig): Record<string, Tensor> {
  const { batch, length } = chunk
  const { hiddenSize, kvHeads, headDim } = config
  const past = new Tensor('float32', new Float32Array(0), [batch, kvHeads, 0, headDim])
  return {
    hidden: new Tensor('float32', hiddenOfChunk(hidden, chunk, config), [batch * length, hiddenSize]),
    attention_shape: new Tensor('int64', BigInt64Array.of(BigInt(batch), BigInt(length), -1n), [3]),
    last_position: new Tensor('int32', new Int32Array(batch).fill(length - 1), [batch]),
    total_length: new Tensor('int32', Int32Array.of(length), []),
    past_key_0: past,
    past_value_0: past,
  }
}

/** Reads the embedding of each token, `[tokens, hidden]` f32. Only rows that occur are read from the file. */
export function embedTokens(
  { config, master }: { config: LlamaConfig; master: DenseMaster },
  tokens: Int32Array,
): Float32Array<ArrayBuffer> {
  const embedding = master.tensors.get('model.embed_tokens.weight')
  if (!embedding) throw new RangeError('the master holds no embedding')
  const { hiddenSize } = config
  const hidden = new Float32Array(tokens.length * hiddenSize)
  /** Offset in `hidden` of the first copy of each token's row. */
  const firstAt = new Map<number, number>()
  const file = openSync(master.path, 'r')
  try {
    for (const [position, token] of tokens.entries()) {
      const to = position * hiddenSize
      const known = firstAt.get(token)
      if (known === undefined) {
        const row = hidden.subarray(to, to + hiddenSize)
        readSync(file, row, 0, row.byteLength, embedding.offset + token * row.byteLength)
        firstAt.set(token, to)
      } else {
        hidden.copyWithin(to, known, known + hiddenSize)
      }
    }
  } finally {
    closeSync(file)
  }
  return hidden
}
