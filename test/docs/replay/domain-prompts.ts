/** The prompts of the replay of domains, and the form in which they are stored. */

/** Tokens of the prompts, in the order in which a prompt stores its texts and embeddings. */
export const LENGTHS = [30, 60, 128] as const

/** The file of the background's embeddings, in the order of its texts. */
export const BACKGROUND_FILE = 'background.json'

/** One prompt, cut at each of the {@link LENGTHS}. */
export interface Prompt {
  side: 'training' | 'held_out'
  /** Index of the document among those of its side. */
  document: number
  texts: string[]
  /** As {@link encodeEmbedding} gives them. */
  embeddings: string[]
}

/** The prompts of one kind of text. */
export interface PromptFile {
  model: string
  kind: string
  package: string
  prompts: Prompt[]
}

/** Encodes a vector as base64: the largest magnitude as f32, then each value in 16 bits relative to it. */
export function encodeEmbedding(vector: Float64Array): string {
  const scale = vector.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0)
  const bytes = Buffer.alloc(4 + 2 * vector.length)
  bytes.writeFloatLE(scale)
  for (const [index, value] of vector.entries())
    bytes.writeInt16LE(scale === 0 ? 0 : Math.round((value / scale) * 32767), 4 + 2 * index)
  return bytes.toString('base64')
}

/** Decodes what {@link encodeEmbedding} gives. */
export function decodeEmbedding(encoded: string): number[] {
  const bytes = Buffer.from(encoded, 'base64')
  const scale = bytes.readFloatLE()
  return Array.from(
    { length: (bytes.length - 4) / 2 },
    (_, index) => (bytes.readInt16LE(4 + 2 * index) / 32767) * scale,
  )
}
