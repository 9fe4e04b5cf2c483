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
  /** Indices into `tokens` of the tokens whose logits are wanted, ascending. */
  outputIndices: readonly number[]
}

/** Sequences of one slab that run together. Slots between them that have no member run with dummy tokens. */
export interface Batch {
  slab: Slab
  members: readonly BatchMember[]
  /** Whether the last hidden states of all tokens are wanted; default false. */
  hidden?: boolean
}

/** The output of one member of a {@link Batch}: views of buffers that all members share. */
export interface ForwardOutput {
  /** f32 `[outputIndices, vocab]`. */
  logits: Float32Array<ArrayBuffer>
  /** f32 `[tokens, hidden]`, empty unless requested. */
  hidden: Float32Array<ArrayBuffer>
}

/** Runs the model over a batch and writes the new keys and values into its slab. Returns the output of each member. */
export async function runForward(
  session: InferenceSession,
  { layers, vocabSize, hiddenSize }: Pick<LlamaConfig, 'layers' | 'vocabSize' | 'hiddenSize'>,
  { slab, members, hidden: isHiddenWanted = false }: Batch,
): Promise<ForwardOutput[]> {
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
  if (rows.length > 0) fetches.logits = null
  if (isHiddenWanted) fetches.hidden = null
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
  const logits = dataOf(results.logits)
  const hidden = dataOf(results.hidden)
  const size = length * hiddenSize
  let row = 0
  return members.map(({ slot, outputIndices }) => ({
    logits: logits.subarray(row * vocabSize, (row += outputIndices.length) * vocabSize),
    hidden: hidden.subarray((slot - first) * size, (slot - first + 1) * size),
  }))
}

/** Runs one sequence, as {@link runForward} does with a batch of it alone. */
export async function runSequence(
  session: InferenceSession,
  config: Pick<LlamaConfig, 'layers' | 'vocabSize' | 'hiddenSize'>,
  slab: Slab,
  member: BatchMember,
  hidden = false,
): Promise<ForwardOutput> {
  const [output] = await runForward(session, config, { slab, members: [member], hidden })
  return output as ForwardOutput
}

/** Returns the elements of an output, none if it was not fetched. */
function dataOf(output: Tensor | undefined): Float32Array<ArrayBuffer> {
  return (output?.data as Float32Array<ArrayBuffer> | undefined) ?? new Float32Array()
}
