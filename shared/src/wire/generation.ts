import { z } from 'zod'

/** Upper bounds on what one request may ask for; the node's context length bounds it further. */
export const LIMITS = {
  bodyBytes: 1024 * 1024,
  messages: 1024,
  stopSequences: 4,
  stopBytes: 256,
  topLogprobs: 20,
  maxTokens: 1_000_000,
} as const

/** Domain names: lower-case letters, digits and inner `-`, `_`, `.`; at most 64 characters. */
export const domainName = z
  .string()
  .max(64, 'a domain name has at most 64 characters')
  .regex(
    /^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$/,
    "a domain name is lower-case letters, digits and inner '-', '_' or '.', like 'legal' or 'support.eu'",
  )

const stop = z.union([
  z.string().min(1).max(LIMITS.stopBytes),
  z.array(z.string().min(1).max(LIMITS.stopBytes)).max(LIMITS.stopSequences),
])

/**
 * The sampling fields that chat completions and completions share.
 *
 * `top_k`, `min_p` and `repetition_penalty` extend the OpenAI API, as vLLM and llama.cpp do.
 * Fields that we do not know are ignored; known ones are strict.
 */
export const samplingFields = {
  model: z.string().min(1).max(256),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(0).max(1_000_000).nullish(),
  min_p: z.number().min(0).max(1).nullish(),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  repetition_penalty: z.number().gt(0).max(10).nullish(),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  max_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
  user: z.string().max(512).nullish(),
  n: z.literal(1, "only 'n': 1 is supported").nullish(),
} as const

/** Token counts of one answer. */
export interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
}
