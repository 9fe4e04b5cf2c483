import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'
import type { DenseModel } from './dense-model.ts'
import { readInto } from '../../platform/positional-read.ts'

/** The parts of a model that its identity covers. */
export type IdentifiedModel = Pick<DenseModel, 'config' | 'master' | 'tokenizerSha256'>

/** Version of the identity. Raise it when more of a model must be hashed. */
const IDENTITY_VERSION = 1

/** Fields for the context length and for the first and last tokens of outputs; of these only the text separator is hashed. */
const UNREAD: ReadonlySet<string> = new Set<keyof LlamaConfig>(['contextLength', 'bosTokenId', 'eosTokenIds'])

const PIECE_BYTES = 2 ** 22

/**
 * Returns the SHA-256 over everything that statistics and perplexities of a model depend on: all weights, including
 * embedding, norms and head, which no mask names; the constants of the forward pass; the tokenizer; the token between two
 * texts. `baseSha256` alone does not distinguish models whose rotary frequencies or embeddings differ.
 *
 * It is the same wherever the master was made. Reads all tensors except the linears.
 */
export async function modelIdentity({ config, master, tokenizerSha256 }: IdentifiedModel): Promise<string> {
  const constants = Object.entries(config).filter(([name]) => !UNREAD.has(name))
  const byName = ([a]: [string, unknown], [b]: [string, unknown]) => (a < b ? -1 : 1)
  const [separator = null] = config.eosTokenIds
  const hash = createHash('sha256').update(
    JSON.stringify([
      IDENTITY_VERSION,
      master.baseSha256,
      constants.toSorted(byName),
      tokenizerSha256,
      separator,
    ]),
  )
  const linears = linearShapes(config)
  const others = [...master.tensors].filter(([name]) => !linears.has(name))
  const piece = new Uint8Array(PIECE_BYTES)
  const file = await open(master.path)
  try {
    for (const [name, { offset, bytes }] of others.toSorted(byName)) {
      hash.update(name)
      for (let done = 0; done < bytes; done += PIECE_BYTES) {
        const part = piece.subarray(0, Math.min(PIECE_BYTES, bytes - done))
        await readInto(file, offset + done, part, master.path)
        hash.update(part)
      }
    }
  } finally {
    await file.close()
  }
  return hash.digest('hex')
}
