import { z } from 'zod'
import { boundedArray, boundedRecord } from './bounded-collections.ts'

/** Upper bounds on what one request may ask for; the node's context length bounds it further. */
export const LIMITS = {
  bodyBytes: 1024 * 1024,
  messages: 1024,
  stopSequences: 4,
  stopBytes: 256,
  topLogprobs: 20,
  /** Of one request: `n` for each of its prompts. */
  choices: 16,
  /** Texts of one request for embeddings. */
  embeddings: 256,
  biasedTokens: 300,
  metadataPairs: 16,
  maxTokens: 1_000_000,
} as const

const EXTENSION = 'Extends the OpenAI API.'

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
  boundedArray(z.string().min(1).max(LIMITS.stopBytes)).max(LIMITS.stopSequences),
])

/** A field of the OpenAI API that this service refuses; null is as good as leaving it out. */
export function unsupported(why: string) {
  return z.null(`${why}; leave it out`).optional().describe(`Refused: ${why}.`)
}

/** Token ids and what is added to their logits. */
const logitBias = boundedRecord(
  LIMITS.biasedTokens,
  'tokens',
  z.record(
    z.string().regex(/^(0|[1-9]\d{0,6})$/),
    z.number('a number from -100 to 100 is expected').min(-100).max(100),
    {
      error: ({ code }) =>
        code === 'invalid_key' ? 'keys are token ids of this model, like "1734"' : undefined,
    },
  ),
)

/** Pairs that clients attach for themselves. */
export const metadata = boundedRecord(
  LIMITS.metadataPairs,
  'pairs',
  z.record(z.string().max(64), z.string().max(512)),
)

/** A field that is taken without effect. */
function ignored<T extends z.ZodType>(field: T) {
  return field.nullish().describe('Has no effect on the text.')
}

/** A model, or a model with the weights that shall answer. */
export const modelField = z
  .string()
  .min(1)
  .max(256)
  .describe('`model`, `model@mask-12` or `model@dense`; `GET /v1/models` lists what there is.')

/**
 * Fields of both OpenAI APIs that say nothing about the text: accepted, checked and without effect, because nothing
 * is stored and every request has the one tier that there is.
 */
export const ignoredFields = {
  user: ignored(z.string().max(512)),
  safety_identifier: ignored(z.string().max(512)),
  prompt_cache_key: ignored(z.string().max(512)),
  metadata: ignored(metadata),
  store: z.literal(false, 'answers are not stored; send false, or leave it out').nullish(),
  service_tier: z
    .enum(['auto', 'default'], "there is one tier; send 'auto' or 'default', or leave it out")
    .nullish(),
} as const

/**
 * The sampling fields that chat completions and completions share.
 *
 * `top_k`, `min_p` and `repetition_penalty` extend the OpenAI API, as vLLM and llama.cpp do.
 * Fields that we do not know are ignored; known ones are strict.
 */
export const samplingFields = {
  model: modelField,
  stream: z.boolean().nullish(),
  stream_options: z
    .object({
      include_usage: z.boolean().nullish(),
      include_obfuscation: z.literal(false, 'obfuscation is not supported; send false').nullish(),
    })
    .nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().gt(0).max(1).nullish(),
  top_k: z.int().min(0).max(1_000_000).nullish().describe(EXTENSION),
  min_p: z.number().min(0).max(1).nullish().describe(EXTENSION),
  presence_penalty: z.number().min(-2).max(2).nullish(),
  frequency_penalty: z.number().min(-2).max(2).nullish(),
  // Smaller ones leave no finite logit.
  repetition_penalty: z.number().min(0.01).max(10).nullish().describe(EXTENSION),
  seed: z.int().nullish(),
  stop: stop.nullish(),
  max_tokens: z.int().min(1).max(LIMITS.maxTokens).nullish(),
  logit_bias: logitBias.nullish().describe('Token ids, and what is added to their logits.'),
  n: z.int().min(1).max(LIMITS.choices).nullish().describe('Choices; the prompt is counted once.'),
} as const

/** Refuses `stream_options` of a request that is not streamed, as OpenAI does. */
export function checkStreamOptions(
  request: { stream?: boolean | null | undefined; stream_options?: object | null | undefined },
  context: z.core.$RefinementCtx,
): void {
  if (request.stream_options == null || request.stream) return
  context.addIssue({
    code: 'custom',
    path: ['stream_options'],
    message: "it needs 'stream': true",
  })
}

/** Token counts of one answer. */
export const usage = z.object({
  prompt_tokens: z.int(),
  completion_tokens: z.int(),
  total_tokens: z.int(),
  prompt_tokens_details: z.object({
    cached_tokens: z
      .int()
      .describe(
        'Of the prompt, what earlier requests of the same tenant had computed; 0 on the ONNX backend.',
      ),
  }),
})
export type Usage = z.output<typeof usage>

/** What a chunk of a stream says of usage. */
export const chunkUsage = usage
  .nullish()
  .describe(
    'With `stream_options.include_usage`: null, and in the last chunk, which has no choices, the usage.',
  )

/** What answers and their chunks begin with. */
export const responseFields = {
  id: z.string(),
  created: z.int().describe('Seconds since the epoch.'),
  model: z.string(),
  system_fingerprint: z
    .string()
    .describe('`copal-<model>-m<version>`: the weights that made all of the answer; 0 is dense.'),
} as const
