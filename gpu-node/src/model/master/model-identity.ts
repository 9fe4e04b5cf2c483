import { createHash } from 'node:crypto'
import { open } from 'node:fs/promises'
import { linearShapes, type LlamaConfig } from '../config/llama-config.ts'
import type { DenseModel } from './dense-model.ts'
import { readInto } from '../../platform/positional-read.ts'

/** What of a model is looked at. */
export type IdentifiedModel = Pick<DenseModel, 'config' | 'master' | 'tokenizerSha256'>

/** Raised when more than what is hashed now tells models apart. */
const IDENTITY_VERSION = 1

/** Say how long texts may be and where answers begin and end; of the last, the separator of texts is hashed. */
const UNREAD: ReadonlySet<string> = new Set<keyof LlamaConfig>(['contextLength', 'bosTokenId', 'eosTokenIds'])

const PIECE_BYTES = 2 ** 22

/**
 * SHA-256 over all that statistics and perplexities of a model depend on: the weights, also embedding, norms and head,
 * which no mask names; the constants of the forward pass; the tokenizer; the token between two texts. `baseSha256` alone
 * does not tell models apart whose rotary frequencies or embeddings differ.
 *
 * The same model has the same one wherever its master was made; reads everything of it but the linears.
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
