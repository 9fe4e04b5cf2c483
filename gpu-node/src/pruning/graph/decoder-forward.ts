import type { InferenceSession } from './onnx-runtime.ts'
import { Tensor } from './onnx-runtime.ts'
import { newKeyValueNames } from './decoder-graph.ts'
import type { LlamaConfig } from '../../model/config/llama-config.ts'
import type { Slab } from './key-value-cache.ts'

/** One sequence of a {@link Batch}. */
export interface BatchMember {
  slot: number
  /** Position of its first new token. */
  position: number
  /** New tokens; all members of a batch have the same number. */
  tokens: Int32Array
  /** Indices into `tokens` of the tokens that have an output, ascending. */
  outputIndices: readonly number[]
}

/** Sequences of one slab that run together. Slots between them that have no member run with dummy tokens. */
export interface Batch {
  slab: Slab
  members: readonly BatchMember[]
  /** The output of the tokens at `outputIndices`; `hidden` is of all tokens. */
  output: 'none' | 'logits' | 'hidden'
}

/**
 * Runs the model over a batch and writes the new keys and values into its slab.
 *
 * @returns for each member a view of one f32 buffer: logits `[outputs, vocab]` or hidden states `[length, hidden]`; empty
 * for `none`
 */
export async function runForward(
  session: InferenceSession,
  { layers, vocabSize, hiddenSize }: Pick<LlamaConfig, 'layers' | 'vocabSize' | 'hiddenSize'>,
  { slab, members, output }: Batch,
): Promise<Float32Array[]> {
  const length = (members[0] as BatchMember).tokens.length
  const first = Math.min(...members.map(({ slot }) => slot))
  const batch = Math.max(...members.map(({ slot }) => slot)) - first + 1
  const tokens = new BigInt64Array(batch * length)
  const positions = new BigInt64Array(batch * length)
  // A slot without a member runs token 0 at position 0. Its results are not stored.
  const lastPositions = new Int32Array(batch).fill(length - 1)
  const rows: number[] = []
  for (const member of members) {
    const index = member.slot - first
    for (let i = 0; i < length; i++) {
      tokens[index * length + i] = BigInt(member.tokens[i] as number)
      positions[index * length + i] = BigInt(member.position + i)
    }
    lastPositions[index] = member.position + length - 1
    for (const outputIndex of member.outputIndices) rows.push(index * length + outputIndex)
  }
  const fetches: Record<string, null> = {}
  for (let layer = 0; layer < layers; layer++)
    for (const name of newKeyValueNames(layer)) fetches[name] = null
  if (output !== 'none') fetches[output] = null
  const results = await session.run(
    {
      tokens: new Tensor('int64', tokens, [batch, length]),
      positions: new Tensor('int64', positions, [batch, length]),
      last_position: new Tensor('int32', lastPositions, [batch]),
      total_length: new Tensor('int32', Int32Array.of(Math.max(...lastPositions) + 1), []),
      rows: new Tensor('int64', BigInt64Array.from(rows, BigInt), [rows.length]),
      ...slab.past(first, batch),
    },
    fetches,
  )
  for (const { slot, position } of members) slab.write(slot, position, results, slot - first, length)
  if (output === 'none') return members.map(() => new Float32Array())
  const data = (results[output] as Tensor).data as Float32Array
  if (output === 'hidden') {
    const size = length * hiddenSize
    return members.map(({ slot }) => data.subarray((slot - first) * size, (slot - first + 1) * size))
  }
  let row = 0
  return members.map(({ outputIndices }) =>
    data.subarray(row * vocabSize, (row += outputIndices.length) * vocabSize),
  )
}
