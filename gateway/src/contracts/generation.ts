import type { ModelName } from '@copal/shared/wire/model-name.ts'
import type { CacheTarget } from '@copal/shared/wire/node-calls.ts'
import type { Priority } from './acquire.ts'
import type { PromptParts } from './prompt-prefix.ts'
import type { CachedResponse } from './response-cache-object.ts'

/** A text that a client wrote. */
export interface ClientText {
  text: string
  /** The first message of its conversation. */
  opening: string
}

/** An admitted request, ready for a node. */
export interface Generation {
  /** `/rpc/chat-completions`, `/rpc/completions`, `/rpc/responses` or `/rpc/embeddings`. */
  path: string
  model: ModelName
  domain: string
  /** Whether its sampled text is sorted into a domain by its content, because neither request nor key names one. */
  discover?: boolean
  sample: boolean
  priority: Priority
  /** The estimated number of tokens of all prompts. */
  promptTokens: number
  /** The maximum tokens of each choice; null if the client sets no bound. */
  maxTokens: number | null
  /** The field that bounds the output if the client sets no bound. */
  boundField?: 'max_tokens' | 'max_output_tokens'
  /** The number of prompts, and of choices over all prompts; one of each if left out. */
  prompts?: number
  choices?: number
  /** The parsed body of the client's request. */
  request: {
    model: string
    stream?: boolean | null | undefined
    temperature?: number | null | undefined
    seed?: number | null | undefined
  }
  /** Where the node stores a streamed response in the response cache; undefined if it is not cached. */
  cacheTarget?: CacheTarget
  /** Returns the prompt as the model reads it, for its prefix keys; undefined if prefixes are not shared. */
  promptParts?: () => PromptParts
  /** The first message of the client in the conversation, or the first prompt: by it the conversation is recognized. */
  opening: string | readonly number[]
  /** Returns the new texts of the client, to be sampled with its consent; undefined if there is nothing to sample. */
  newTexts?: () => ClientText[]
}

/** Callbacks for the outcome of a generation. */
export interface ResponseListener {
  /** Receives a complete response that was not streamed and that no limit of the key made shorter. */
  complete?(response: CachedResponse): void
  /** Called at the end: the response was complete, failed, or its client left. */
  ended(how: 'whole' | 'failed' | 'left'): void
}
