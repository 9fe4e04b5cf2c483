import type { ModelName } from '@copal/shared/wire/model-name.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import type { PromptParts } from './prompt-prefix.ts'
import type { CachedResponse } from './response-cache-object.ts'

/** One admitted request, ready for a node. */
export interface Generation {
  /** `/rpc/chat-completions`, `/rpc/completions`, `/rpc/responses` or `/rpc/embeddings`. */
  path: string
  model: ModelName
  domain: string
  sample: boolean
  /** Estimate of the tokens of all prompts. */
  promptTokens: number
  /** Most tokens of each choice that the client asks for; null when it names no bound. */
  maxTokens: number | null
  /** The field that bounds the answer of a client that names no bound. */
  boundField?: 'max_tokens' | 'max_output_tokens'
  /** Prompts and choices over all of them; one of each when left out. */
  prompts?: number
  choices?: number
  /** The parsed body of the client's request. */
  request: {
    model: string
    stream?: boolean | null | undefined
    temperature?: number | null | undefined
    seed?: number | null | undefined
  }
  /** Where a streamed answer shall be kept; undefined: nowhere. */
  keep?: CacheTarget
  /** The prompt as the model reads it, whose beginning a node may have computed already; undefined: nothing is shared. */
  promptParts?: () => PromptParts
  /** What the client wrote, to be sampled where it consents; undefined where there is nothing to sample. */
  text?: () => string
}

/** Hears what becomes of an answer. */
export interface ResponseListener {
  /** It is whole, was not streamed, and no limit of the key made it shorter than the request asked for. */
  take?(answer: CachedResponse): void
  /** Nothing more comes: it was whole, failed, or nobody waits for it any more. */
  ended(how: 'whole' | 'failed' | 'left'): void
}
